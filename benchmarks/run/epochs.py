"""A run's epochs so far, one by one."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

from benchmarks.run.protocol import TrainingState
from benchmarks.run.state import Checkpoint


def rows_of(progress: TrainingState) -> list[dict[str, Any]]:
    """The curve epoch by epoch."""
    return [dict(zip(progress.curve, values, strict=True)) for values in zip(*progress.curve.values(), strict=True)]


def epoch_ends(checkpoint: Checkpoint) -> list[float]:
    """About when each epoch ended, in seconds since 1970: a sitting's epochs one after another from its start."""
    ends: list[float] = []
    for sitting in checkpoint.sittings:
        seconds = checkpoint.progress.curve["seconds"][sitting.first_epoch - 1 : sitting.last_epoch]
        start = datetime.fromisoformat(sitting.started).timestamp()
        ends += itertools.islice(itertools.accumulate(seconds, initial=start), 1, None)
    return ends
