"""What follows from a record's counts: its errors, which epoch is its result, and which images the verdict counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct

from results.errors import RegistryError
from results.record.bits import first_bits

if TYPE_CHECKING:
    from results.record.schema import Curve

# Words of protocol.selection by which the result is the lowest test error of any epoch.
BEST_OF_TEST = frozenset({"best_test", "first_best_test"})
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


class Point(Struct, frozen=True, kw_only=True):
    """The errors (percent) at the end of one epoch; valid_error is None without validation images."""

    epoch: int
    valid_error: float | None
    test_error: float
    test_wrong: int
    test_images: int


class Counted(Struct, frozen=True, kw_only=True):
    """The test error (percent) of the declared epoch over the first `test_images` images: those the verdict counts.

    The authors' loop leaves out what does not fill a last batch: 32 of SVHN's 26,032 images.
    """

    test_error: float
    test_wrong: int
    test_images: int


class Results(Struct, frozen=True, kw_only=True):
    """The run's points: `declared` is the measured result; `best_test` is shown beside it, and is the declared one only
    where the claim was chosen so (protocol.selection "best_test", or "first_best_test", which takes an earlier epoch of
    the same error)."""

    counted: Counted
    declared: Point
    last: Point
    best_test: Point


def error_percent(wrong: int, images: int) -> float:
    """The error in percent, the one way that records compute it."""
    return 100 * wrong / images


def columns(settings: Mapping[str, Any]) -> list[str]:
    """The columns that the curve of a run with these settings has."""
    from results.record.schema import Curve  # which has this module's results as a property

    absent = set() if settings.get("data", {}).get("valid_images", 1) else set(VALIDATION_COLUMNS)
    if not settings.get("protocol", {}).get("evaluates_training", False):
        absent |= _TRAINING_COLUMNS
    return [name for name in Curve.__struct_fields__ if name not in absent]


def declared_epoch(curve: Curve, settings: Mapping[str, Any]) -> int:
    """The epoch whose network is the result, by the recipe's settings; 0 without any epoch.

    protocol.selection "best_validation": the one with the fewest validation errors, of several the last, or the first
    with "first_best_validation"; "last": the last of all; "best_test": the one with the fewest test errors, of several
    the last, or the first with "first_best_test".
    """
    selection = settings.get("protocol", {}).get("selection", "best_validation")
    if selection == "best_test":
        return _lowest(curve.test_wrong)
    if selection == "first_best_test" and curve.epoch:
        return curve.test_wrong.index(min(curve.test_wrong)) + 1
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
    """How many of the test images the verdict counts, by the recipe's settings: all, or those of whole batches.

    Raises RegistryError if there is no whole batch.
    """
    if settings.get("protocol", {}).get("counted_test_images", "all") == "all":
        return test_images
    batch_size = settings.get("train", {}).get("batch_size")
    if not isinstance(batch_size, int) or not 1 <= batch_size <= test_images:
        field = "recipe.settings.train.batch_size"
        raise RegistryError(f"{field}: is {batch_size!r}, expected 1 to {test_images} images", field)
    return test_images - test_images % batch_size


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
    """The declared, last and best points of a curve of at least one epoch; ties of the best test go to the later, but
    where the recipe declares the earlier."""

    def point(epoch: int) -> Point:
        i = epoch - 1
        return Point(
            epoch=epoch,
            valid_error=None if curve.valid_error is UNSET else curve.valid_error[i],
            test_error=curve.test_error[i],
            test_wrong=curve.test_wrong[i],
            test_images=test_images,
        )

    declared, selection = declared_epoch(curve, settings), settings.get("protocol", {}).get("selection")
    best = declared if selection in BEST_OF_TEST else _lowest(curve.test_wrong)
    epochs = {"declared": declared, "last": len(curve.epoch), "best_test": best}
    return {name: point(epoch) for name, epoch in epochs.items()}


def count(test_correct: str, test_images: int, counted: int) -> Counted:
    """The error over the first `counted` of `test_images` images; raises RegistryError as `summarize`."""
    wrong = counted - first_bits(test_correct, test_images, counted).bit_count()
    return Counted(test_error=error_percent(wrong, counted), test_wrong=wrong, test_images=counted)


def _lowest(wrong: list[int]) -> int:
    """The epoch, from 1, of the last of the lowest counts."""
    return max(range(len(wrong)), key=lambda i: (-wrong[i], i)) + 1 if wrong else 0
