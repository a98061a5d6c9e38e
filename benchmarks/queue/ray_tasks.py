"""What runs inside Ray: tasks, each the command of one queued run, and the actor that hands them out.

Ray gets this module by value, so that what it has taken does not change with the checkout. So it needs Ray and the
standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.queue.child import dying_with

PAUSE = 30.0  # seconds between two tries of a run that fails at once, for what is wrong with a node may take a while
_INTERRUPTED = 130


class AgainError(Exception):
    """The run is not over: Ray is to start its task again."""


def carry_out(task: dict[str, Any]) -> None:
    """Carry out a run's command; see `benchmarks.queue.ray_cluster` for what a task has.

    Raises:
        AgainError: it has ended, and the run is not over.
    """
    if is_over(task):
        return
    with open(task["log"], "ab") as log:
        process = subprocess.Popen(
            [sys.executable, *task["command"]], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            preexec_fn=dying_with(os.getpid()),  # noqa: PLW1509 - system calls alone
        )  # fmt: skip
    try:
        code = process.wait()
    except BaseException:  # the task was cancelled
        process.terminate()
        process.wait()
        raise
    if code == 0 or is_over(task):
        return
    if code != _INTERRUPTED:
        time.sleep(task["pause"])
    raise AgainError(f"exit code {code}: {task['log']}")


def is_over(task: dict[str, Any]) -> bool:
    """Whether the queue's folder says that the run is."""
    return any(os.path.exists(path) for path in task["over"])


class Dispatcher:
    """An actor that submits tasks, for they end with their submitter; started anew, it submits what is not over."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._tasks: dict[str, Any] = {}
        self.submit([path.stem for path in sorted(self._folder.glob("[!.]*.json"))])

    def submit(self, names: Sequence[str]) -> None:
        """Submit the tasks of these runs, which lie in the folder, unless they are submitted, or over."""
        import ray

        remote = ray.remote(carry_out)
        here = self.left()
        for name in names:
            task = json.loads((self._folder / f"{name}.json").read_text())
            if name not in here and not is_over(task):
                asked = {key: task[key] for key in ("num_cpus", "num_gpus", "resources")}
                self._tasks[name] = remote.options(
                    **asked, name=name, max_retries=-1, retry_exceptions=[AgainError]
                ).remote(task)

    def left(self) -> list[str]:
        """The runs whose tasks have not ended."""
        import ray

        if self._tasks:
            ended, _ = ray.wait(list(self._tasks.values()), num_returns=len(self._tasks), timeout=0)
            self._tasks = {name: task for name, task in self._tasks.items() if task not in set(ended)}
        return list(self._tasks)

    def cancel(self, names: Sequence[str]) -> None:
        """End the tasks of these runs, or have them not begin."""
        import ray

        for name in names:
            if name in self._tasks:
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.cancel(self._tasks[name])
