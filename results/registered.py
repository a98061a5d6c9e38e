"""Registered groups: which seeds are to be run, written down before the first of them is.

`<registry>/../registered/<benchmark>.jsonl` has one event a line. Lines are added, never changed. Events: a group is
`registered`, once `extended`; a run of a seed is `launched`, and `stopped` if it ended without a record: interrupted,
killed, failed. That a run finished or diverged, its record says.

The lines are a set: each names its group, so that files of several machines are one by having the lines of all, and
git may put them in any order (`merge=union`). They are read by time. What two people wrote down of the same group, each
without the other, is no contradiction if it says the same: the earlier registration and the earlier extension count.

Schema 1 had in place of the name the number of the group in its file. It is read as long as the file is as it was
written: `merge` makes lines of today of it, for a number means nothing beside the lines of another file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from results import lines
from results.errors import NewerSchemaError, RegistryError
from results.events import (
    ONE_EXTENSION,
    SCHEMA,
    SEEDS,
    USUAL_SIZE,
    Event,
    Extended,
    Launched,
    NotAllowedError,
    Registered,
    Registration,
    Stopped,
    fold,
    key_of,
    name_of,
    order_of,
)
from results.files import write_atomically
from results.groups import Key
from results.lines import SUFFIX, line_of, refused
from results.record.private import private
from results.record.utc import now

__all__ = ["SEEDS", "SUFFIX", "USUAL_SIZE", "Registration"]  # and what is below


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
    return _registrations(benchmark, events(path), path)


def read_all(root: Path, warn: Callable[[str], None]) -> list[Registration]:
    """All groups of a registry, by benchmark and number; `warn` is told of each file that is passed over."""
    found = []
    for path in lines.files_in(folder_of(root)):
        try:
            found += read(root, path.name.removesuffix(SUFFIX))
        except RegistryError as error:
            warn(f"passed over: {error}")
    return found


def register(
    root: Path, key: Key, version: int, commit: str | None, seeds: tuple[int, ...] = SEEDS[:USUAL_SIZE], time: str = ""
) -> Registration:
    """Write down a new group.

    Raises RegistryError if it is registered already.
    """
    event = Registered(
        group=name_of(key), time=time or now(), digest=key.digest, version=version, data=key.data, engine=key.engine,
        precision=key.precision, seeds=seeds, commit=commit,
    )  # fmt: skip
    return _add(root, key, event)


def extend(
    root: Path, group: Registration, commit: str | None, seeds: tuple[int, ...] = (), time: str = ""
) -> Registration:
    """Write down that a group is to have more seeds, by default those of its size's extension: once.

    Raises RegistryError if it has.
    """
    seeds = seeds or SEEDS[len(group.first_seeds) : group.extended_size]
    event = Extended(group=name_of(group.key), time=time or now(), seeds=seeds, commit=commit)
    return _add(root, group.key, event)


def launched(root: Path, group: Registration, seed: int, time: str = "") -> Registration:
    """Write down that a run of this seed begins."""
    return _add(root, group.key, Launched(group=name_of(group.key), time=time or now(), seed=seed))


def stopped(root: Path, group: Registration, seed: int, reason: str, time: str = "") -> Registration:
    """Write down that it ended without a record."""
    return _add(root, group.key, Stopped(group=name_of(group.key), time=time or now(), seed=seed, reason=reason))


def problems(root: Path) -> list[tuple[Path, str, str]]:
    """(file, line, what is wrong with it) of every file of the folder; empty if there is none."""
    return lines.problems(folder_of(root), lambda path: read(root, path.name.removesuffix(SUFFIX)))


# -- several files -----------------------------------------------------------------------------------------------------


class Merged(NamedTuple):
    """What came into a file: events that were not there; whether its bytes are others now; (path, why) of what not."""

    new: int
    is_changed: bool
    refused: list[tuple[Path, str]]


def merge(root: Path, benchmark: str, others: Mapping[Path, Iterable[Event]], *, dry_run: bool = False) -> Merged:
    """Take in the events of other files, and give the benchmark's own file its normal form.

    The normal form of a set of events is one file: each once, in today's schema, by time. So the order in which files
    are merged does not matter. One that contradicts what is there, by other seeds of the same group, is refused whole.

    Raises RegistryError if the benchmark's own file is not what it must be.
    """
    path = path_of(root, benchmark)
    with contextlib.nullcontext() if dry_run else lines.locked(path.parent):
        before, refused = checked_events(path), []
        known = set(before)
        for other, found in others.items():
            try:
                fold(benchmark, together := known.union(found))
                known = together
            except NotAllowedError as error:
                refused.append((other, f"cannot be merged: {error}"))
        content = b"".join(map(line_of, sorted(known, key=order_of)))
        is_changed = content != lines.content(path)
        if is_changed and not dry_run:
            write_atomically(path, content)
    return Merged(len(known) - len(set(before)), is_changed, refused)


def checked_events(path: Path) -> list[Event]:
    """The events in a file that is what it must be. Raises RegistryError naming file and line."""
    found = events(path)
    _registrations(path.name.removesuffix(SUFFIX), found, path)
    return found


# -- the file ----------------------------------------------------------------------------------------------------------


def _add(root: Path, key: Key, event: Event) -> Registration:
    """Add an event to a benchmark's file, whole or not at all; the group that it is of, as it is now.

    Raises RegistryError if it may not be added.
    """
    path = path_of(root, key.benchmark)
    with lines.locked(path.parent):
        before = lines.content(path)
        known = [*events(path), event]
        now = {group.key: group for group in _registrations(key.benchmark, known, path)}
        if problem := _problem_of_again(event, known[:-1]):
            raise refused(path, f"line {len(known)}", problem)
        write_atomically(path, before + line_of(event))
    return now[key]


def _problem_of_again(event: Event, known: list[Event]) -> str:
    """Why an event may not be added by whoever sees those that are known; two who do not see each other's may."""
    if not any(type(other) is type(event) and other.group == event.group for other in known):
        return ""
    if isinstance(event, Registered):
        return "the same recipe, data, engine and precision are registered already"
    return f"group {event.group} is extended already: {ONE_EXTENSION}" if isinstance(event, Extended) else ""


def events(path: Path) -> list[Event]:
    """The events in a file, in the order of its lines, each of today's schema; empty if there is no file.

    Raises RegistryError naming file and line.
    """
    benchmark, numbers = path.name.removesuffix(SUFFIX), dict[int, str]()
    written = lines.content(path).splitlines(keepends=True)
    return [_event(line, f"line {number}", path, benchmark, numbers) for number, line in enumerate(written, 1)]


def _event(line: bytes, where: str, path: Path, benchmark: str, numbers: dict[int, str]) -> Event:
    """numbers: of schema 1, number -> name of the groups registered so far."""
    lines.check_length(path, where, line)
    if found := private(line.decode(errors="replace")):
        raise refused(path, where, f"has {found}, which nothing published may have")
    try:
        schema = msgspec.json.decode(line, type=_Schema).schema
        if schema > SCHEMA:
            raise NewerSchemaError(f"{path}: {where}: is of a newer schema, expected {SCHEMA} at most", where)
        event: Event = msgspec.json.decode(line, type=Event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refused(path, where, f"{error}") from None
    if line_of(event) != line:
        raise refused(path, where, "is not as it was written")
    if schema == SCHEMA:
        return event
    if isinstance(event, Registered):
        if event.group != len(numbers) + 1:
            raise refused(path, where, f"group: is {event.group}, expected {len(numbers) + 1}")
        numbers[event.group] = name_of(key_of(event, benchmark))
    if event.group not in numbers:
        raise refused(path, where, f"group: is {event.group}, which is not registered above")
    return msgspec.structs.replace(event, group=numbers[event.group], schema=SCHEMA)


class _Schema(msgspec.Struct):
    schema: int


def _registrations(benchmark: str, found: list[Event], path: Path) -> list[Registration]:
    """The groups that the events of a file come to, in the order of their registration. Raises RegistryError."""
    try:
        return fold(benchmark, found)
    except NotAllowedError as error:
        raise refused(path, f"line {found.index(error.event) + 1}", str(error)) from None
