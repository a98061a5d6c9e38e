"""Which code a run was made with."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]
# What cannot change a number: a run that is recorded while the README is edited is not made with other code.
_NOT_CODE = (":(exclude)results/runs", ":(exclude)results/table.csv", ":(exclude)docs", ":(exclude)*.md")


@dataclass(frozen=True)
class Code:
    """A commit, and what differed from it: `dirty` if any code did, then with the SHA-256 of the difference."""

    commit: str | None
    dirty: bool
    diff_sha256: str | None


def code_version() -> Code:
    """The code of this checkout; commit None, dirty False if it is no git checkout."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return Code(None, False, None)
    difference = _git("diff", "HEAD", "--", ".", *_NOT_CODE) or b""
    dirty = bool(difference)
    return Code(commit.decode().strip(), dirty, hashlib.sha256(difference).hexdigest() if dirty else None)


def _git(*arguments: str) -> bytes | None:
    try:
        return subprocess.run(
            ["git", "-C", str(_REPOSITORY), *arguments], capture_output=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
