"""How many examples hypothesis tries where the profile's hundred are too many or too few."""

from __future__ import annotations

from typing import Any

from hypothesis import settings


def examples(count: int, **others: Any) -> settings:
    """A test's settings: so many examples, and at night, when the profile has more, more by the same factor."""
    return settings(max_examples=count * settings().max_examples // 100, **others)
