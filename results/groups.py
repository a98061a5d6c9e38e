"""Which runs may be averaged: those of one recipe on the same data by one engine in one precision, one run a seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from results.entries import Run
from results.record import Split


class Key(NamedTuple):
    """What the runs of a group have in common. `data`: the splits' digests, or where they are drawn, what is drawn."""

    benchmark: str
    digest: str
    data: tuple[str, ...]
    engine: str
    precision: str


class Group(NamedTuple):
    """Scoring runs with the same key.

    runs: one a seed, the one that was started first, in the order of their start. repetitions: further runs of these
    seeds: on another machine or with other bits, but no new measurement of the method.
    """

    key: Key
    runs: list[Run]
    repetitions: list[Run]

    @property
    def finished(self) -> list[Run]:
        """The runs that have a result."""
        return [record for record in self.runs if record.outcome == "finished" and record.results is not None]

    @property
    def mixtures(self) -> list[str]:
        """Of code, engine and machine, those that changed within a run."""
        return [kind for kind in ("code", "engine", "machine") if any(kind in record.mixtures for record in self.runs)]


def key_of(record: Run) -> Key:
    """The key of the group that a record belongs to."""
    data = data_key((record.data.train, record.data.valid, record.data.test), len(record.seeds) > 1)
    return Key(record.benchmark, record.recipe.digest, data, record.engine.name, record.engine.precision)


def data_key(splits: Iterable[Split], is_drawn: bool) -> tuple[str, ...]:
    """What stands for the images of the splits in a key. is_drawn: with every seed other ones, of other digests."""
    return tuple(f"{s.dataset} {s.preprocessing} {s.images}" if is_drawn else s.digest for s in splits)


def groups(records: Iterable[Run]) -> list[Group]:
    """The groups of all scoring runs that ended by themselves, in the order of their first runs."""
    found: dict[Key, Group] = {}
    seeds: dict[Key, set[int]] = {}
    for record in sorted(records, key=lambda record: (record.sittings[0].started, record.id)):
        if not record.recipe.scoring or record.outcome == "killed":
            continue
        key = key_of(record)
        group, known = found.setdefault(key, Group(key, [], [])), seeds.setdefault(key, set())
        (group.repetitions if record.seed in known else group.runs).append(record)
        known.add(record.seed)
    return list(found.values())
