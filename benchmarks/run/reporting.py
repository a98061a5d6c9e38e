"""What is told of a run while it lasts, and what is left of it at its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.recipe import Recipe
from benchmarks.run.folder import RunFolder
from benchmarks.run.published_curve import CurveComparison
from results.record import Record
from results.views.reference import ReferenceCurve


class Reporter(Protocol):
    """Who is told how a run goes."""

    def run_started(
        self, folder: RunFolder, recipe: Recipe, engine: dict[str, Any], epochs_done: int, reference: ReferenceCurve
    ) -> None:
        """Data and engine are ready; `epochs_done` is above 0 if the run goes on; `reference` is of earlier runs."""

    def batch_done(self, batches: int, loss: float) -> None:
        """So many batches of the present epoch are done."""

    def epoch_done(self, row: dict[str, Any], declared_epoch: int) -> None:
        """One entry of the curve, and which epoch would be declared now."""

    def diverged(self, message: str) -> None:
        """The run is over because a loss or a parameter is no finite number."""

    def note(self, message: str) -> None:
        """One line that a user should know, and that stops nothing."""


@dataclass(frozen=True)
class Outcome:
    """A run's record, where it was registered if it was, and how its curve lies to the authors' if they publish it."""

    folder: RunFolder
    record: Record
    registered: Path | None
    comparison: CurveComparison | None = None
