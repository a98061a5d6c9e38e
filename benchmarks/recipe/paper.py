"""Where an experiment was published, and the number that is to be reproduced."""

from __future__ import annotations

from typing import Literal

import msgspec

from benchmarks.recipe.settings import Count, Positive
from results.statistics import margin


class Paper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the experiment was published."""

    name: str
    title: str
    url: str
    code: str
    authors: str = ""


class PublishedErrors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Errors that the authors publish for every epoch: a CSV file beside the benchmark's, and where they are from."""

    file: str
    source: str


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The published test error in percent, as printed there ("1.15": its decimals count).

    `provenance` is "read" in the place named, "mem" where that could not be checked, "2nd" if seen only in a secondary
    source. `margin_standard_errors` times the binomial standard error of the target on the test set is the margin
    within which a run reproduces it; `note` gives the reason for another number than two. `standard_deviation`
    (percent) is that of the `runs` whose mean the target is, where the paper gives it. `validation_errors` are those of
    the run whose error this is.
    """

    test_error: str
    source: str
    provenance: Literal["read", "mem", "2nd"]
    note: str = ""
    margin_standard_errors: Positive = 2.0
    standard_deviation: Positive | None = None
    runs: Count = 1
    validation_errors: PublishedErrors | None = None

    @property
    def percent(self) -> float:
        """The target as a number."""
        return float(self.test_error)

    @property
    def decimals(self) -> int:
        """Decimal places that the paper prints."""
        return len(self.test_error.partition(".")[2])

    def margin(self, images: int) -> float:
        """The margin in percentage points on a test set of so many images (`results.statistics.margin`)."""
        return margin(self.percent, images, self.margin_standard_errors, self.standard_deviation, self.runs)

    @property
    def mark(self) -> str:
        """What is printed beside a target that could not be checked: "", " (mem)" or " (2nd)"."""
        return "" if self.provenance == "read" else f" ({self.provenance})"
