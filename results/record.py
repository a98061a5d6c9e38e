"""What one run leaves behind: the record's schema, its bytes, its name, and the numbers that follow from its curve.

A record is one JSON object in canonical form (results/canonical.py), strict in its fields and types, named by the hash
of its content. Errors are in percent and always `error_percent` of an integer count, so that nothing is rounded twice.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from results.canonical import canonical_json, digest, plain
from results.errors import RegistryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = 1
ID_DIGITS = 16  # 64 bits: two of a million records share a name with a probability of 3e-8
CHECKSUM_DIGITS = 8  # enough to see an edit; the record's own name is what proves the content

# What differs between a run that was interrupted and one that never was, and the names derived from it.
_DIFFERS_BETWEEN_SITTINGS = ("id", "checksums", "sittings", "times", "peak_memory_mib", "restarts")
_CURVE_TIMES = ("images_per_second", "seconds")
# Columns that only some curves have: of recipes that have validation images, and that evaluate the training images.
VALIDATION_COLUMNS = frozenset({"valid_loss", "valid_error", "valid_wrong"})
_TRAINING_COLUMNS = frozenset(
    f"{split}_{column}"
    for split, columns in {
        "train": ("evaluation_loss", "error", "wrong", "class_loss", "class_wrong"),
        "test": ("class_loss", "class_wrong"),
    }.items()
    for column in columns
)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a record: immutable, every field required, no field beside them.

    A field that only some records have is UNSET in the others, and not in their text: so a field can be added without
    a new schema, and older records keep their bytes and names.
    """


class Difference(Part, frozen=True, kw_only=True):
    """One setting that is not the published one, and where the change came from (`--set`, `--epochs`, ...)."""

    key: str
    published: Any
    value: Any
    source: str


class Recipe(Part, frozen=True, kw_only=True):
    """The fully resolved settings, their digest, and how they differ from what was published."""

    digest: str
    settings: dict[str, dict[str, Any]]
    scoring: bool
    differences: list[Difference]


class Target(Part, frozen=True, kw_only=True):
    """The published test error in percent, with the decimals it was published with and how it is known.

    kind: "read" at its source, "mem" from memory, "2nd" in a secondary source.
    """

    test_error: float | None
    decimals: int
    test_images: int
    source: str
    kind: Literal["read", "mem", "2nd"]


class Engine(Part, frozen=True, kw_only=True):
    """What computed the numbers. determinism: the engine's switches that decide whether a rerun gives the same bits."""

    name: str
    device: Literal["cpu", "gpu"]
    device_name: str
    threads: int
    precision: str
    versions: dict[str, str]
    features: list[str]
    driver: str | None
    determinism: dict[str, bool | str]


class Sitting(Part, frozen=True, kw_only=True):
    """One uninterrupted stretch of a run and the code it ran; last_epoch is first_epoch - 1 if it ended no epoch.

    started: UTC, ISO 8601, as "2024-05-01T12:00:00Z". commit: None outside a git checkout.
    """

    commit: str | None
    dirty: bool
    diff_sha256: str | None
    first_epoch: int
    last_epoch: int
    seconds: float
    started: str


class Split(Part, frozen=True, kw_only=True):
    """The images of one split: which set, what was done to them, how many, and the digest of the arrays.

    class_images: how many images each class has, where the curve counts errors by class.
    """

    dataset: str
    preprocessing: str
    images: int
    digest: str
    class_images: list[int] | UnsetType = UNSET


class Data(Part, frozen=True, kw_only=True):
    """The three splits, as the engine saw them."""

    train: Split
    valid: Split
    test: Split


class Curve(Part, frozen=True, kw_only=True):
    """One entry an epoch in every column; errors in percent, seconds of the whole epoch, images/s of its training.

    train_loss is the mean over the epoch's batches, in training mode. Those of the validation images are there if the
    recipe has any. The columns from train_evaluation_loss on are there if the recipe evaluates the training images
    after every epoch: loss and errors in evaluation mode, and by class (an entry a class; six digits of a loss, null
    without images). Losses by class are means over its images.
    """

    epoch: list[int]
    lr: list[float]
    train_loss: list[float]
    valid_loss: list[float] | UnsetType = UNSET
    valid_error: list[float] | UnsetType = UNSET
    valid_wrong: list[int] | UnsetType = UNSET
    test_loss: list[float]
    test_error: list[float]
    test_wrong: list[int]
    images_per_second: list[float]
    seconds: list[float]
    train_evaluation_loss: list[float] | UnsetType = UNSET
    train_error: list[float] | UnsetType = UNSET
    train_wrong: list[int] | UnsetType = UNSET
    train_class_loss: list[list[float | None]] | UnsetType = UNSET
    train_class_wrong: list[list[int]] | UnsetType = UNSET
    test_class_loss: list[list[float | None]] | UnsetType = UNSET
    test_class_wrong: list[list[int]] | UnsetType = UNSET


class Point(Part, frozen=True, kw_only=True):
    """The errors (percent) at the end of one epoch; valid_error is None without validation images."""

    epoch: int
    valid_error: float | None
    test_error: float
    test_wrong: int
    test_images: int


class Counted(Part, frozen=True, kw_only=True):
    """The test error (percent) of the declared epoch over the first `test_images` images: those the verdict counts.

    The authors' loop leaves out what does not fill a last batch: 32 of SVHN's 26,032 images.
    """

    test_error: float
    test_wrong: int
    test_images: int


class Results(Part, frozen=True, kw_only=True):
    """The run's points: `declared` is the measured result; `best_test` is shown and never used for a verdict."""

    counted: Counted
    declared: Point
    last: Point
    best_test: Point


class Times(Part, frozen=True, kw_only=True):
    """Seconds of all sittings together; total also counts loading and saving."""

    train_seconds: float
    evaluate_seconds: float
    total_seconds: float


class Verdict(Part, frozen=True, kw_only=True):
    """The judgement of one run; margin and standard_error in percentage points."""

    word: Literal[
        "reproduced", "not reproduced", "inconclusive", "suspiciously good", "no published target", "not scored"
    ]
    provisional: bool
    margin: float | None
    standard_error: float | None
    explanation: str


class PublishedWeights(Part, frozen=True, kw_only=True):
    """The file of weights that is published with the record, see results/weights.py: its SHA-256 and its length."""

    sha256: str
    bytes: int


class Record(Part, frozen=True, kw_only=True):
    """One run: one seed of one recipe. `id` and `checksums` follow from the rest; `seal` fills them in.

    results, test_correct and weights_sha256 are None exactly if the run ended before its first epoch did.
    test_correct: `pack_bits` of which test images the network of the declared epoch gets right.
    weights_sha256: of that network's parameters.
    seeds: "run", and what else was drawn from a seed before training began, see `seeds_of`.
    """

    schema: int = SCHEMA
    id: str = ""
    checksums: dict[str, str] = {}
    benchmark: str
    paper: str
    recipe: Recipe
    target: Target
    engine: Engine
    sittings: list[Sitting]
    data: Data
    seeds: dict[str, int]
    curve: Curve
    results: Results | None
    test_correct: str | None
    weights_sha256: str | None
    times: Times
    peak_memory_mib: float
    restarts: int
    outcome: Literal["finished", "diverged", "killed"]
    verdict: Verdict
    published_weights: PublishedWeights | UnsetType = UNSET


# ---- names and bytes ----


def to_bytes(record: Record) -> bytes:
    """The record's file content: canonical JSON and a newline. Raises RegistryError if a value has the wrong type."""
    return canonical_json(_typed(record)) + b"\n"


def from_bytes(data: bytes, name: str) -> Record:
    """The record in `data`, checked against the schema; `name` is what error messages call it.

    Raises RegistryError naming file and field. That the content agrees with itself and with its name is for
    `results.registry.verify` to say.
    """
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        field = _field_at(data, str(error))
        raise RegistryError(f"{name}: {field}: not a record: {error}", field) from None
    _check_version(version, name)
    try:
        record = msgspec.json.decode(data, type=Record)
    except msgspec.ValidationError as error:
        raise _schema_error(error, name) from None
    for field in ("id", "checksums"):  # they have defaults for whoever builds a record, not for files
        if not getattr(record, field):
            raise RegistryError(f"{name}: {field}: missing", field)
    return record


def record_id(record: Record) -> str:
    """The record's name: the first 16 digits of the SHA-256 of its content, `id` and `checksums` left out."""
    content = plain(_typed(record))
    del content["id"], content["checksums"]
    return digest(content)[:ID_DIGITS]


def checksums(record: Record) -> dict[str, str]:
    """A short checksum of every top-level field and of every column of the curve.

    The name proves that a record is as it was written; these say which field is not.
    """
    content = plain(_typed(record))
    del content["id"], content["checksums"]
    content |= {f"curve.{column}": values for column, values in content.pop("curve").items()}
    return {field: digest(value)[:CHECKSUM_DIGITS] for field, value in sorted(content.items())}


def seal(record: Record) -> Record:
    """The record with its `id` and `checksums` as its content demands."""
    return msgspec.structs.replace(_typed(record), id=record_id(record), checksums=checksums(record))


def comparable(record: Record) -> dict[str, Any]:
    """What a run interrupted and resumed has in common with one that never was: no times, dates, sittings or memory."""
    content: dict[str, Any] = plain(record)
    for field in _DIFFERS_BETWEEN_SITTINGS:
        del content[field]
    for column in _CURVE_TIMES:
        del content["curve"][column]
    return content


def _typed(record: Record) -> Record:
    """The record with every field of its declared type (whole numbers in float fields become floats)."""
    name = f"record of {record.benchmark}"
    try:
        return msgspec.convert(plain(record), Record)
    except msgspec.ValidationError as error:
        raise _schema_error(error, name) from None
    except ValueError as error:
        raise RegistryError(f"{name}: {error}", str(error).split(":")[0]) from None


def _check_version(version: Any, name: str) -> None:
    if version is None:
        raise RegistryError(f"{name}: schema: missing; a record starts with its schema version, {SCHEMA}", "schema")
    if not isinstance(version, int) or isinstance(version, bool):
        raise RegistryError(f"{name}: schema: expected a whole number, got {version!r}", "schema")
    if version > SCHEMA:
        raise RegistryError(
            f"{name}: schema: version {version} is newer than the {SCHEMA} that this checkout reads; "
            "update the checkout (git pull)",
            "schema",
        )
    if version < SCHEMA:
        raise RegistryError(
            f"{name}: schema: version {version} is older than the {SCHEMA} that this checkout reads; "
            "read it with the checkout that wrote it (git log results/record.py)",
            "schema",
        )


def _field_at(data: bytes, message: str) -> str:
    """The key last read before the byte that a decoding error names: "JSON is malformed: ... (byte 812)"."""
    place = re.search(r"\(byte (\d+)\)", message)
    keys = re.findall(rb'"(\w+)":', data[: int(place[1])]) if place else []
    return keys[-1].decode() if keys else "content"


def _schema_error(error: msgspec.ValidationError, name: str) -> RegistryError:
    """msgspec's "Object missing required field `x` - at `$.curve`" as "<name>: curve.x: missing required field"."""
    message, _, place = str(error).partition(" - at ")
    field = re.sub(r"^\$\.?|^key in ", "", place.strip("`"))
    named = re.match(r"Object (missing required|contains unknown) field `(.*)`$", message)
    if named:
        field = f"{field}.{named[2]}" if field else named[2]
        message = "missing" if named[1].startswith("missing") else "unknown field"
    field = field or "content"
    return RegistryError(f"{name}: {field}: {message}", field)


# ---- what follows from the counts ----


def error_percent(wrong: int, images: int) -> float:
    """The error in percent, the one way that records compute it."""
    return 100 * wrong / images


def standard_error(wrong: int, images: int) -> float:
    """The binomial standard error, in percentage points, of `wrong` errors among `images`."""
    p = wrong / images
    return 100 * math.sqrt(p * (1 - p) / images)


def columns(settings: Mapping[str, Any]) -> list[str]:
    """The columns that the curve of a run with these settings has."""
    absent = set() if settings.get("data", {}).get("valid_images", 1) else set(VALIDATION_COLUMNS)
    if not settings.get("protocol", {}).get("evaluates_training", False):
        absent |= _TRAINING_COLUMNS
    return [name for name in Curve.__struct_fields__ if name not in absent]


def declared_epoch(curve: Curve, settings: Mapping[str, Any]) -> int:
    """The epoch whose network is the result, by the recipe's settings; 0 without any epoch.

    protocol.selection "best_validation": the one with the fewest validation errors, of several the last, or the first
    with "first_best_validation"; "last": the last of all.
    """
    selection = settings.get("protocol", {}).get("selection", "best_validation")
    if selection == "last" or not curve.epoch or curve.valid_wrong is UNSET:
        return len(curve.epoch)
    if selection == "first_best_validation":
        return curve.valid_wrong.index(min(curve.valid_wrong)) + 1
    return _lowest(curve.valid_wrong)


def seeds_of(settings: Mapping[str, Any], seed: int) -> dict[str, int]:
    """Everything that a run draws before it trains, each with its seed: from a named stream of the run's own seed."""
    data = settings.get("data", {})
    drawn = {
        "split": data.get("split", "published") != "published",
        "labels": data.get("labels", "true") != "true",
        "inputs": data.get("inputs", "images") != "images",
    }
    return {"run": seed} | {name: seed for name, is_drawn in drawn.items() if is_drawn}


def counted_images(settings: Mapping[str, Any], test_images: int) -> int:
    """How many of the test images the verdict counts, by the recipe's settings: all, or those of whole batches."""
    if settings.get("protocol", {}).get("counted_test_images", "all") == "all":
        return test_images
    return test_images - test_images % int(settings["train"]["batch_size"])


def summarize(curve: Curve, test_images: int, test_correct: str | None, settings: Mapping[str, Any]) -> Results | None:
    """The points of a curve and what the verdict counts, by the recipe's settings; None without any epoch.

    test_correct: `pack_bits` of the images that the declared network gets right. Raises RegistryError if it does not
    hold `test_images` images.
    """
    if not curve.epoch or test_correct is None:
        return None
    counted = count(test_correct, test_images, counted_images(settings, test_images))
    return Results(counted=counted, **points(curve, test_images, settings))


def points(curve: Curve, test_images: int, settings: Mapping[str, Any]) -> dict[str, Point]:
    """The declared, last and best points of a curve of at least one epoch; ties of the best test go to the later."""

    def point(epoch: int) -> Point:
        i = epoch - 1
        return Point(
            epoch=epoch,
            valid_error=None if curve.valid_error is UNSET else curve.valid_error[i],
            test_error=curve.test_error[i],
            test_wrong=curve.test_wrong[i],
            test_images=test_images,
        )

    epochs = {
        "declared": declared_epoch(curve, settings),
        "last": len(curve.epoch),
        "best_test": _lowest(curve.test_wrong),
    }
    return {name: point(epoch) for name, epoch in epochs.items()}


def count(test_correct: str, test_images: int, counted: int) -> Counted:
    """The error over the first `counted` of `test_images` images; raises RegistryError as `summarize`."""
    bits = int.from_bytes(packed_bytes(test_correct, test_images), "big") >> (-test_images % 8)
    wrong = counted - (bits >> (test_images - counted)).bit_count()
    return Counted(test_error=error_percent(wrong, counted), test_wrong=wrong, test_images=counted)


def _lowest(wrong: list[int]) -> int:
    """The epoch, from 1, of the last of the lowest counts."""
    return max(range(len(wrong)), key=lambda i: (-wrong[i], i)) + 1 if wrong else 0


# ---- which images were right ----


def pack_bits(correct: NDArray[np.bool_]) -> str:
    """Base64 of the bits of `correct` (images,), eight a byte, the first image in the highest bit, zeros at the end."""
    import numpy as np

    return base64.b64encode(np.packbits(np.asarray(correct, dtype=bool)).tobytes()).decode()


def unpack_bits(text: str, n: int) -> NDArray[np.bool_]:
    """The (n,) bools that `pack_bits` packed. Raises RegistryError if the text does not hold n of them."""
    import numpy as np

    packed = packed_bytes(text, n)
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=n).astype(bool)


def packed_bytes(text: str, n: int) -> bytes:
    """The bytes of `pack_bits` of n images. Raises RegistryError if the text is anything else."""
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RegistryError("test_correct: not base64", "test_correct") from None
    unused = -n % 8
    if len(packed) != (n + 7) // 8 or (packed and packed[-1] & ((1 << unused) - 1)):
        raise RegistryError(f"test_correct: does not hold the bits of {n} images", "test_correct")
    return packed
