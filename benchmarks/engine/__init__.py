"""What every engine must do, and how one is chosen and opened: the only door to a framework."""

from __future__ import annotations

from benchmarks.engine.choice import (
    AUTO,
    COMPILE,
    DEVICES,
    ENGINES,
    PACKAGES,
    PRECISIONS,
    Choice,
    check_engine,
    choose,
    installed_engines,
)
from benchmarks.engine.contract import Engine, epoch_batches
from benchmarks.engine.opening import compile_option, open_engine

__all__ = [
    "AUTO", "COMPILE", "DEVICES", "ENGINES", "PACKAGES", "PRECISIONS", "Choice", "Engine", "check_engine", "choose",
    "compile_option", "epoch_batches", "installed_engines", "open_engine",
]  # fmt: skip
