"""What every single value of a record must be, whatever else the record says: asked before anything reckons with it.

Types are the schema's business. A problem is a (field, message) pair, as in results/record/checks.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET

from results.record import Curve, Record, Sitting
from results.record.canonical import join
from results.record.utc import is_time, now

LARGEST_SEED = 2**63 - 1
MOST_IMAGES = 10**8
MOST_EPOCHS = 10**6
MOST_DECIMALS = 6  # papers give errors in percent with two or three
MOST_THREADS = 2**16
MOST_MIB = 2**40
MOST_SECONDS = 1e10  # three centuries
LARGEST_LOSS = 1e80  # of float32 scores, squared and summed
LONGEST_TEXT = 2000
DEEPEST = 8  # containers within a setting or a determinism switch
EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)  # before the first of the papers
CLOCK = timedelta(days=1)  # by which a machine's clock may be wrong

_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_VERSION = re.compile(r"(0|[1-9]\d{0,5})(\.(0|[1-9]\d{0,5})){2}", re.ASCII)
_LOSS = (-LARGEST_LOSS, LARGEST_LOSS)
_COUNT = (0, MOST_IMAGES)
# Of each column of the curve. The learning rates' lower end is for results/record/checks.py; it names the others too.
_COLUMNS: dict[str, tuple[float, float]] = {
    "epoch": (1, MOST_EPOCHS),
    "lr": (0, 1e6),
    "images_per_second": (0, 1e12),
    "seconds": (0, MOST_SECONDS),
} | {
    f"{split}_{what}": bounds
    for split in ("train", "valid", "test")
    for what, bounds in {
        **dict.fromkeys(("loss", "evaluation_loss", "class_loss"), _LOSS),
        **dict.fromkeys(("wrong", "class_wrong"), _COUNT),
        "error": (0, 100),
    }.items()
}

FieldProblem = tuple[str, str]


def problems(record: Record) -> Iterator[FieldProblem]:
    """Every value of a record that no run could have written."""
    for field, value, low, high in _numbers(record):
        if value is not None and not low <= value <= high:
            yield field, f"is {_short(value)}, expected {low:,} or more, up to {high:,}"
    for field, text in _digests(record):
        if not _DIGEST.fullmatch(text):
            yield field, f"{_short(text)} is not a SHA-256 of 64 lower-case hexadecimal digits"
    if not _VERSION.fullmatch(record.harness):
        yield "harness", f"{_short(record.harness)} is not a version like 0.2.0"
    for i, sitting in enumerate(record.sittings):
        yield from _sitting(sitting, f"sittings[{i}]")
    yield from _texts(record)


def _numbers(record: Record) -> Iterator[tuple[str, Any, float, float]]:
    """Fields with their values and the ends of their ranges; of the curve, each column's ends that are outside."""
    yield "seed", record.seed, 0, LARGEST_SEED
    yield "peak_memory_mib", record.peak_memory_mib, 0, MOST_MIB
    yield "recipe.version", record.recipe.version, 1, 10**6
    yield "target.test_error", record.target.test_error, 0, 100
    yield "target.decimals", record.target.decimals, 0, MOST_DECIMALS
    yield "target.test_images", record.target.test_images, 1, MOST_IMAGES
    for field in ("train_seconds", "evaluate_seconds"):
        yield f"times.{field}", getattr(record.times, field), 0, MOST_SECONDS
    for name in ("train", "valid", "test"):
        split = getattr(record.data, name)
        yield f"data.{name}.images", split.images, 0 if name == "valid" else 1, MOST_IMAGES
        for i, images in enumerate([] if split.class_images is UNSET else split.class_images):
            yield f"data.{name}.class_images[{i}]", images, 0, MOST_IMAGES
    if record.published_weights is not UNSET:
        yield "published_weights.bytes", record.published_weights.bytes, 1, 2**40
    for i, sitting in enumerate(record.sittings):
        yield f"sittings[{i}].seconds", sitting.seconds, 0, MOST_SECONDS
        yield f"sittings[{i}].first_epoch", sitting.first_epoch, 1, MOST_EPOCHS
        yield f"sittings[{i}].last_epoch", sitting.last_epoch, 0, MOST_EPOCHS
        if sitting.engine is not None:
            yield f"sittings[{i}].engine.threads", sitting.engine.threads, 1, MOST_THREADS
        if sitting.machine is not None:
            yield f"sittings[{i}].machine.cores", sitting.machine.cores, 1, MOST_THREADS
            yield f"sittings[{i}].machine.memory_mib", sitting.machine.memory_mib, 0, MOST_MIB
    for column in Curve.__struct_fields__:
        yield from _column(record.curve, column)


def _column(curve: Curve, column: str) -> Iterator[tuple[str, Any, float, float]]:
    """The entries of a column that are outside its range: thousands are looked at, and none is as a rule."""
    values, (low, high) = getattr(curve, column), _COLUMNS[column]
    if values is UNSET or not values:
        return
    rows: Iterable[list[Any]] = values if isinstance(values[0], list) else [values]
    nested = isinstance(values[0], list)
    for i, row in enumerate(rows):
        known = [value for value in row if value is not None] if nested else row
        if known and not (low <= min(known) and max(known) <= high):
            for j, value in enumerate(row):
                yield (f"curve.{column}[{i}][{j}]" if nested else f"curve.{column}[{j}]"), value, low, high


def _digests(record: Record) -> Iterator[FieldProblem]:
    digests: dict[str, Any] = {"recipe.digest": record.recipe.digest, "weights_sha256": record.weights_sha256}
    if record.published_weights is not UNSET:
        digests["published_weights.sha256"] = record.published_weights.sha256
    for name in ("train", "valid", "test"):
        digests[f"data.{name}.digest"] = getattr(record.data, name).digest
    for i, sitting in enumerate(record.sittings):
        digests[f"sittings[{i}].diff_sha256"] = sitting.diff_sha256
        digests[f"sittings[{i}].code_sha256"] = sitting.code_sha256
    return ((field, text) for field, text in digests.items() if text is not None)


def _sitting(sitting: Sitting, field: str) -> Iterator[FieldProblem]:
    if sitting.commit is not None and not _COMMIT.fullmatch(sitting.commit):
        yield f"{field}.commit", f"{_short(sitting.commit)} is not a full commit hash"
    started = date_of(sitting.started)
    if started is None:
        yield f"{field}.started", f"{_short(sitting.started)} is not a UTC date and time like 2024-05-01T12:00:00Z"
    elif not EARLIEST <= started <= datetime.now(UTC) + CLOCK:
        by_clock = f"by this machine's clock, which says {now()}"
        expected = f"expected a time since {EARLIEST.year} that is not to come, {by_clock}"
        yield f"{field}.started", f"is {sitting.started}, {expected}"


def date_of(text: str) -> datetime | None:
    """What a sitting's `started` says; None if it is no date and time in UTC as the program writes them."""
    try:
        return datetime.fromisoformat(text) if is_time(text) else None
    except ValueError:
        return None


def _texts(record: Record) -> Iterator[FieldProblem]:
    """Text is one printable line, and what has no fixed form is no deeper or longer than anybody needs."""
    for field in record.__struct_fields__:
        if field not in ("curve", "test_correct", "checksums"):
            yield from _text_problems(getattr(record, field), field, 0)


def _text_problems(value: Any, where: str, depth: int) -> Iterator[FieldProblem]:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _text_problems(getattr(value, name), f"{where}.{name}", depth)
    elif isinstance(value, (dict, list)) and depth == DEEPEST:
        yield where, f"is nested deeper than {DEEPEST} times"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _text_problems(key, f"{where} (a key)", depth)
            yield from _text_problems(item, join(where, key), depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _text_problems(item, f"{where}[{i}]", depth + 1)
    elif isinstance(value, str) and not (value.isprintable() and len(value) <= LONGEST_TEXT):
        yield where, f"{_short(value)} is no printable line of at most {LONGEST_TEXT:,} characters"
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and not abs(value) <= 1e300:
        yield where, "is no number that anything could be set to"


def _short(value: Any) -> str:
    """The value as Python writes it, no longer than a line has place for."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"a number of {len(f'{value:x}') * 1.2:.0f} digits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
