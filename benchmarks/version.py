"""The version of this program, as pyproject.toml has it."""

from __future__ import annotations

import functools
import tomllib

from benchmarks.paths import PYPROJECT


@functools.cache
def harness_version() -> str:
    """The version, for example "0.2.0"."""
    version: str = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]
    return version
