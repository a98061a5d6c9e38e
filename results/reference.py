"""The reference curve: where earlier runs of the same recipe were at each epoch, to see whether a run is on track."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET

from results.record import Record, standard_error


class Band(NamedTuple):
    """Validation errors (percent) between which an epoch is expected, from so many earlier runs."""

    low: float
    high: float
    runs: int

    def place(self, error: float) -> str:
        """Where an error lies: "within", "above" or "below"."""
        return "above" if error > self.high else "below" if error < self.low else "within"


class ReferenceCurve:
    """The bands of the runs of one recipe: those whose settings have the same digest, other seeds included.

    The band of an epoch reaches from the lowest to the highest of the runs' validation errors, and two binomial
    standard errors beyond them: what another network of the same true error may show on these validation images.
    There is none for a recipe without validation images.
    """

    def __init__(self, records: Iterable[Record], recipe_digest: str) -> None:
        fitting = {
            record.weights_sha256 or record.id: record for record in records if record.recipe.digest == recipe_digest
        }
        self._records = list(fitting.values())

    def band(self, epoch: int) -> Band | None:
        """The band of an epoch (from 1); None if no earlier run got there."""
        lows, highs = [], []
        for record in self._records:
            curve = record.curve
            if epoch <= len(curve.epoch) and curve.valid_error is not UNSET and curve.valid_wrong is not UNSET:
                error = curve.valid_error[epoch - 1]
                margin = 2 * standard_error(curve.valid_wrong[epoch - 1], record.data.valid.images)
                lows.append(error - margin)
                highs.append(error + margin)
        return Band(max(0.0, min(lows)), max(highs), len(lows)) if lows else None
