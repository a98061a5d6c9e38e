"""The one way in which records and what stands beside them write a time: UTC, as "2024-05-01T12:00:00Z"."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def now() -> str:
    """The time of this machine's clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_time(text: str) -> bool:
    """Whether a text is written so; it may still be no day of any calendar."""
    return _TIME.fullmatch(text) is not None
