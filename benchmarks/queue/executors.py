"""The executors that there are; each is imported when it is asked for."""

from __future__ import annotations

import importlib

from benchmarks.errors import RunError
from benchmarks.queue.executor import Executor
from benchmarks.queue.folder import QueueFolder

# Name -> module and class.
EXECUTORS = {
    "local": ("benchmarks.queue.local", "Local"),
    "slurm": ("benchmarks.queue.slurm", "Slurm"),
    "ray": ("benchmarks.queue.ray_cluster", "Ray"),
}


def open_executor(name: str, queue: QueueFolder) -> Executor:
    """The executor of this name.

    Raises:
        RunError: there is none of this name, or what it needs is not here.
    """
    if name not in EXECUTORS:
        raise RunError(f"no executor {name!r}, expected {', '.join(EXECUTORS)}: another version has queued a run so")
    module, cls = EXECUTORS[name]
    executor: Executor = getattr(importlib.import_module(module), cls)(queue)
    return executor
