"""The executor for Ray: a run is a task with retries (requirements-ray.txt).

Tasks end with the process that has submitted them. So an actor submits them that stays in the cluster when `queue add`
has ended, one a queue: `benchmarks.queue.ray_tasks`. All that it knows is in the queue's folder: when its node is lost,
Ray starts it again elsewhere, and it submits what is not over. A run whose task is there twice waits for its lease.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.errors import RunError
from benchmarks.queue import child, ray_tasks
from benchmarks.queue.cluster import Settings, job_command, options_of, read_settings, tag_of, threads_of
from benchmarks.queue.executor import Seen
from benchmarks.queue.folder import ENDS, QueueFolder
from benchmarks.queue.queued import QueuedRun
from results.files import write_atomically

_NAMESPACE = "bnn-queue"


class RaySettings(Settings, frozen=True, kw_only=True):
    """What a site wants of Ray.

    Attributes:
        address: of the cluster, as `ray.init` has it; "auto": $RAY_ADDRESS, or the one that this machine is of.
        resources: what a node must have, beside cores and a GPU, and how much of it a run takes: `ray start
            --resources='{"bnn": 4}'` and {bnn: 1} keep runs to the nodes that are made for them, four on each.
        pause: seconds between two tries of a run that fails.
    """

    address: str = "auto"
    resources: dict[str, float] = {}  # noqa: RUF012 - msgspec copies it
    pause: float = ray_tasks.PAUSE


class Ray:
    """Queued runs as tasks of Ray. A handle is the name of the actor that has the task."""

    name = "ray"

    def __init__(self, queue: QueueFolder) -> None:
        self._queue, self._folder = queue, queue.path / "ray"
        self._actor_name = f"queue-{tag_of(queue)}"

    def submit(self, runs: Sequence[QueuedRun]) -> dict[str, str]:
        settings = read_settings(self._queue, self.name, RaySettings)
        with self._connected(settings) as ray:
            for run in runs:
                write_atomically(self._folder / f"{run.name}.json", msgspec.json.encode(self._task(run, settings)))
            for module in (child, ray_tasks):
                ray.cloudpickle.register_pickle_by_value(module)
            actor = ray.remote(ray_tasks.Dispatcher).options(
                name=self._actor_name, get_if_exists=True, lifetime="detached", num_cpus=0, max_restarts=-1,
                max_task_retries=-1,
            ).remote(str(self._folder))  # fmt: skip
            ray.get(actor.submit.remote([run.name for run in runs]))
        return {run.name: self._actor_name for run in runs}

    def poll(self, handles: Mapping[str, str]) -> dict[str, Seen]:
        left: list[str] = []
        try:
            with self._connected(read_settings(self._queue, self.name, RaySettings)) as ray:
                if (actor := self._actor(ray)) is not None:
                    left = ray.get(actor.left.remote())
        except RunError as error:  # what the queue's folder says is shown nevertheless
            return dict.fromkeys(handles, Seen("waiting", f"{error}".partition("; ")[0]))
        there = set(left)
        return {name: Seen("waiting" if name in there else "gone") for name in handles}

    def cancel(self, handles: Mapping[str, str]) -> None:
        if not any(handles.values()):
            return
        with self._connected(read_settings(self._queue, self.name, RaySettings)) as ray:
            if (actor := self._actor(ray)) is not None:
                ray.get(actor.cancel.remote(list(handles)))

    def logs(self, name: str, handle: str) -> list[Path]:
        return [path for path in [self._log(name)] if path.is_file()]

    def _task(self, run: QueuedRun, settings: RaySettings) -> dict[str, Any]:
        """All that a run's task needs. command: after the Python of its node; over: files of which one says so."""
        threads = threads_of(run, settings)
        return {
            "command": job_command(self._queue, run.name, options_of(settings, threads))[1:],
            "log": str(self._log(run.name)),
            "over": [str(self._queue.end_path(run.name, end)) for end in ENDS],
            "pause": settings.pause,
            "num_cpus": threads,
            "num_gpus": 1 if run.device == "gpu" else 0,
            "resources": settings.resources,
        }

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.txt"

    def _actor(self, ray: Any) -> Any:
        """The queue's actor; None if it is not there."""
        try:
            return ray.get_actor(self._actor_name)
        except ValueError:
            return None

    @contextlib.contextmanager
    def _connected(self, settings: RaySettings) -> Iterator[Any]:
        """Raises RunError if there is no Ray, or no cluster."""
        try:
            import ray
        except ImportError:
            raise RunError("executor ray needs Ray: `python -m pip install -r requirements-ray.txt`") from None
        address = settings.address if settings.address != "auto" else os.environ.get("RAY_ADDRESS", "auto")
        try:
            if found := re.fullmatch(r"([^/:]+):(\d+)", address):  # Ray itself would ask for minutes
                socket.create_connection((found[1], int(found[2])), timeout=10).close()
            ray.init(address, namespace=_NAMESPACE, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise RunError(
                f"no Ray cluster: {said[:200]}; `ray start --head` begins one here, {self._queue.path}/ray.yaml names"
                " another (`address: ...`)"
            ) from None
        try:
            yield ray
        except ray.exceptions.RayError as error:
            raise RunError(f"Ray says: {str(error).splitlines()[0]}; `ray status` says how the cluster is") from None
        finally:
            ray.shutdown()
