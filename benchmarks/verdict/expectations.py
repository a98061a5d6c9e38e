"""What in a record follows from the catalog and its settings, computed again: for `verdict.check_record`."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from benchmarks.engine import ENGINES, PRECISIONS
from benchmarks.engine.publication import packed_bytes, publishes_quantized
from benchmarks.recipe import DATASETS, Recipe, recipe_from_settings
from benchmarks.recipe.schedule import learning_rates
from benchmarks.recipe.settings import full_settings
from benchmarks.verdict.data_digests import known_digest
from results.record import Record, RecordedEngine

# The schedule is a product of as many factors as epochs: another processor's power function may differ in the last bit.
LR_TOLERANCE = 1e-9

FieldProblem = tuple[str, str]


def recipe_of(record: Record) -> Recipe:
    """The recipe of a record, by `recipe_from_settings`; a recipe that was read before is not read again.

    Raises:
        RecipeError: unknown benchmark, or settings that do not fit this version.
    """
    return _recipe(record.benchmark, json.dumps(record.recipe.named_settings, sort_keys=True))


@functools.lru_cache(maxsize=256)
def _recipe(benchmark: str, settings: str) -> Recipe:
    return recipe_from_settings(benchmark, json.loads(settings), {})


def of_settings(record: Record, recipe: Recipe) -> Iterator[FieldProblem]:
    """What follows from the settings, of whichever version of a catalog entry."""
    yield from _defaults(record, recipe)
    yield from _learning_rates(record, recipe)
    yield from _images(record, recipe)
    yield from _engines(record)
    yield from _published_weights(record, recipe)


def of_catalog(record: Record, recipe: Recipe) -> Iterator[FieldProblem]:
    """What follows from the present version of the catalog's entry."""
    yield from _expect("paper", record.paper, recipe.paper.name)
    target = recipe.target
    yield from _expect("target.test_error", record.target.test_error, None if target is None else target.percent)
    yield from _expect("target.decimals", record.target.decimals, 2 if target is None else target.decimals)
    yield from _expect("target.source", record.target.source, "" if target is None else target.source)
    yield from _expect("target.kind", record.target.kind, "read" if target is None else target.provenance)
    expected = [(d.key, d.published, d.value) for d in recipe.differences]
    found = [(d.key, d.published, d.value) for d in record.recipe.differences]
    if _plain(found) != _plain(expected):
        yield "recipe.differences", f"are {found}, from the catalog {expected}"


def _expect(field: str, value: Any, expected: Any) -> Iterator[FieldProblem]:
    if value != expected:
        yield field, f"is {value!r}, expected {expected!r}"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _defaults(record: Record, recipe: Recipe) -> Iterator[FieldProblem]:
    """A setting that was added since is in no older record."""
    settings = record.recipe.settings
    expected = [key for key in recipe.defaults if key.partition(".")[2] in settings.get(key.partition(".")[0], {})]
    if sorted(record.recipe.defaults) != sorted(expected):
        wrong = set(record.recipe.defaults) ^ set(expected)
        yield "recipe.defaults", f"differ from those of the settings in {', '.join(sorted(wrong)) or 'a repetition'}"
        return
    values = full_settings(recipe.settings)
    for group, _, name in (key.partition(".") for key in expected):
        value = settings[group][name]  # no part of the digest
        if repr(value) != repr(values[group][name]):
            yield f"recipe.settings.{group}.{name}", f"is {value!r}, as a default {values[group][name]!r}"


def _learning_rates(record: Record, recipe: Recipe) -> Iterator[FieldProblem]:
    for i, (lr, expected) in enumerate(zip(record.curve.lr, learning_rates(recipe.train), strict=False)):
        if lr != expected and not math.isclose(lr, expected, rel_tol=LR_TOLERANCE):
            yield f"curve.lr[{i}]", f"is {lr}, expected {expected} by the recipe's schedule"


def _images(record: Record, recipe: Recipe) -> Iterator[FieldProblem]:
    facts = DATASETS[recipe.data.dataset]
    yield from _expect("data.test.images", record.data.test.images, facts.test_images)
    for name in ("train", "valid", "test"):
        split = getattr(record.data, name)
        known = known_digest(record.recipe.settings["data"], name, split.images)  # type: ignore[arg-type]
        if known is not None and split.digest != known:
            yield f"data.{name}.digest", f"is {split.digest}, that of the published images is {known}"


def _engines(record: Record) -> Iterator[FieldProblem]:
    for i, sitting in enumerate(record.sittings):
        if sitting.engine is not None:
            yield from _engine(sitting.engine, f"sittings[{i}].engine")


def _engine(engine: RecordedEngine, field: str) -> Iterator[FieldProblem]:
    if engine.name not in ENGINES:
        yield f"{field}.name", f"is {engine.name!r}, expected one of {', '.join(ENGINES)}"
    known = PRECISIONS if engine.name == "torch" else PRECISIONS[:1]
    if engine.precision not in known:
        yield f"{field}.precision", f"is {engine.precision!r}, expected {' or '.join(known)} of {engine.name}"
    package = {"gluon": "mxnet"}.get(engine.name, engine.name)
    for name in (package, "numpy"):
        if name not in engine.versions:
            yield f"{field}.versions", f"do not say which {name} computed"
    if not engine.device_name:
        yield f"{field}.device_name", "is empty"


def _published_weights(record: Record, recipe: Recipe) -> Iterator[FieldProblem]:
    """They are there, in the size that the network gives them, or the record says why they are not.

    Real-valued ones may be absent without a reason: earlier versions did not publish them.
    """
    published, reason = record.published_weights, record.unpublished_reason
    publishes = record.outcome == "finished" and record.recipe.scoring  # by the version of the entry that it is of
    size = packed_bytes(recipe) if publishes else None
    if published is not UNSET:
        yield from _expect("published_weights.bytes", published.bytes, size)
        if reason is not UNSET:
            yield "unpublished_reason", "is there beside published weights"
    elif size is not None and reason is UNSET and publishes_quantized(recipe):
        yield "published_weights", "are missing, and there is no unpublished_reason"
    if reason is not UNSET and (size is None or not reason):
        yield "unpublished_reason", "is there, but the recipe has no weights to publish" if reason else "is empty"
