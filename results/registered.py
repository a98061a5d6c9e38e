"""Registered groups: which seeds are to be run, written down before the first of them is.

`<registry>/../registered/<benchmark>.jsonl` has one event a line, in the order in which they happened. Lines are
added, never changed. Events: a group is `registered`, once `extended`; a run of a seed is `launched`, and `stopped` if
it ended without a record: interrupted, killed, failed. That a run finished or diverged, its record says.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from results.errors import NewerSchemaError, RegistryError, RegistryFileError
from results.files import write_atomically
from results.groups import Key
from results.record.canonical import canonical_json

SCHEMA = 1
SUFFIX = ".jsonl"
FIRST_SEEDS = (1234, 1, 2, 3, 4)  # the authors' seed, then four more: nobody chooses them
MORE_SEEDS = (5, 6, 7, 8, 9)  # of the one extension
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class _Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="event"):
    """group: its number within the file, from 1. time: UTC, as "2024-05-01T12:00:00Z"."""

    group: int
    time: str
    schema: int = SCHEMA


class Registered(_Event, frozen=True, kw_only=True, tag="registered"):
    """digest, data, engine, precision: as in `results.groups.Key`; version: of the catalog's entry.

    commit: what was checked out when it was registered; None where no commit is known.
    """

    digest: str
    version: int
    data: tuple[str, ...]
    engine: str
    precision: str
    seeds: tuple[int, ...]
    commit: str | None


class Extended(_Event, frozen=True, kw_only=True, tag="extended"):
    """A group has got these seeds more."""

    seeds: tuple[int, ...]
    commit: str | None


class Launched(_Event, frozen=True, kw_only=True, tag="launched"):
    """A run of this seed begins, or goes on."""

    seed: int


class Stopped(_Event, frozen=True, kw_only=True, tag="stopped"):
    """It ended without a record; why."""

    seed: int
    reason: str


Event = Registered | Extended | Launched | Stopped


class Registration(NamedTuple):
    """A registered group. first_seeds: those of the first look; seeds: all. last_event: of each seed that has one."""

    number: int
    key: Key
    version: int
    time: str
    commit: str | None
    first_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    last_event: dict[int, Launched | Stopped]

    @property
    def is_extended(self) -> bool:
        """Whether a second look at the runs was registered."""
        return len(self.seeds) > len(self.first_seeds)


def folder_of(root: Path) -> Path:
    """The folder of the registered groups of the registry at `root`."""
    return root.parent / "registered"


def path_of(root: Path, benchmark: str) -> Path:
    """The file of a benchmark's groups."""
    return folder_of(root) / f"{benchmark}{SUFFIX}"


def read(root: Path, benchmark: str) -> list[Registration]:
    """A benchmark's groups, by number; empty if none is registered.

    Raises RegistryError naming file and line.
    """
    path = path_of(root, benchmark)
    return _registrations(benchmark, _events(path), path)


def read_all(root: Path, warn: Callable[[str], None]) -> list[Registration]:
    """All groups of a registry, by benchmark and number; `warn` is told of each file that is passed over."""
    found = []
    for path in sorted(folder_of(root).glob(f"*{SUFFIX}")):
        if not path.name.startswith("."):
            try:
                found += read(root, path.name.removesuffix(SUFFIX))
            except RegistryError as error:
                warn(f"passed over: {error}")
    return found


def register(
    root: Path, key: Key, version: int, commit: str | None, seeds: tuple[int, ...] = FIRST_SEEDS, time: str = ""
) -> Registration:
    """Write down a new group.

    Raises RegistryError if it is registered already.
    """
    return _add(root, key.benchmark, lambda known: Registered(
        group=len(known) + 1, time=time or _now(), digest=key.digest, version=version, data=key.data, engine=key.engine,
        precision=key.precision, seeds=seeds, commit=commit,
    ))  # fmt: skip


def extend(
    root: Path, group: Registration, commit: str | None, seeds: tuple[int, ...] = MORE_SEEDS, time: str = ""
) -> Registration:
    """Write down that a group is to have more seeds: once.

    Raises RegistryError if it has.
    """
    event = Extended(group=group.number, time=time or _now(), seeds=seeds, commit=commit)
    return _add(root, group.key.benchmark, lambda _: event)


def launched(root: Path, group: Registration, seed: int, time: str = "") -> Registration:
    """Write down that a run of this seed begins."""
    event = Launched(group=group.number, time=time or _now(), seed=seed)
    return _add(root, group.key.benchmark, lambda _: event)


def stopped(root: Path, group: Registration, seed: int, reason: str, time: str = "") -> Registration:
    """Write down that it ended without a record."""
    event = Stopped(group=group.number, time=time or _now(), seed=seed, reason=reason)
    return _add(root, group.key.benchmark, lambda _: event)


def problems(root: Path) -> list[tuple[Path, str, str]]:
    """(file, line, what is wrong with it) of every file of the folder; empty if there is none."""
    found, folder = [], folder_of(root)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if re.fullmatch(r"\..+\.tmp", path.name):  # what an unfinished write leaves
            continue
        if path.suffix != SUFFIX or not path.is_file() or path.is_symlink():
            found.append((path, "content", f"does not belong here, expected <benchmark>{SUFFIX}: remove it"))
            continue
        try:
            read(root, path.name.removesuffix(SUFFIX))
        except RegistryError as error:
            found.append((path, error.field, str(error).removeprefix(f"{path}: ").removeprefix(f"{error.field}: ")))
    return found


# -- the file ----------------------------------------------------------------------------------------------------------


def _add(root: Path, benchmark: str, make: Callable[[list[Registration]], Event]) -> Registration:
    """Add an event to a benchmark's file, whole or not at all; the group that it is of, as it is now."""
    path = path_of(root, benchmark)
    with _locked(path.parent):
        before = _events(path)
        event = make(_registrations(benchmark, before, path))
        now = _registrations(benchmark, [*before, event], path)  # refuses what may not follow
        lines = b"".join(map(_line, [*before, event]))
        write_atomically(path, lines)
    return now[event.group - 1]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time add to the files of a folder."""
    import fcntl  # which Windows lacks; to read needs no lock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RegistryFileError(f"{folder}: cannot be made: {error.strerror}; free or change that place") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _events(path: Path) -> list[Event]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RegistryFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    return [_event(line, f"line {number}", path) for number, line in enumerate(lines, 1)]


def _event(line: bytes, where: str, path: Path) -> Event:
    try:
        if msgspec.json.decode(line, type=_Schema).schema > SCHEMA:
            raise NewerSchemaError(f"{path}: {where}: is of a newer schema, expected {SCHEMA} at most", where)
        event: Event = msgspec.json.decode(line, type=Event)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused(path, where, f"{error}") from None
    if _line(event) != line:
        raise _refused(path, where, "is not as it was written")
    return event


def _line(event: Event) -> bytes:
    return canonical_json(msgspec.to_builtins(event)) + b"\n"


class _Schema(msgspec.Struct):
    schema: int


def _refused(path: Path, where: str, what: str) -> RegistryError:
    return RegistryError(f"{path}: {where}: {what}; `git checkout {path}` restores it", where)


def _registrations(benchmark: str, events: list[Event], path: Path) -> list[Registration]:
    """What events come to. Raises RegistryError at the first that may not be there."""
    found: list[Registration] = []
    latest = ""
    for number, event in enumerate(events, 1):
        problem = _problem(event, found, benchmark)
        if not _TIME.fullmatch(event.time) or event.time < latest:
            problem = f"time: is {event.time!r}, expected UTC, not before that of the line above"
        if problem:
            raise _refused(path, f"line {number}", problem)
        latest = event.time
        if isinstance(event, Registered):
            key, seeds = _key(event, benchmark), event.seeds
            found.append(Registration(event.group, key, event.version, event.time, event.commit, seeds, seeds, {}))
        elif isinstance(event, Extended):
            group = found[event.group - 1]
            found[event.group - 1] = group._replace(seeds=group.seeds + event.seeds)
        else:
            found[event.group - 1].last_event[event.seed] = event
    return found


def _key(event: Registered, benchmark: str) -> Key:
    return Key(benchmark, event.digest, event.data, event.engine, event.precision)


def _problem(event: Event, found: list[Registration], benchmark: str) -> str:
    """Why an event may not follow what is found so far; "" if it may."""
    if isinstance(event, Registered):
        return _problem_of_new(event, found, benchmark)
    if not 1 <= event.group <= len(found):
        return f"group: is {event.group}, which is not registered above"
    group = found[event.group - 1]
    if isinstance(event, Extended):
        if group.is_extended:
            return f"group {group.number} is extended already: there is one extension"
        return "" if _are_seeds(group.seeds + event.seeds) else "seeds: expected different whole numbers, not yet there"
    if event.seed not in group.seeds:
        return f"seed: is {event.seed}, expected one of {', '.join(map(str, group.seeds))}"
    return ""


def _problem_of_new(event: Registered, found: list[Registration], benchmark: str) -> str:
    if event.group != len(found) + 1:
        return f"group: is {event.group}, expected {len(found) + 1}"
    if _key(event, benchmark) in [group.key for group in found]:
        return "the same recipe, data, engine and precision are registered already"
    return "" if _are_seeds(event.seeds) else f"seeds: are {list(event.seeds)}, expected different whole numbers"


def _are_seeds(seeds: tuple[int, ...]) -> bool:
    return len(seeds) > 0 and len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
