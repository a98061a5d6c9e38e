"""What "reproduced" means, statistically."""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks.errors import RecipeError
from benchmarks.recipe import Recipe, Target, recipe_from_settings
from results.record import Record, Results, Verdict, standard_error


def target_standard_error(percent: float, images: int) -> float:
    """Binomial standard error, in percentage points, of a test error of `percent` on a test set of `images`."""
    p = percent / 100
    return 100 * math.sqrt(p * (1 - p) / images)


def judge_run(recipe: Recipe, results: Results | None, outcome: str = "finished") -> Verdict:
    """The verdict on one run, always provisional: one seed says little of the method's spread.

    The margin is `margin_standard_errors` (2) binomial standard errors of the published error on the test set: how far
    two networks of the same true error may lie apart by the choice of test images alone. Below the margin the run is
    "suspiciously good": a finding to explain, as is the opposite. A run at published settings that diverged did not
    reproduce, however good it was before. Without a published number there is nothing to judge: "no published target".
    """
    margin = None
    if not recipe.scoring:
        word, explanation = "not scored", f"not as published: {', '.join(d.key for d in recipe.differences)}"
    elif recipe.target is None:
        word, explanation = "no published target", "no number was published: the run is recorded as measured"
    elif results is None:
        word, explanation = "not reproduced", "diverged in the first epoch"
    elif outcome == "diverged":
        word, explanation = "not reproduced", f"diverged after epoch {results.last.epoch}"
    else:
        word, margin, explanation = _compare(recipe.target, results)
    error = None if results is None else standard_error(results.counted.test_wrong, results.counted.test_images)
    return Verdict(word=word, provisional=True, margin=margin, standard_error=error, explanation=explanation)  # type: ignore[arg-type]


def _compare(target: Target, results: Results) -> tuple[str, float, str]:
    point, places = results.counted, target.decimals + 1
    margin = target.margin_standard_errors * target_standard_error(target.percent, point.test_images)
    difference = point.test_error - target.percent
    word = "reproduced"
    if abs(difference) > margin:
        word = "not reproduced" if difference > 0 else "suspiciously good"
    explanation = (
        f"{point.test_error:.{places}f} % against {target.test_error} %: {difference:+.{places}f} points, margin"
        f" {margin:.{places}f} ({target.margin_standard_errors:g} binomial standard errors of the target on"
        f" {point.test_images:,} images); one seed"
    )
    return word, margin, explanation


def check_record(record: Record) -> Iterator[tuple[str, str]]:
    """What in a record does not follow from its settings and the catalogue, as (field, message) pairs for `verify`."""
    try:
        recipe = recipe_from_settings(record.benchmark, record.recipe.settings, {})
    except RecipeError as error:
        yield "recipe.settings", str(error)
        return
    if record.recipe.scoring != recipe.scoring:
        yield "recipe.scoring", f"is {record.recipe.scoring}, but the catalogue makes it {recipe.scoring}"
        return
    target = recipe.target
    if target is not None and record.target.test_error != target.percent:
        yield "target.test_error", f"is {record.target.test_error}, in the catalogue {target.percent}"
    elif record.verdict != (expected := judge_run(recipe, record.results, record.outcome)):
        yield "verdict", f"is {record.verdict.word!r}, expected {expected}"
