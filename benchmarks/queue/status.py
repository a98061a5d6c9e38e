"""Where the runs of a queue stand, and how long the rest takes."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from benchmarks.queue.executor import Executor, Seen
from benchmarks.queue.folder import ENDS, QueueFolder
from benchmarks.queue.queued import QueuedRun
from benchmarks.run.listing import RECENT, manifest_of, stored_of
from results.leases import MISSED, holders
from results.leases import read as read_lease

SCHEMA = 1  # of what `queue status --json` prints
State = Literal["waiting", "running", "silent", "done", "diverged", "failed", "cancelled", "gone"]
STATES: tuple[State, ...] = get_args(State)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands.

    state: "waiting"; "running"; "silent": whoever is at it has not been heard of for so long that the next worker takes
    it over; "done"; "diverged"; "failed": twice; "cancelled"; "gone": its executor does not know it any more, and it is
    not over. where: the kind of machine. epoch: the last one that is stored. seconds_left: least and most; None: not
    known.
    """

    name: str
    group: str
    benchmark: str
    seed: int
    state: State
    where: str = ""
    reason: str = ""
    tries: int = 0
    epoch: int = 0
    epochs: int | None = None
    seconds_left: tuple[float, float] | None = None


class GroupStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Where a group stands. seconds_left: of all its runs, one after the other; None where a run's is not known."""

    group: str
    benchmark: str
    engine: str
    device: str
    precision: str
    commit: str
    registered: bool
    counts: dict[str, int]
    seconds_left: tuple[float, float] | None


class _Stored(NamedTuple):
    """Of a run that was begun: epochs that are stored, all that there will be, the median time of the last ones."""

    epoch: int
    epochs: int
    epoch_seconds: float | None


def standings(
    queue: QueueFolder, runs: Sequence[QueuedRun], open_executor: Callable[[str], Executor]
) -> list[Standing]:
    """Where runs stand, in their order."""
    over, numbers, time = queue.over(), holders(queue.leases), _time_of_folder(queue.leases)
    seen = _polled(queue, [run for run in runs if run.name not in over], open_executor)
    begun, found = _Begun(queue), []
    for run in runs:
        number, reason = numbers.get(run.name, 0), ""
        state: State | None = over.get(run.name)
        where, stored = "", None
        if state is None:
            state, where = _present(queue.leases / f"{run.name}.{number}", seen.get(run.name, Seen("gone")), time)
            stored = begun.stored(run) if number else None
        elif state == "failed":
            reason = getattr(queue.read_over(run.name), "reason", "")
        if state == "waiting" and number:
            reason = next((one.reason for one in reversed(queue.failed_tries(run.name))), "")
        is_over = run.name in over
        found.append(Standing(
            name=run.name, group=run.group, benchmark=run.benchmark, seed=run.seed, state=state, where=where,
            reason=reason, tries=number, epoch=stored.epoch if stored else 0, epochs=stored.epochs if stored else None,
            seconds_left=None if is_over else begun.seconds_left(run, stored),
        ))  # fmt: skip
    return found


def group_standings(runs: Sequence[QueuedRun], found: Sequence[Standing]) -> list[GroupStanding]:
    """Where groups stand, in the order of their first runs; `found` are the standings of these runs."""
    groups: dict[str, list[tuple[QueuedRun, Standing]]] = {}
    for pair in zip(runs, found, strict=True):
        groups.setdefault(pair[0].group, []).append(pair)
    return [_group(pairs) for pairs in groups.values()]


def _group(pairs: Sequence[tuple[QueuedRun, Standing]]) -> GroupStanding:
    run = pairs[0][0]
    return GroupStanding(
        group=run.group, benchmark=run.benchmark, engine=run.engine, device=run.device, precision=run.precision,
        commit=run.commit, registered=bool(run.registered), counts=dict(Counter(one.state for _, one in pairs)),
        seconds_left=total_left([one for _, one in pairs]),
    )  # fmt: skip


def total_left(found: Iterable[Standing]) -> tuple[float, float] | None:
    """Of runs one after the other; None where one's is not known."""
    left = [one.seconds_left for one in found if one.state not in ENDS]
    if None in left:
        return None
    return sum(one[0] for one in left if one), sum(one[1] for one in left if one)


def _polled(queue: QueueFolder, runs: Sequence[QueuedRun], open_executor: Callable[[str], Executor]) -> dict[str, Seen]:
    """What executors know of runs."""
    found: dict[str, Seen] = {}
    for name in dict.fromkeys(run.executor for run in runs):
        names = [run.name for run in runs if run.executor == name]
        executor = open_executor(name)
        found |= executor.poll(dict.fromkeys(names, "") | queue.handles(name, names))
    return found


def _present(lease: Path, seen: Seen, time: float | None) -> tuple[State, str]:
    """State and place of a run that is not over; `lease` is its last one."""
    if not lease.exists():
        return seen.state, seen.where
    held = read_lease(lease)
    if held.is_free:
        return ("waiting" if seen.state == "running" else seen.state), seen.where
    silent = time is not None and time - lease.stat().st_mtime > held.beat * MISSED
    return ("silent" if silent else "running"), held.where


def _time_of_folder(folder: Path) -> float | None:
    """The time that the folder's own file system has now: the one that dates its files, whoever writes them."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime
    return None


class _Begun:
    """The folders of runs of a queue, each looked at once."""

    def __init__(self, queue: QueueFolder) -> None:
        self._queue = queue
        self._listed: dict[tuple[str, str], dict[int, list[str]]] = {}
        self._speeds: dict[str, float | None] = {}

    def stored(self, run: QueuedRun) -> _Stored | None:
        """How far a run is; None if it was not begun."""
        names = self._names(run).get(run.seed, [])
        found = [one for name in names if (one := self._read(run, name, run.seed)) is not None]
        return max(found, default=None, key=lambda one: one.epoch)

    def seconds_left(self, run: QueuedRun, stored: _Stored | None) -> tuple[float, float] | None:
        """By the run's last epochs, else by those of another of its group, else as it was queued."""
        if stored is not None and stored.epoch_seconds is not None:
            left = (stored.epochs - stored.epoch) * stored.epoch_seconds
            return left, left
        if run.group not in self._speeds:
            newest_first = sorted((name for names in self._names(run).values() for name in names), reverse=True)
            known = (self._read(run, name, None) for name in newest_first)
            self._speeds[run.group] = next(
                (one.epochs * one.epoch_seconds for one in known if one is not None and one.epoch_seconds), None
            )
        whole = self._speeds[run.group]
        return run.seconds if whole is None else (whole, whole)

    def _names(self, run: QueuedRun) -> dict[int, list[str]]:
        """The folders of runs of the same commit and benchmark, by seed."""
        key = run.commit, run.benchmark
        if key not in self._listed:
            self._listed[key] = defaultdict(list)
            with contextlib.suppress(FileNotFoundError):
                for name in sorted(os.listdir(self._queue.runs_of(run.commit) / run.benchmark)):
                    if found := re.match(r".*-s(\d+)", name):
                        self._listed[key][int(found[1])].append(name)
        return self._listed[key]

    def _read(self, run: QueuedRun, name: str, seed: int | None) -> _Stored | None:
        """What a folder has of a run of the same group, with this seed or any."""
        folder = self._queue.runs_of(run.commit) / run.benchmark / name
        with contextlib.suppress(Exception):  # what is damaged, `resume` refuses
            manifest = manifest_of(folder)
            if seed not in (None, manifest.seed) or not run.fits(manifest):
                return None
            stored = stored_of(folder)
            seconds = stored.curve.seconds if stored else []
            recent = statistics.median(seconds[-RECENT:]) if seconds else None
            return _Stored(len(seconds), manifest.settings["train"]["epochs"], recent)
        return None
