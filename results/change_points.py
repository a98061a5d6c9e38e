"""Where the level of a series of figures changed: E-divisive, with a t-test in place of permutations.

A segment is cut where the energy distance between its two parts is largest, if a t-test finds their means different;
then each part is looked at in the same way. The result is a function of the figures alone: permutations, which the
original tests with, would need random numbers.

Sources: Matteson and James 2014, "A nonparametric approach for multiple change point analysis" (arXiv 1306.4933);
the t-test in place of permutations as Apache Otava has it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from results.statistics import student_t_tail

FEWEST = 10  # figures: of fewer, no change is looked for
SHORTEST = 3  # figures on each side of a change
# Shared by all cuts of a segment, of which the best is tested. Of drawn series without a change, 1.3 % of 10 figures
# are cut, 1.8 % of 20 and 3.8 % of 50; of 20 figures with a step of three standard deviations in the middle, 98 %.
LEVEL = 0.01


class ChangePoint(NamedTuple):
    """The figures from `position` on have another mean than those before it, back to the change before."""

    position: int
    before: float
    after: float
    p_value: float


def change_points(figures: Sequence[float]) -> list[ChangePoint]:
    """The changes of level, in order; none of fewer than 10 figures."""
    if len(figures) < FEWEST:
        return []
    cuts = sorted(_cuts(figures, 0, len(figures)))
    ends = [0, *(cut for cut, _ in cuts), len(figures)]
    means = [statistics.fmean(figures[start:end]) for start, end in itertools.pairwise(ends)]
    return [ChangePoint(cut, means[i], means[i + 1], p) for i, (cut, p) in enumerate(cuts)]


def _cuts(figures: Sequence[float], start: int, end: int) -> list[tuple[int, float]]:
    """Cuts of a segment with the p-value of each."""
    if end - start < 2 * SHORTEST:
        return []
    energies = _energies(figures[start:end])
    cut = start + max(energies, key=lambda at: (energies[at], -at))
    p_value = _welch(figures[start:cut], figures[cut:end])
    if p_value >= LEVEL / (end - start - 2 * SHORTEST + 1):
        return []
    return [*_cuts(figures, start, cut), (cut, p_value), *_cuts(figures, cut, end)]


def _energies(figures: Sequence[float]) -> dict[int, float]:
    """By cut, the energy distance between its two parts, scaled by their sizes: equation (6) of the source, alpha = 1.

    From one cut to the next a single figure goes from the right part to the left one: of the three sums of distances
    only its own change, so that all cuts together take as many steps as there are pairs.
    """
    within_left, between = 0.0, 0.0
    within_right = sum(abs(x - y) for i, x in enumerate(figures) for y in figures[:i])
    found, total = {}, len(figures)
    for at, figure in enumerate(figures):
        if SHORTEST <= at <= total - SHORTEST:
            left, right = at, total - at
            distance = 2 * between / (left * right) - _mean(within_left, left) - _mean(within_right, right)
            found[at] = left * right / total * distance
        to_left = sum(abs(figure - other) for other in figures[:at])
        to_right = sum(abs(figure - other) for other in figures[at + 1 :])
        within_left, within_right, between = (
            within_left + to_left,
            within_right - to_right,
            between - to_left + to_right,
        )
    return found


def _mean(distances: float, size: int) -> float:
    """Of two different figures of a part."""
    return 2 * distances / (size * (size - 1))


def _welch(left: Sequence[float], right: Sequence[float]) -> float:
    """Two-sided p-value of Welch's t-test; 0 for constants that differ, 1 for equal means."""
    size = max(map(abs, (*left, *right)))
    if size == 0:
        return 1.0
    left, right = ([figure / size for figure in part] for part in (left, right))  # squares of tiny figures would vanish
    difference = statistics.fmean(right) - statistics.fmean(left)
    shares = [statistics.variance(part) / len(part) for part in (left, right)]
    variance = sum(shares)
    if abs(difference) <= 1e-9:  # what rounding makes of equal figures
        return 1.0
    if variance <= (1e-12 * difference) ** 2:
        return 0.0
    degrees = variance**2 / sum(share**2 / (len(part) - 1) for share, part in zip(shares, (left, right), strict=True))
    return 2 * student_t_tail(abs(difference) / math.sqrt(variance), degrees)
