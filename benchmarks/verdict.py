"""What "reproduced" means, statistically."""

from __future__ import annotations

import math

from benchmarks.recipe import Recipe
from results.record import Results, Verdict, standard_error


def target_standard_error(percent: float, images: int) -> float:
    """Binomial standard error, in percentage points, of a test error of `percent` on a test set of `images`."""
    p = percent / 100
    return 100 * math.sqrt(p * (1 - p) / images)


def judge_run(recipe: Recipe, results: Results | None) -> Verdict:
    """The verdict on one run, always provisional: one seed says little of the method's spread.

    The margin is `margin_standard_errors` (2) binomial standard errors of the published error on the test set: how far two
    networks of the same true error may lie apart by the choice of test images alone. Below the margin the run is
    "suspiciously good": a finding to explain, as is the opposite. A diverged run at published settings did not reproduce.
    """
    error = None if results is None else standard_error(results.declared.test_wrong, results.declared.test_images)
    if not recipe.scoring:
        changed = ", ".join(difference.key for difference in recipe.differences)
        return Verdict(
            word="not scored", provisional=True, margin=None, standard_error=error, explanation=f"not as published: {changed}"
        )
    if recipe.target is None:
        return Verdict(
            word="no target", provisional=True, margin=None, standard_error=error, explanation="no number was published"
        )
    if results is None:
        return Verdict(
            word="not reproduced", provisional=True, margin=None, standard_error=None, explanation="diverged in the first epoch"
        )
    target, point = recipe.target, results.declared
    margin = target.margin_standard_errors * target_standard_error(target.percent, point.test_images)
    difference = point.test_error - target.percent
    explanation = (
        f"{point.test_error:.{target.decimals + 1}f} % against {target.test_error} %: {difference:+.{target.decimals + 1}f}"
        f" points, margin {margin:.{target.decimals + 1}f} ({target.margin_standard_errors:g} binomial standard errors of"
        f" the target on {point.test_images:,} images); one seed"
    )
    return Verdict(word=_word(difference, margin), provisional=True, margin=margin, standard_error=error, explanation=explanation)


def _word(difference: float, margin: float) -> str:
    if difference > margin:
        return "not reproduced"
    return "suspiciously good" if difference < -margin else "reproduced"
