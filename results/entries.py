"""What the table, the groups and the verdicts need of a record: a small part, with the names that a record has."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from results.record import Data, Machine, PublishedWeights, Record, RecordedDifference, RecordedTarget, Results


class _Part(msgspec.Struct, frozen=True, array_like=True):
    pass


class EntryRecipe(_Part, frozen=True):
    """The fields of `results.record.RecordedRecipe`, without the settings."""

    digest: str
    version: int
    scoring: bool
    differences: list[RecordedDifference]
    selection: str


class EntryEngine(_Part, frozen=True):
    """Fields of `results.record.RecordedEngine`."""

    name: str
    device: str
    precision: str


class EntrySitting(_Part, frozen=True):
    """A field of `results.record.Sitting`."""

    started: str
    seconds: float
    code_sha256: str | None
    machine: Machine | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One consistent record, without its curve; every field is the record's attribute of the same name."""

    id: str
    benchmark: str
    paper: str
    recipe: EntryRecipe
    target: RecordedTarget
    sittings: list[EntrySitting]
    data: Data
    seed: int
    seeds: dict[str, int]
    outcome: str
    engine: EntryEngine
    mixtures: list[str]
    results: Results | None
    train_error: float | None
    test_correct: str | None
    published_weights: PublishedWeights | UnsetType = UNSET


Run = Record | Entry  # whatever has what the table needs


def entry_of(record: Record) -> Entry:
    """The entry of a record that is consistent with itself."""
    recipe, engine = record.recipe, record.engine
    return Entry(
        id=record.id,
        benchmark=record.benchmark,
        paper=record.paper,
        recipe=EntryRecipe(recipe.digest, recipe.version, recipe.scoring, recipe.differences, recipe.selection),
        target=record.target,
        sittings=[EntrySitting(s.started, s.seconds, s.code_sha256, s.machine) for s in record.sittings],
        data=record.data,
        seed=record.seed,
        seeds=record.seeds,
        outcome=record.outcome,
        engine=EntryEngine(engine.name, engine.device, engine.precision),
        mixtures=record.mixtures,
        results=record.results,
        train_error=record.train_error,
        test_correct=record.test_correct,
        published_weights=record.published_weights,
    )
