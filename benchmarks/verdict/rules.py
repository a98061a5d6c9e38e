"""What "reproduced" means, statistically. Verdicts are derived when a record is read, and stand in none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from benchmarks.errors import RecipeError
from benchmarks.recipe import Target
from benchmarks.recipe.versions import current, versions
from results.entries import Run
from results.record import Counted, Record
from results.statistics import binomial_standard_error

RULE = 1  # goes up when the rule changes, so that a verdict that somebody quoted can be told from today's

Word = Literal["reproduced", "not reproduced", "inconclusive", "suspiciously good", "no published target", "not scored"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of one run; margin and standard_error (binomial, of the measured error) in percentage points."""

    rule: int = RULE
    word: Word
    provisional: bool
    margin: float | None
    standard_error: float | None
    explanation: str


def judge_run(record: Run, target: Target | None) -> Verdict:
    """The verdict on one run against the published error, always provisional: one seed says little of the spread.

    The margin is what counts as equivalent: `margin_standard_errors` (2) binomial standard errors of the published
    error on the test set, unless the recipe declares another. Both networks were tested on the same images, and what
    lies between them is the seed: with independent errors two of these are two standard deviations of the difference
    of two single runs (`results.statistics.margin`). What registered seeds come to, `benchmarks.verdict.group` judges.
    Below the margin the run is "suspiciously good":
    a finding to explain, as is the opposite. A run at published settings that diverged did not reproduce, however good
    it was before. Without a published number there is nothing to judge: "no published target".
    """
    margin, results = None, record.results
    word: Word
    if not record.recipe.scoring:
        word, explanation = "not scored", f"not as published: {', '.join(d.key for d in record.recipe.differences)}"
    elif target is None:
        word, explanation = "no published target", "no number was published: the run is recorded as measured"
    elif results is None:
        word, explanation = "not reproduced", "diverged in the first epoch"
    elif record.outcome == "diverged":
        word, explanation = "not reproduced", f"diverged after epoch {results.last.epoch}"
    else:
        word, margin, explanation = _compare(target, results.counted)
    counted = None if results is None else results.counted
    error = None if counted is None else binomial_standard_error(counted.test_wrong, counted.test_images)
    return Verdict(word=word, provisional=True, margin=margin, standard_error=error, explanation=explanation)


def _compare(target: Target, measured: Counted) -> tuple[Word, float, str]:
    places = target.decimals + 1
    margin = target.margin(measured.test_images)
    difference = measured.test_error - target.percent
    word: Word = "reproduced"
    if abs(difference) > margin:
        word = "not reproduced" if difference > 0 else "suspiciously good"
    explanation = (
        f"{measured.test_error:.{places}f} % against {target.test_error} %: {difference:+.{places}f} points, margin"
        f" {margin:.{places}f} ({target.margin_standard_errors:g} binomial standard errors of the target on"
        f" {measured.test_images:,} images); one seed"
    )
    return word, margin, explanation


def target_of(record: Run) -> Target | None:
    """The target that the record itself states, of a benchmark that the catalog does not have."""
    target = record.target
    if target.test_error is None:
        return None
    return Target(test_error=f"{target.test_error:.{target.decimals}f}", source=target.source, provenance=target.kind)


def check_record(record: Record) -> Iterator[tuple[str, str]]:
    """What in a record does not follow from its settings and the catalog, as (field, message) pairs for `verify`.

    A record of an earlier version of its catalog entry is held to that version.
    """
    from benchmarks.verdict import expectations  # with NumPy, which verdicts do without

    then = versions().get((record.benchmark, record.recipe.version))
    latest = current(record.benchmark)
    if latest is not None and then is None:
        yield "recipe.version", f"is {record.recipe.version}, the catalog's versions go up to {latest.version}"
        return
    try:
        recipe = expectations.recipe_of(record)
    except RecipeError as error:
        if then is None or then == latest:
            yield "recipe.settings", str(error)
        else:  # an earlier version's settings may not fit this program any more
            yield from _check_earlier(record, then.digest, then.test_error)
        return
    if record.recipe.digest != recipe.digest:
        yield "recipe.digest", f"is {record.recipe.digest}, expected {recipe.digest}"
        return
    if then is not None and then != latest:
        yield from _check_earlier(record, then.digest, then.test_error)
    elif record.recipe.scoring != recipe.scoring:
        yield "recipe.scoring", f"is {record.recipe.scoring}, but the catalog makes it {recipe.scoring}"
    else:
        yield from expectations.of_catalog(record, recipe)
    yield from expectations.of_settings(record, recipe)


def _check_earlier(record: Record, digest: str, test_error: str) -> Iterator[tuple[str, str]]:
    scoring, published = record.recipe.digest == digest, float(test_error) if test_error else None
    if record.recipe.scoring != scoring:
        yield "recipe.scoring", f"is {record.recipe.scoring}, but version {record.recipe.version} makes it {scoring}"
    elif record.target.test_error != published:
        yield "target.test_error", f"is {record.target.test_error}, in version {record.recipe.version} {published}"
