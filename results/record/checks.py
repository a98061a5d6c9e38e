"""What must be true inside one record: pure functions of the record, each naming the field that is wrong.

A problem is a (field, message) pair. First each value by itself: results/record/ranges.py. Only of a record without
problems there is everything computed again that follows from something else in it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import UNSET

from results import record as schema
from results.errors import RegistryError
from results.record import Curve, Record, Sitting, ranges
from results.record.canonical import digest, leaves, to_builtins
from results.record.private import private

FieldProblem = tuple[str, str]

BENCHMARK = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")  # it names a folder


def problems(record: Record) -> list[FieldProblem]:
    """Every inconsistency of one record; empty if there is none. Raises nothing, whatever the record holds."""
    found = guarded(ranges.problems, record)
    return found or [problem for check in _CHECKS for problem in guarded(check, record)]


def guarded(check: Callable[[Record], Iterable[FieldProblem]], record: Record) -> list[FieldProblem]:
    """What a check finds; that it could not end is a problem of the record, and stops no other check."""
    found: list[FieldProblem] = []
    try:
        found.extend(check(record))
    except RegistryError as error:
        found.append((error.field or "content", str(error).removeprefix(f"{error.field}: ")))
    except Exception as error:  # a record may come from anybody: none may keep the others from being checked
        found.append(unchecked(error))
    return found


def unchecked(error: Exception) -> FieldProblem:
    """A problem: a check ended with an error that nobody foresaw."""
    return "content", f"cannot be checked: {type(error).__name__}: {str(error)[:200]}".rstrip(": ")


def _expect(field: str, value: Any, expected: Any) -> Iterator[FieldProblem]:
    if value != expected:
        yield field, f"is {value!r}, expected {expected!r}"


def _names(record: Record) -> Iterator[FieldProblem]:
    if not BENCHMARK.fullmatch(record.benchmark):
        yield "benchmark", f"{record.benchmark!r} is not an id of lower-case letters, digits, '-' and '.'"


def _recipe(record: Record) -> Iterator[FieldProblem]:
    recipe = record.recipe
    yield from _expect("recipe.digest", recipe.digest, digest(recipe.named_settings))
    if recipe.version < 1:
        yield "recipe.version", f"is {recipe.version}, expected 1 or more"
    if recipe.scoring and recipe.differences:
        yield "recipe.scoring", f"is true, but {len(recipe.differences)} settings differ from the published ones"
    if not recipe.scoring and not recipe.differences:
        yield "recipe.scoring", "is false, but no setting differs from the published ones"


def _curve(record: Record) -> Iterator[FieldProblem]:
    curve = record.curve
    yield from _columns(record)
    for i, lr in enumerate(curve.lr):
        if lr <= 0:
            yield f"curve.lr[{i}]", f"is {lr}, expected a positive learning rate"
    for split in ("train", "valid", "test"):
        yield from _errors(curve, split, getattr(record.data, split).images)
    yield from _epochs(record)


def _columns(record: Record) -> Iterator[FieldProblem]:
    curve, expected = record.curve, schema.columns(record.recipe.settings)
    epochs = len(curve.epoch)
    for i, epoch in enumerate(curve.epoch):
        yield from _expect(f"curve.epoch[{i}]", epoch, i + 1)
    for column in Curve.__struct_fields__:
        values = getattr(curve, column)
        if (values is not UNSET) != (column in expected):
            there = "missing" if column in expected else "there"
            setting = "data.valid_images" if column in schema.VALIDATION_COLUMNS else "protocol.evaluates_training"
            yield f"curve.{column}", f"is {there}, by the recipe's {setting}"
        elif values is not UNSET and len(values) != epochs:
            yield f"curve.{column}", f"has {len(values)} entries, expected {epochs}, one an epoch"


def _errors(curve: Curve, split: str, images: int) -> Iterator[FieldProblem]:
    errors, wrongs = getattr(curve, f"{split}_error"), getattr(curve, f"{split}_wrong")
    if UNSET in (errors, wrongs):
        return  # as it should be, or named by _columns
    if (
        images
        and errors == [schema.error_percent(wrong, images) for wrong in wrongs]
        and max(wrongs, default=0) <= images
    ):
        return  # as nearly always: thousands of epochs need not be looked at one by one
    for i, (error, wrong) in enumerate(zip(errors, wrongs, strict=False)):
        if wrong > images:
            yield f"curve.{split}_wrong[{i}]", f"is {wrong} of {images} images"
        elif images:
            yield from _expect(f"curve.{split}_error[{i}]", error, schema.error_percent(wrong, images))


def _classes(record: Record) -> Iterator[FieldProblem]:
    """Errors and losses by class: an entry a class, and the errors of all classes together are those of the split."""
    evaluates = "train_class_wrong" in schema.columns(record.recipe.settings)
    for split in ("train", "valid", "test"):
        images = getattr(record.data, split).class_images
        expected = evaluates and split != "valid"
        if (images is not UNSET) != expected:
            there = "missing" if expected else "there"
            yield f"data.{split}.class_images", f"is {there}, by the recipe's protocol.evaluates_training"
        elif expected and not any(_columns(record)):
            if sum(images) != getattr(record.data, split).images:
                yield f"data.{split}.class_images", f"are {sum(images)}, expected {getattr(record.data, split).images}"
            yield from _by_class(record.curve, split, images)


def _by_class(curve: Curve, split: str, images: list[int]) -> Iterator[FieldProblem]:
    totals = getattr(curve, f"{split}_wrong")
    for i, wrong in enumerate(getattr(curve, f"{split}_class_wrong")):
        if len(wrong) != len(images) or any(not 0 <= w <= n for w, n in zip(wrong, images, strict=False)):
            yield f"curve.{split}_class_wrong[{i}]", f"is {wrong} of {images} images"
        elif sum(wrong) != totals[i]:
            yield f"curve.{split}_class_wrong[{i}]", f"are {sum(wrong)}, expected {totals[i]}"
    for i, losses in enumerate(getattr(curve, f"{split}_class_loss")):
        if [loss is None for loss in losses] != [not n for n in images]:
            yield f"curve.{split}_class_loss[{i}]", f"is {losses}, expected a loss for each class that has images"


def _epochs(record: Record) -> Iterator[FieldProblem]:
    epochs, planned = len(record.curve.epoch), _setting(record, "train", "epochs")
    if record.outcome == "finished" and epochs != planned:
        yield "outcome", f"is 'finished' after {epochs} of {planned} epochs"
    elif isinstance(planned, int) and epochs > planned:
        yield "curve.epoch", f"has {epochs} epochs, the recipe {planned}"
    elif record.outcome != "finished" and planned and epochs == planned:
        yield "outcome", f"is {record.outcome!r} after all {planned} epochs"


def _results(record: Record) -> Iterator[FieldProblem]:
    """Whether what describes the declared network is there exactly if it exists."""
    measured = bool(record.curve.epoch)
    for field in ("test_correct", "weights_sha256"):
        if (getattr(record, field) is not None) != measured:
            yield field, f"is {'missing' if measured else 'there'} after {len(record.curve.epoch)} epochs"


def _test_correct(record: Record) -> Iterator[FieldProblem]:
    if record.test_correct is None or not record.curve.epoch or any(_columns(record)):
        return
    point = schema.points(record.curve, record.data.test.images, record.recipe.settings)["declared"]
    packed = schema.packed_bytes(record.test_correct, record.data.test.images)
    right = int.from_bytes(packed, "big").bit_count()
    if right != point.test_images - point.test_wrong:
        yield "test_correct", f"marks {right} images, the declared epoch has {point.test_images - point.test_wrong}"


def _data(record: Record) -> Iterator[FieldProblem]:
    data = record.data
    yield from _expect("data.train.images", data.train.images, _setting(record, "data", "train_images"))
    yield from _expect("data.valid.images", data.valid.images, _setting(record, "data", "valid_images"))
    for split in ("train", "valid", "test"):
        if not getattr(data, split).digest:
            yield f"data.{split}.digest", "is empty"
        for fact in ("dataset", "preprocessing"):
            yield from _expect(
                f"data.{split}.{fact}", getattr(getattr(data, split), fact), _setting(record, "data", fact)
            )
    if not data.test.images:
        yield "data.test.images", "is 0: nothing was measured"
        return
    digests = [split.digest for split in (data.train, data.valid, data.test) if split.images]
    if len(set(digests)) < len(digests):
        yield "data", "has the same digest for two splits"
    counted = schema.counted_images(record.recipe.settings, record.data.test.images)
    yield from _expect("target.test_images", record.target.test_images, counted)


def _sittings(record: Record) -> Iterator[FieldProblem]:
    next_epoch = 1
    for i, sitting in enumerate(record.sittings):
        field = f"sittings[{i}]"
        yield from _expect(f"{field}.first_epoch", sitting.first_epoch, next_epoch)
        if sitting.last_epoch < sitting.first_epoch - 1:
            yield f"{field}.last_epoch", f"is {sitting.last_epoch}, before first_epoch {sitting.first_epoch}"
        next_epoch = sitting.last_epoch + 1
        if (sitting.diff_sha256 is not None) != sitting.dirty:
            there = "missing" if sitting.dirty else "there"
            yield f"{field}.diff_sha256", f"is {there}, but dirty is {str(sitting.dirty).lower()}"
        if sitting.dirty and sitting.commit is None:
            yield f"{field}.dirty", "is true, but there is no commit that the code could differ from"
        if sitting.engine is not None and sitting.engine.device == "cpu" and sitting.engine.driver is not None:
            yield f"{field}.engine.driver", "is there, but the device is a CPU"
    if next_epoch != len(record.curve.epoch) + 1:
        yield "sittings", f"end with epoch {next_epoch - 1}, the curve with {len(record.curve.epoch)}"
    if not record.sittings or record.sittings[-1].engine is None:
        yield "sittings", "have no last one that says what computed"
    yield from _sittings_in_order(record.sittings)


def _sittings_in_order(sittings: list[Sitting]) -> Iterator[FieldProblem]:
    """Each begins after the one before it, and what one says of code and machine, those after it say too."""
    for i, (before, sitting) in enumerate(itertools.pairwise(sittings), 1):
        started, earlier = ranges.date_of(sitting.started), ranges.date_of(before.started)
        if started is not None and earlier is not None and started + ranges.CLOCK < earlier:
            yield f"sittings[{i}].started", f"is {sitting.started}, before that of the sitting before it"
    described = False
    for i, sitting in enumerate(sittings):
        described = described or sitting.code_sha256 is not None or sitting.machine is not None
        for fact in ("code_sha256", "engine", "machine") if described else ():
            if getattr(sitting, fact) is None:
                yield f"sittings[{i}].{fact}", "is missing, though this or an earlier sitting says its code or machine"


def _private(record: Record) -> Iterator[FieldProblem]:
    for name in record.__struct_fields__:
        part = getattr(record, name)
        if name not in ("curve", "test_correct", "checksums") and part is not UNSET:  # those are thousands of numbers
            yield from _private_in(to_builtins(part), name)


def _private_in(part: Any, name: str) -> Iterator[FieldProblem]:
    for field, value in leaves(part, name):
        for text in (field, value):
            if isinstance(text, str) and (found := private(text)):
                yield field, f"has {found}; records carry no path, user, host or key"


def _published_weights(record: Record) -> Iterator[FieldProblem]:
    if record.published_weights is not UNSET and (record.outcome != "finished" or not record.recipe.scoring):
        yield "published_weights", "is there, but the run is not a finished scoring one"


_CHECKS = (
    *(_names, _recipe, _curve, _classes, _results, _test_correct, _data, _sittings),
    *(_published_weights, _private),
)


def _setting(record: Record, group: str, key: str) -> Any:
    """settings[group][key]; RegistryError names the field if it is not there."""
    try:
        return record.recipe.settings[group][key]
    except (KeyError, TypeError):
        field = f"recipe.settings.{group}.{key}"
        raise RegistryError(f"{field}: missing", field) from None


def as_lines(found: Iterable[FieldProblem]) -> str:
    """The problems in one line, for an error message."""
    return "; ".join(f"{field}: {message}" for field, message in found)
