"""What is written down of registered groups: the events, and what a set of them comes to. Files: results/registered.py.

Each event names its group, so that an event means the same beside whichever others it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from results.groups import Key
from results.lines import Commit, Digest, Word, is_text, line_of
from results.record.canonical import digest
from results.record.utc import is_time

SCHEMA = 2
SEEDS = (1234, *range(1, 10))  # the authors' seed, then others: nobody chooses them; a group has the first ones
EXTENDED_SIZE = {3: 5, 5: 10}  # of a group of so many seeds: what its one extension makes of it
USUAL_SIZE = 5
SIZES = (3, 5, 10)


class _Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="event"):
    """group: its name, see `name_of`; in schema 1 its number. time: UTC, as "2024-05-01T12:00:00Z"."""

    group: str | int
    time: str
    schema: int = SCHEMA


class Registered(_Event, frozen=True, kw_only=True, tag="registered"):
    """digest, data, engine, precision: as in `results.groups.Key`; version: of the catalog's entry.

    commit: what was checked out when it was registered; None where no commit is known.
    """

    digest: Digest
    version: Annotated[int, Meta(ge=1, le=10**6)]
    data: Annotated[tuple[Digest, ...], Meta(max_length=3)]
    engine: Word
    precision: Word
    seeds: tuple[int, ...]
    commit: Commit | None


class Extended(_Event, frozen=True, kw_only=True, tag="extended"):
    """A group has got these seeds more."""

    seeds: tuple[int, ...]
    commit: Commit | None


class Launched(_Event, frozen=True, kw_only=True, tag="launched"):
    """A run of this seed begins, or goes on."""

    seed: int


class Stopped(_Event, frozen=True, kw_only=True, tag="stopped"):
    """It ended without a record; why."""

    seed: int
    reason: str


Event = Registered | Extended | Launched | Stopped


class Registration(NamedTuple):
    """A registered group.

    number: in the order of registration, from 1. first_seeds: those of the first look; seeds: all. last_event: of each
    seed that has one.
    """

    number: int
    key: Key
    version: int
    time: str
    commit: str | None
    first_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    last_event: dict[int, Launched | Stopped]

    @property
    def extended_size(self) -> int | None:
        """Of how many seeds the one extension makes, or has made, the group; None if there is none for its size."""
        return EXTENDED_SIZE.get(len(self.first_seeds))

    @property
    def is_extended(self) -> bool:
        """Whether a second look at the runs was registered."""
        return len(self.seeds) > len(self.first_seeds)


def name_of(key: Key) -> str:
    """What lines call a group: 16 hexadecimal digits of the SHA-256 of its key."""
    return digest(list(key))[:16]


_ORDER = (Registered, Extended, Launched, Stopped)  # of what happened in the same second
ONE_EXTENSION = "there is one extension"


class NotAllowedError(Exception):
    """An event that may not be there; `event` is it."""

    def __init__(self, event: Event, what: str) -> None:
        super().__init__(what)
        self.event = event


def order_of(event: Event) -> tuple[str, int, bytes]:
    """What events are sorted by: their time, what may follow what, and else their text."""
    return event.time, _ORDER.index(type(event)), line_of(event)


def fold(benchmark: str, events: Iterable[Event]) -> list[Registration]:
    """The groups that a set of events comes to, in the order of their registration.

    Raises NotAllowedError at the first event that may not be there.
    """
    found: dict[str | int, Registration] = {}
    for event in sorted(events, key=order_of):
        if problem := _problem(event, found, benchmark):
            raise NotAllowedError(event, problem)
        if not isinstance(event, Registered):
            found[event.group] = _after(found[event.group], event)
        elif event.group not in found:
            found[event.group] = Registration(
                len(found) + 1, key_of(event, benchmark), event.version, event.time, event.commit,
                first_seeds=event.seeds, seeds=event.seeds, last_event={},
            )  # fmt: skip
    return list(found.values())


def _after(group: Registration, event: Extended | Launched | Stopped) -> Registration:
    if isinstance(event, Extended):
        return group._replace(seeds=group.first_seeds + event.seeds)
    return group._replace(last_event=group.last_event | {event.seed: event})


def key_of(event: Registered, benchmark: str) -> Key:
    """The key of the group that is registered."""
    return Key(benchmark, event.digest, event.data, event.engine, event.precision)


def _problem(event: Event, found: Mapping[str | int, Registration], benchmark: str) -> str:
    """Why an event may not follow what is found so far; "" if it may."""
    if not is_time(event.time):
        return f"time: is {event.time!r}, expected UTC, as 2024-05-01T12:00:00Z"
    group = found.get(event.group)
    if isinstance(event, Registered):
        return _problem_of_registered(event, group, benchmark)
    if group is None:
        return f"group: is {event.group}, which is not registered by {event.time}"
    if isinstance(event, Extended):
        return _problem_of_extended(event, group)
    if isinstance(event, Stopped) and not is_text(event.reason):
        return "reason: is no printable line"
    seeds = ", ".join(map(str, group.seeds))
    return "" if event.seed in group.seeds else f"seed: is {event.seed}, expected one of {seeds}"


def _problem_of_extended(event: Extended, group: Registration) -> str:
    seeds = group.first_seeds + event.seeds
    if group.is_extended and group.seeds != seeds:
        return f"group {event.group} is extended by other seeds already: {ONE_EXTENSION}"
    return "" if _are_seeds(seeds) else "seeds: expected different whole numbers, not yet there"


def _problem_of_registered(event: Registered, group: Registration | None, benchmark: str) -> str:
    if event.group != (name := name_of(key_of(event, benchmark))):
        return f"group: is {event.group}, expected {name}, the name of this recipe, data, engine and precision"
    if group is not None and event.seeds != group.first_seeds:
        return f"group {name} is registered with other seeds, {', '.join(map(str, group.first_seeds))}"
    return "" if _are_seeds(event.seeds) else f"seeds: are {list(event.seeds)}, expected different whole numbers"


def _are_seeds(seeds: tuple[int, ...]) -> bool:
    return len(seeds) > 0 and len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)
