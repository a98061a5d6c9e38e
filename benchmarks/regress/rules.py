"""When a measurement differs from its reference by more than it does by itself. Words and sources: docs/regression.md.

An accuracy is the logarithm of a loss, whose noise over seeds is a factor. Two fresh seeds screen each benchmark; eight
others confirm a suspect. Only those eight decide, against a prediction interval with Holm's correction over all
benchmarks, as if each had been confirmed: so false alarms stay below ALPHA whatever the screening does, and a shift of
three standard deviations is found in more than nine of ten runs. One seed to screen and one to confirm find it in one
of twenty.

A step is slow if it is in three processes: between processes it differs by more than between the rounds of one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from results.statistics import holm, student_t_quantile, student_t_tail

ALPHA = 0.01  # false alarms of accuracy among all benchmarks of a run
REFERENCE_SEEDS, SCREENING_SEEDS, CONFIRMING_SEEDS = 20, 2, 8
SCREENING = 0.1  # of all benchmarks that did not change, so many are suspects
LEAST_DEVIATION = 1e-3  # of logarithms: equal losses of all seeds are no proof that there is no noise at all
LEAST_LOSS = 1e-9  # a loss may be 0
SLOWER, LARGER = 0.10, 0.10  # what is allowed at least of speed, and of memory
SPREADS = 1.2  # of the null rounds, which is allowed where it is more
REFERENCE_ROUNDS, ROUNDS = 15, 5
CONFIRMING_PROCESSES = 2  # of speed, each with twice the rounds
OTHER_LOSS = 0.01  # of the first loss; rounding changes the fourth digit, where it turns the sign of an activation
OTHER_DATA = 0.01  # of the images' standard deviation; processors and libraries change the sixth digit


def _logarithm(loss: float) -> float:
    return math.log(max(loss, LEAST_LOSS))


def _loss_of(logarithm: float) -> float:
    return math.exp(min(logarithm, 700))  # exp(710) is no float


class Band(NamedTuple):
    """Losses of a reference: mean and standard deviation of their logarithms, and how many there are."""

    mean: float
    deviation: float
    seeds: int

    @classmethod
    def of(cls, losses: Sequence[float]) -> Band:
        """Of at least two losses."""
        logarithms = [_logarithm(loss) for loss in losses]
        deviation = max(statistics.stdev(logarithms), LEAST_DEVIATION)
        return cls(statistics.fmean(logarithms), deviation, len(losses))

    def _standard_error(self, fresh: int) -> float:
        """Of the difference of the reference's mean and that of so many fresh seeds."""
        return self.deviation * math.sqrt(1 / fresh + 1 / self.seeds)

    def statistic(self, losses: Sequence[float | None]) -> float:
        """How far the mean logarithm of fresh losses lies above the reference's, in standard errors; None: diverged."""
        known = [_logarithm(loss) for loss in losses if loss is not None]
        if len(known) < len(losses):
            return math.inf
        return (statistics.fmean(known) - self.mean) / self._standard_error(len(known))

    def p_value(self, losses: Sequence[float | None]) -> float:
        """Two-sided."""
        statistic = abs(self.statistic(losses))
        return 0.0 if math.isinf(statistic) else 2 * student_t_tail(statistic, self.seeds - 1)

    def limits(self, fresh: int, alpha: float) -> tuple[float, float]:
        """Losses between which the geometric mean of so many fresh seeds lies with probability 1 - alpha."""
        width = student_t_quantile(1 - alpha / 2, self.seeds - 1) * self._standard_error(fresh)
        return _loss_of(self.mean - width), _loss_of(self.mean + width)


def geometric_mean(losses: Sequence[float | None]) -> float:
    """Infinite where a seed diverged."""
    known = [_logarithm(loss) for loss in losses if loss is not None]
    return _loss_of(statistics.fmean(known)) if len(known) == len(losses) else math.inf


def is_suspect(band: Band, losses: Sequence[float | None]) -> bool:
    """Whether the screening seeds of a benchmark ask for confirmation."""
    return band.p_value(losses) < SCREENING


def alarms(
    bands: Mapping[str, Band],
    screened: Mapping[str, Sequence[float | None]],
    confirmed: Mapping[str, Sequence[float | None]],
) -> dict[str, float]:
    """Benchmark -> Holm's p-value, of those that are an alarm.

    Args:
        bands: of all benchmarks of the run.
        screened: their screening seeds' losses.
        confirmed: the confirming seeds' losses of the suspects.
    """
    names = sorted(bands)
    p_values = [bands[name].p_value(confirmed[name]) if name in confirmed else 1.0 for name in names]
    return {
        name: p
        for name, p in zip(names, holm(p_values), strict=True)
        if p < ALPHA and (bands[name].statistic(confirmed[name]) > 0) == (bands[name].statistic(screened[name]) > 0)
    }


def is_other_data(reference: Sequence[float], found: Sequence[float]) -> bool:
    """Whether statistics of images, see `Measured.data`, are those of others."""
    deviations = [deviation for deviation in reference[1::3] for _ in range(3)]
    differences = [abs(one - other) for one, other in zip(reference, found, strict=True)]
    return any(
        difference > OTHER_DATA * deviation for difference, deviation in zip(differences, deviations, strict=True)
    )


def allowed_slowdown(rounds: Sequence[float]) -> float:
    """Share by which a step may be slower than the fastest of the reference's null rounds.

    The spread is that of what is compared, the best of ROUNDS: of single rounds it is that of the worst one, which may
    have met another program, and a step that takes 1.3 times as long would be found in 73 % of runs in place of 97 %.
    """
    best = [min(rounds[start : start + ROUNDS]) for start in range(0, len(rounds), ROUNDS)]
    return max(SLOWER, SPREADS * (max(best) / min(best) - 1))


def slowdown(reference: Sequence[float], rounds: Sequence[float]) -> float:
    """How far the best of some rounds lies above the reference's best, in units of what is allowed."""
    return (min(rounds) / min(reference) - 1) / allowed_slowdown(reference)
