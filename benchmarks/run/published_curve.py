"""The validation errors that the authors saw, epoch by epoch, where they publish them.

A published test error is one network on one set of images. Their curve is hundreds of networks: it shows, with a
fraction of the noise and after a tenth of the training, whether a run is on the authors' way. It is shown, and judges
nothing: how far the curves of two seeds may lie apart, two curves do not tell.
"""

from __future__ import annotations

import csv
import statistics
from typing import NamedTuple

from msgspec import UNSET

from benchmarks.errors import RecipeError
from benchmarks.recipe import Recipe, catalog_folder
from benchmarks.recipe.schedule import learning_rates
from results.record import Curve

COLUMNS = ["epoch", "valid_error"]


class Stretch(NamedTuple):
    """The mean and the standard deviation (over epochs, percentage points) of the validation errors of some epochs."""

    mean: float
    deviation: float


class CurveComparison(NamedTuple):
    """A run beside the authors' over the same epochs, `first` to `last`."""

    first: int
    last: int
    here: Stretch
    published: Stretch

    def __str__(self) -> str:
        here, published = (f"{s.mean:.3f} % (over epochs +-{s.deviation:.3f})" for s in (self.here, self.published))
        return f"mean validation error of epochs {self.first} to {self.last}: {here}, of the authors' run {published}"


def published_curve(recipe: Recipe) -> list[float] | None:
    """The authors' validation error (percent) after each epoch; None if they publish none, or trained otherwise.

    A run of another number of epochs trains as they did, if its learning rates are theirs in the epochs of both.

    Raises:
        RecipeError: the file that the catalog names is not there, or holds anything else.
    """
    if recipe.target is None or recipe.target.validation_errors is None or not _as_published(recipe):
        return None
    path = catalog_folder(recipe.id) / recipe.target.validation_errors.file
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        if header != COLUMNS or [int(epoch) for epoch, _ in rows] != list(range(1, len(rows) + 1)):
            raise ValueError(f"expected the columns {','.join(COLUMNS)}, and every epoch from 1 on")
        return [float(error) for _, error in rows]
    except (OSError, ValueError) as error:
        raise RecipeError(f"catalog file {path.name}: {error}") from error


def compare_curves(curve: Curve, published: list[float]) -> CurveComparison | None:
    """The later half of the epochs that both have; None if these are fewer than two, or nothing was validated."""
    last = min(len(curve.epoch), len(published))
    first = last // 2 + 1
    if curve.valid_error is UNSET or last - first < 1:
        return None
    return CurveComparison(first, last, _stretch(curve.valid_error, first, last), _stretch(published, first, last))


def _stretch(errors: list[float], first: int, last: int) -> Stretch:
    chosen = errors[first - 1 : last]
    return Stretch(statistics.fmean(chosen), statistics.stdev(chosen))


def _as_published(recipe: Recipe) -> bool:
    if any(difference.key != "train.epochs" for difference in recipe.differences):
        return False
    rates = zip(learning_rates(recipe.train), learning_rates(recipe.published.train), strict=False)
    return all(here == theirs for here, theirs in rates)
