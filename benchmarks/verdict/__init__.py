"""What "reproduced" means: verdicts, and what of a record follows from the catalog."""

from __future__ import annotations

from benchmarks.verdict.rules import (
    RULE,
    Verdict,
    Word,
    check_record,
    judge_run,
    target_of,
)

__all__ = ["RULE", "Verdict", "Word", "check_record", "judge_run", "target_of"]
