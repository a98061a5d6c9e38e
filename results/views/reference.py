"""The reference curve: where earlier runs, and the authors', were at each epoch, to see whether a run is on track."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import UNSET

from results.record import Record, error_percent
from results.statistics import binomial_standard_error


class Band(NamedTuple):
    """Validation errors (percent) between which an epoch is expected, from so many earlier runs, and the authors'."""

    low: float
    high: float
    runs: int
    authors: bool = False

    def place(self, error: float) -> str:
        """Where an error lies: "within", "above" or "below"."""
        return "above" if error > self.high else "below" if error < self.low else "within"

    @property
    def whose(self) -> str:
        """The runs in words."""
        earlier = [f"{self.runs} earlier run{'s' if self.runs > 1 else ''}"] if self.runs else []
        return " and ".join([*earlier, *(["the authors' run"] if self.authors else [])])


class ReferenceCurve:
    """The bands of the runs of one recipe: those whose settings have the same digest, other seeds included.

    The band of an epoch reaches from the lowest to the highest of the runs' validation errors, and two binomial
    standard errors beyond them: what another network of the same true error may show on these validation images.
    There is none for a recipe without validation images. `published` are the errors (percent) of the authors' own run
    on `valid_images` images, epoch by epoch, where they are known.
    """

    def __init__(
        self, records: Iterable[Record], recipe_digest: str, published: Sequence[float] = (), valid_images: int = 0
    ) -> None:
        fitting = {
            record.weights_sha256 or record.id: record for record in records if record.recipe.digest == recipe_digest
        }
        curves = [(record.curve, record.data.valid.images) for record in fitting.values()]
        self._runs = [(curve.valid_wrong, images) for curve, images in curves if curve.valid_wrong is not UNSET]
        self._published = [(round(error / 100 * valid_images), valid_images) for error in published]

    def band(self, epoch: int) -> Band | None:
        """The band of an epoch (from 1); None if no run got there."""
        earlier = [(wrong[epoch - 1], images) for wrong, images in self._runs if epoch <= len(wrong)]
        authors = self._published[epoch - 1 : epoch]
        errors = [(error_percent(*count), 2 * binomial_standard_error(*count)) for count in earlier + authors]
        if not errors:
            return None
        low, high = min(error - margin for error, margin in errors), max(error + margin for error, margin in errors)
        return Band(max(0.0, low), high, len(earlier), bool(authors))
