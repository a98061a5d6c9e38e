"""The queue's folder: all that a queue is. Machines that share it share the queue.

    added/<time>-<random>.jsonl    what was queued: a run a line, a file for each `queue add`
    leases/<run>.<n>               who is at a run, the n-th time: results/leases.py
    tries/<run>.<n>                that the n-th holder's try failed, and why
    over/<run>.done                that a run is over: or diverged, failed, cancelled
    handles/<executor>-<...>.json  what executors know runs by
    logs/<run>.<n>.txt             what the n-th try printed
    code/<commit>/                 the code: benchmarks/queue/frozen.py
    runs/<commit>/                 folders of the runs, as `runs` lists them

Every file is there whole or not at all, and is written once, but for the count in a lease.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec

from benchmarks.errors import RunError
from benchmarks.queue.queued import SCHEMA, QueuedRun
from results.errors import RegistryError
from results.files import read_whole, write_atomically, writing
from results.leases import BEAT, Lease, Watch, holders, number_of, take

End = Literal["done", "diverged", "failed", "cancelled"]
ENDS: tuple[End, ...] = get_args(End)  # of several, the first one counts
AGAIN: tuple[End, ...] = ("failed", "cancelled")  # after which a run may be queued once more


# What comes of a file that is damaged, or is none: a pipe, a folder.
_UNREADABLE = OSError, ValueError, RecursionError, RegistryError, msgspec.MsgspecError


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended: with which record, or why there is none; on what kind of machine."""

    end: End
    record: str = ""
    reason: str = ""
    where: str = ""


class FailedTry(msgspec.Struct, frozen=True, kw_only=True):
    """A try that ended without a record. epoch: the last one that was stored by then."""

    number: int
    exit_code: int
    epoch: int
    reason: str
    where: str


class QueueFolder:
    """A queue, by its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.leases = self.path / "leases"
        self._added: dict[str, list[QueuedRun]] = {}

    def code_of(self, commit: str) -> Path:
        return self.path / "code" / commit

    def runs_of(self, commit: str) -> Path:
        """The folder of runs of a commit's code."""
        return self.path / "runs" / commit[:12]

    def log_of(self, name: str, number: int) -> Path:
        return self.path / "logs" / f"{name}.{number}.txt"

    def logs_of(self, name: str) -> list[Path]:
        """What the tries of a run printed, oldest first."""
        logs = [path for path in (self.path / "logs").glob(f"{name}.*.txt") if path.is_file()]
        numbered = {number: path for path in logs if (number := _number_in(path.stem)) is not None}
        return [numbered[number] for number in sorted(numbered)]

    def check(self) -> None:
        """Raises RunError if nothing was ever queued here."""
        if not (self.path / "added").is_dir():
            raise RunError(f"{self.path} is no queue: `python cli.py queue add ID` makes one, `--queue DIR` names it")

    # -- what is wanted ------------------------------------------------------------------------------------------------

    def add(self, runs: Sequence[QueuedRun]) -> None:
        """Queue runs, all or none; one that has failed or was cancelled gets its tries anew.

        Raises:
            RegistryFileError: the folder cannot be written to.
        """
        for folder in ("added", "leases", "tries", "over", "handles", "logs", "runs"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        lines = b"".join(msgspec.json.encode(run) + b"\n" for run in runs)
        write_atomically(self.path / "added" / f"{_new_name()}.jsonl", lines)
        over = self.over()
        again = [run.name for run in runs if over.get(run.name) in AGAIN]
        for name in again:
            for path in (self.path / "tries").glob(f"{name}.*"):
                path.unlink(missing_ok=True)
            for end in AGAIN:
                self.end_path(name, end).unlink(missing_ok=True)

    def runs(self) -> dict[str, QueuedRun]:
        """All that was ever queued, in order, by name.

        Raises:
            RunError: a file is damaged, or of a newer version.
        """
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.path / "added"):
                if name.endswith(".jsonl") and not name.startswith(".") and name not in self._added:
                    self._added[name] = _read_runs(self.path / "added" / name)
        return {run.name: run for name in sorted(self._added) for run in self._added[name]}

    def over(self) -> dict[str, End]:
        """How those ended that are over."""
        found: dict[str, End] = {}
        with contextlib.suppress(FileNotFoundError):
            for file in os.listdir(self.path / "over"):
                name, _, end = file.rpartition(".")
                if end in ENDS and (name not in found or ENDS.index(end) < ENDS.index(found[name])):
                    found[name] = end  # type: ignore[assignment]
        return found

    # -- one run -------------------------------------------------------------------------------------------------------

    def end_of(self, name: str) -> End | None:
        """How a run ended; None if it is not over."""
        return next((end for end in ENDS if self.end_path(name, end).exists()), None)

    def read_over(self, name: str) -> Over | None:
        """How a run ended, with what is known of it."""
        end = self.end_of(name)
        if end is None:
            return None
        with contextlib.suppress(*_UNREADABLE):
            return msgspec.json.decode(read_whole(self.end_path(name, end)), type=Over)
        return Over(end=end, reason="what was written down of it cannot be read")

    def write_over(self, name: str, over: Over) -> None:
        """Write down that a run is over."""
        write_atomically(self.end_path(name, over.end), msgspec.json.encode(over))

    def cancel(self, names: Iterable[str]) -> None:
        """Write down of many runs that they are cancelled, those that are at work included."""
        text = msgspec.json.encode(Over(end="cancelled"))
        for name in names:  # without fsync: after a crash of the machine it is asked for again
            with writing(path := self.end_path(name, "cancelled")):
                path.write_bytes(text)

    def end_path(self, name: str, end: End) -> Path:
        """The file that is there once a run has ended so."""
        return self.path / "over" / f"{name}.{end}"

    def failed_tries(self, name: str) -> list[FailedTry]:
        """The tries of a run that failed, oldest first."""
        found = []
        for path in (self.path / "tries").glob(f"{name}.*"):
            if _number_in(path.name) is not None:
                with contextlib.suppress(*_UNREADABLE):
                    found.append(msgspec.json.decode(read_whole(path), type=FailedTry))
        return sorted(found, key=lambda one: one.number)

    def write_failed_try(self, name: str, failed: FailedTry) -> None:
        """Write down that a try failed."""
        write_atomically(self.path / "tries" / f"{name}.{failed.number}", msgspec.json.encode(failed))

    # -- leases --------------------------------------------------------------------------------------------------------

    def claim(
        self,
        wanted: Callable[[QueuedRun], bool],
        watch: Watch,
        where: str,
        beat: float = BEAT,
    ) -> tuple[QueuedRun, Lease] | None:
        """The first run that is wanted, not over and in nobody's hands, and its lease; None if there is none now.

        Raises:
            OSError: the folder cannot be written to.
        """
        over, numbers = self.over(), holders(self.leases)
        for run in self.runs().values():
            if run.name in over or not wanted(run):
                continue
            number = numbers.get(run.name, 0)
            if number and not watch.is_open(self.leases / f"{run.name}.{number}"):
                continue
            lease = take(self.leases, run.name, number, where, beat)
            if lease is None:
                continue
            if self.end_of(run.name) is None:  # it may have ended since the first look
                return run, lease
            lease.give_back()
        return None

    # -- executors -----------------------------------------------------------------------------------------------------

    def keep_handles(self, executor: str, handles: Mapping[str, str]) -> None:
        """Keep what an executor knows runs by."""
        if not handles:
            return
        write_atomically(self.path / "handles" / f"{executor}-{_new_name()}.json", msgspec.json.encode(handles))

    def handles(self, executor: str, names: Iterable[str]) -> dict[str, str]:
        """The latest handle of each of these runs that has one; what cannot be read holds none."""
        found: dict[str, str] = {}
        for path in sorted((self.path / "handles").glob(f"{executor}-*.json")):
            with contextlib.suppress(*_UNREADABLE):
                found |= msgspec.json.decode(read_whole(path), type=dict[str, str])
        return {name: found[name] for name in names if name in found}


def _new_name() -> str:
    """Of a file that nobody else makes; names are in the order of their times, to the microsecond."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def _number_in(name: str) -> int | None:
    """The number that a file's name ends with, after a dot."""
    return number_of(name.rpartition(".")[2])


def _read_runs(path: Path) -> list[QueuedRun]:
    """Raises RunError naming the file."""
    try:
        lines = read_whole(path).splitlines()
        if any(msgspec.json.decode(line, type=_Schema).schema > SCHEMA for line in lines):
            raise RunError(f"{path}: is of a newer version: work on this queue with the checkout that wrote it")
        return [msgspec.json.decode(line, type=QueuedRun) for line in lines]
    except _UNREADABLE as error:
        why = str(error).removeprefix(f"{path}: ")
        raise RunError(f"{path}: cannot be read ({why}): restore it, or remove it and add its runs again") from None


class _Schema(msgspec.Struct):
    schema: int
