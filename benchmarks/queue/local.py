"""Runs on this machine, and on every other one that shares the queue's folder: workers that take what is waiting.

A worker has places: so many runs at a time, to which it gives out threads and GPUs. Nothing tells workers of each
other but the leases in the folder.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from benchmarks.engine.choice import installed_engines
from benchmarks.errors import RunError
from benchmarks.machine.facts import cpu_model, nvidia_gpus, usable_cores
from benchmarks.machine.mps import overlapping
from benchmarks.queue.attempt import Attempt, Place, attempt, is_full
from benchmarks.queue.executor import Seen
from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.queued import QueuedRun
from results.errors import RegistryFileError
from results.leases import BEAT, MISSED, Lease, Watch
from results.record.utc import now

VISIBLE = "CUDA_VISIBLE_DEVICES"
GO_ON = "python cli.py queue work"
PAUSE = 5.0  # seconds, at most, between two looks for something to do
Report = Callable[[str], None]


class Local:
    """The executor that does nothing by itself: `queue work`, on whichever machine, takes the runs from the folder."""

    name = "local"

    def __init__(self, queue: QueueFolder) -> None:
        pass  # what it knows, the leases say

    def submit(self, runs: Sequence[QueuedRun]) -> dict[str, str]:
        return {}

    def poll(self, handles: Mapping[str, str]) -> dict[str, Seen]:
        return dict.fromkeys(handles, Seen("waiting"))

    def cancel(self, handles: Mapping[str, str]) -> None:
        """Nothing: workers see it in the folder."""

    def logs(self, name: str, handle: str) -> list[Path]:
        return []


class Wanted(NamedTuple):
    """What a worker is to do. only: one run, by its name; threads: of each run, None: its share of the cores.

    stay: wait for what is queued later; beat: seconds between the counts of its leases.
    """

    data_root: Path
    at_once: int
    threads: int | None = None
    only: str | None = None
    stay: bool = False
    beat: float = BEAT


@contextlib.contextmanager
def places(wanted: Wanted, report: Report) -> Iterator[list[Place]]:
    """The places of this machine; its GPUs are given out in turn, and shared by the service if there are fewer."""
    gpus, threads = nvidia_gpus(), wanted.threads or max(1, usable_cores() // wanted.at_once)
    where = gpus[0].name if gpus else cpu_model()
    visible = _visible(len(gpus))
    with overlapping("gpu" if gpus and wanted.at_once > len(visible) else "cpu") as sharing:
        if sharing.complaint is not None:
            report(f"note: the runs take turns on a GPU: {sharing.complaint} (docs/gpu.md)")
        yield [
            Place(where, wanted.data_root, threads, {**sharing.environment, **_gpu(place, visible)})
            for place in range(wanted.at_once)
        ]


def _visible(gpus: int) -> list[str]:
    """What CUDA calls the GPUs that this process may use: those that the user has named, else all."""
    named = os.environ.get(VISIBLE)
    return list(map(str, range(gpus))) if named is None else [name for name in named.split(",") if name]


def _gpu(place: int, visible: Sequence[str]) -> dict[str, str]:
    return {VISIBLE: visible[place % len(visible)]} if len(visible) > 1 else {}


class Worker:
    """Takes runs from a queue and carries them out until all are over."""

    def __init__(self, queue: QueueFolder, wanted: Wanted, report: Report) -> None:
        self._queue, self._wanted, self._report = queue, wanted, report
        self._watch, self._lock, self._stopping = Watch(wanted.beat), threading.Lock(), threading.Event()
        self._later = dict[str, float]()  # runs for whose next try others go first: not before, by this process's clock
        self._not_here = dict[str, str]()  # and those that are not for this machine, with the reason
        self._said = set[tuple[str, str]]()
        self._has_gpu = bool(nvidia_gpus())
        self._engines = set(installed_engines())

    def work(self, at: Sequence[Place]) -> list[Attempt]:
        """Carry out what is waiting; the tries that ended. KeyboardInterrupt interrupts the runs, and is raised again.

        Raises:
            RunError: the disk is full, or the code of a run is not there.
            OSError, RegistryFileError: the queue's folder cannot be read or written.
        """
        with ThreadPoolExecutor(len(at)) as pool:
            try:
                ended = [pool.submit(self._carry_on, place) for place in at]
                for one in as_completed(ended):
                    one.result()  # raises what a place could not go on with: the others end, too
                return [attempt for one in ended for attempt in one.result()]
            finally:
                self._stopping.set()

    def _carry_on(self, place: Place) -> list[Attempt]:
        ended = list[Attempt]()
        while not self._stopping.is_set():
            with self._lock:  # a place at a time looks, with what the others have learned
                taken = self._claim(place)
                is_over = taken is None and not self._is_anything_left()
            if is_over:
                break
            if taken is not None:
                ended.append(self._carry_out(*taken, place))
                if self._wanted.only is not None:
                    break
            else:
                self._stopping.wait(min(self._wanted.beat, PAUSE))
        return ended

    def _claim(self, place: Place) -> tuple[QueuedRun, Lease] | None:
        """A run that is waiting: one that was not tried here before others."""
        clock, later = time.monotonic(), self._later
        return self._take(place, lambda run: run.name not in later) or self._take(
            place, lambda run: later.get(run.name, clock) <= clock
        )

    def _take(self, place: Place, is_wanted: Callable[[QueuedRun], bool]) -> tuple[QueuedRun, Lease] | None:
        try:
            return self._queue.claim(
                lambda run: is_wanted(run) and self._fits(run), self._watch, place.where, self._wanted.beat
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunError(
                f"{self._queue.leases}: {reason}: free or change that place, then `{GO_ON}` goes on"
            ) from None

    def _fits(self, run: QueuedRun) -> bool:
        """Whether the run is for this worker; why not is said once."""
        if not self._is_for_me(run) or run.name in self._not_here:
            return False
        if run.registered > now():
            what = "a run that began before would not count: set the clocks, or wait"
            return self._say_once(run, "clock", f"registered at {run.registered}, and here it is {now()}: {what}")
        if run.device == "gpu" and not self._has_gpu:
            return self._pass_over(run, "it needs a GPU, and nvidia-smi shows none here")
        if run.engine not in self._engines:
            return self._pass_over(run, f"engine {run.engine} is not installed here")
        return True

    def _pass_over(self, run: QueuedRun, reason: str) -> bool:
        self._not_here[run.name] = reason
        return self._say_once(run, reason, f"not on this machine: {reason}")

    def _say_once(self, run: QueuedRun, kind: str, line: str) -> bool:
        """Once for a group. Always False."""
        if (run.group, kind) not in self._said:
            self._said.add((run.group, kind))
            self._report(f"{run.group}: {line}")
        return False

    def _is_anything_left(self) -> bool:
        """Whether a run that is for this worker is not over: another worker's, too, which may have to be taken over."""
        if self._wanted.stay:
            return True
        over = self._queue.over()
        left = (run for run in self._queue.runs().values() if run.name not in over and run.name not in self._not_here)
        return any(self._is_for_me(run) for run in left)

    def _is_for_me(self, run: QueuedRun) -> bool:
        only = self._wanted.only
        return run.executor == Local.name if only is None else run.name == only

    def _carry_out(self, run: QueuedRun, lease: Lease, place: Place) -> Attempt:
        """One try; the lease is given back, whatever comes of it."""
        self._report(f"{run.name}: on {place.where}, try {lease.number}")
        began = time.monotonic()
        try:
            ended = attempt(self._queue, run, lease, place, self._stopping)
        except (OSError, RegistryFileError) as error:
            if not is_full(str(error)):
                raise
            ended = Attempt("full", str(error))
        finally:
            lease.give_back()
        seconds = time.monotonic() - began
        self._report(f"{run.name}: {ended.state} after {seconds:,.1f} s{f': {ended.reason}' if ended.reason else ''}")
        if ended.state == "full":
            raise RunError(f"{run.name}: {ended.reason}: nothing is lost; free the disk, then `{GO_ON}` goes on")
        if ended.state == "elsewhere":
            self._not_here[run.name] = ended.reason
        elif ended.state in ("again", "busy", "interrupted", "lost"):
            pause = 0 if ended.state == "again" else self._wanted.beat * MISSED
            self._later[run.name] = time.monotonic() + pause
        return ended
