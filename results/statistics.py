"""Numbers for verdicts: standard errors, intervals, tests. No words here: `benchmarks.verdict` judges.

Errors are in percent and variances in percent squared, unless a docstring says otherwise. Functions of plain arithmetic
take NumPy arrays too, element by element. Pure Python, because `list` and `check` answer before SciPy would be loaded.

Sources: K. Jordan, arXiv 2304.01910 (errors of runs on images are nearly independent); G. K. Smyth 2004, "Linear models
and empirical Bayes methods" (a variance pooled with a prior one); Schuirmann 1987 (two one-sided tests); Clopper and
Pearson 1934; McNemar 1947; Holm 1979; Numerical Recipes 6.2 and 6.4 (incomplete gamma and beta functions).
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

PRIOR_DEGREES = 4  # what the seed noise from two runs' images counts for, in degrees of freedom
ONE_SIDED = 0.05  # of each of the two one-sided tests: the interval is one of 90 %
CHECK_POINT = 0.99  # of chi squared: beyond it the errors of runs are not independent
PUBLISHED_SPREAD = 2.6  # standard errors of a paper's own mean that a margin covers at least
# Expected minimum of k standard normal numbers, with the sign turned: how far the best of k runs lies below their mean.
BEST_OF = {1: 0.0, 2: 0.5642, 3: 0.8463, 4: 1.0294, 5: 1.1630, 6: 1.2672, 7: 1.3522, 8: 1.4236, 9: 1.4850, 10: 1.5388}


class Variance(NamedTuple):
    """An estimated variance of one run's error, and its degrees of freedom."""

    value: float
    degrees: float


class Interval(NamedTuple):
    """An interval from `lower` to `upper`."""

    lower: float
    upper: float


# -- one test set ------------------------------------------------------------------------------------------------------


def binomial_standard_error(wrong: float, images: int) -> float:
    """The binomial standard error, in percentage points, of `wrong` errors among `images`."""
    share = wrong / images
    return 100 * math.sqrt(share * (1 - share) / images)


def margin(
    claim: float, images: int, standard_errors: float = 2.0, deviation: float | None = None, runs: int = 1
) -> float:
    """How far (percentage points) an expected error may lie from a claim in percent that it reproduces.

    So many binomial standard errors of the claim. With independent errors a run's standard deviation over seeds is
    about 1 / sqrt(2) of that standard error (arXiv 2304.01910), so that two of them are two standard deviations of the
    difference of two single runs.

    Args:
        deviation: of `runs` runs, where the paper gives it: the margin is then no less than its mean's uncertainty.
    """
    published = 0.0 if deviation is None else PUBLISHED_SPREAD * deviation / math.sqrt(runs)
    return max(standard_errors * binomial_standard_error(claim / 100 * images, images), published)


# -- seed noise --------------------------------------------------------------------------------------------------------


def differing_share(outcomes: Sequence[int], images: int) -> float:
    """Share of the images on which two runs differ, averaged over all pairs of at least two runs.

    Args:
        outcomes: of each run, which images are right: a number with a bit for each image.
    """
    pairs = [(one ^ other).bit_count() for one, other in itertools.combinations(outcomes, 2)]
    return statistics.fmean(pairs) / images


def independent_deviation(differing: float, images: int) -> float:
    """Standard deviation of one run's error over seeds, if runs err independently on each image.

    Runs differ on an image that one gets wrong with probability p with probability 2 p (1 - p); the variance of the
    number of errors is the sum of all p (1 - p). So it follows from two runs what otherwise takes dozens.

    Args:
        differing: as `differing_share` gives it.
    """
    return 100 * math.sqrt(differing / (2 * images))


def is_independent(sample_variance: float, runs: int, deviation: float) -> bool:
    """Whether `runs` errors vary no more than independent errors on images of that standard deviation explain."""
    return (runs - 1) * sample_variance <= chi_squared_quantile(CHECK_POINT, runs - 1) * deviation**2


def pooled_variance(sample_variance: float, runs: int, deviation: float = 0.0, prior: float = 0.0) -> Variance:
    """The variance of `runs` errors (with ddof 1), pooled with deviation^2, which counts as `prior` degrees of freedom.

    One run has no variance of its own: `sample_variance` is then of no account.
    """
    degrees = prior + runs - 1
    own = (runs - 1) * sample_variance if runs > 1 else 0.0
    return Variance((prior * deviation**2 + own) / degrees, degrees)


def interval(mean: float, variance: Variance, runs: int, one_sided: float = ONE_SIDED) -> Interval:
    """The interval of the expected error: each end is that of a one-sided test of this level."""
    error: float = (variance.value / runs) ** 0.5
    half = student_t_quantile(1 - one_sided, variance.degrees) * error
    return Interval(mean - half, mean + half)


def tail(distance: float, variance: Variance, runs: int) -> float:
    """Probability of a mean of `runs` runs that lies `distance` or more above the expected error."""
    if variance.value == 0:
        return 0.0 if distance > 0 else 1.0
    return student_t_tail(distance / math.sqrt(variance.value / runs), variance.degrees)


def plausible_distance(variance: Variance, runs: int) -> float:
    """How far a single further run may lie from the mean of `runs`: half of the 95 % prediction interval."""
    return student_t_quantile(0.975, variance.degrees) * math.sqrt(variance.value * (1 + 1 / runs))


def more_runs(distance: float, limit: float, variance: Variance, runs: int) -> int | None:
    """About how many further runs bring the whole interval of the expected error within the margin; None if none do.

    Args:
        distance: of the mean from the claim.
        limit: the margin.
    """
    room = limit - abs(distance)
    if room <= 0:
        return None

    def is_enough(more: int) -> bool:
        quantile = student_t_quantile(1 - ONE_SIDED, variance.degrees + more)
        return bool(quantile * math.sqrt(variance.value / (runs + more)) <= room)

    return _smallest(is_enough)


def _smallest(is_enough: Callable[[int], bool]) -> int:
    """The smallest number from 0 that is enough, where every larger one is too."""
    if is_enough(0):
        return 0
    low, high = 0, 1
    while not is_enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


# -- tests -------------------------------------------------------------------------------------------------------------


def clopper_pearson(count: int, trials: int, confidence: float = 0.95) -> Interval:
    """The interval of the probability (0 to 1) of what happened `count` times in so many trials."""
    rest = (1 - confidence) / 2
    lower = 0.0 if count == 0 else beta_quantile(rest, count, trials - count + 1)
    upper = 1.0 if count == trials else beta_quantile(1 - rest, count + 1, trials - count)
    return Interval(lower, upper)


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Exact two-sided p-value of two networks on the same images, from how many each alone gets right."""
    trials, fewer = first_alone + second_alone, min(first_alone, second_alone)
    below = sum(math.comb(trials, count) for count in range(fewer + 1))
    return min(1.0, 2 * (below / (1 << trials)))


def difference(
    means: tuple[float, float], deviations: tuple[float, float], runs: tuple[int, int], confidence: float = 0.95
) -> Interval:
    """The interval of the difference of two groups' expected errors (first - second)."""
    error = math.sqrt(sum(deviation**2 / n for deviation, n in zip(deviations, runs, strict=True)))
    half = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * error
    between = means[0] - means[1]
    return Interval(between - half, between + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """The adjusted p-values of a family, in the same order."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


# -- distributions -----------------------------------------------------------------------------------------------------


def student_t_tail(value: float, degrees: float) -> float:
    """P(T > value)."""
    half = 0.5 * beta_probability(degrees / (degrees + value * value), degrees / 2, 0.5)
    return half if value >= 0 else 1 - half


@functools.lru_cache(maxsize=4096)
def student_t_quantile(probability: float, degrees: float) -> float:
    """The value that T stays below with this probability, from 0.5 to less than 1."""
    # T^2 / (degrees + T^2) has a beta distribution, and is its own complement: nothing is lost where T is large.
    share = beta_quantile(2 * (1 - probability), degrees / 2, 0.5)
    return math.sqrt(degrees * (1 - share) / share)


@functools.lru_cache(maxsize=4096)
def chi_squared_quantile(probability: float, degrees: int) -> float:
    """The value that chi squared stays below with this probability."""
    high = float(degrees)
    while gamma_probability(degrees / 2, high / 2) < probability:
        high *= 2
    return _root(lambda value: gamma_probability(degrees / 2, value / 2) - probability, 0.0, high)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The value that a beta distribution stays below with this probability."""
    return _root(lambda value: beta_probability(value, a, b) - probability, 0.0, 1.0)


def beta_probability(value: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_value(a, b): the share of a beta distribution below `value`."""
    if value <= 0 or value >= 1:
        return 0.0 if value <= 0 else 1.0
    if value > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - beta_probability(1 - value, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(value) + b * math.log1p(-value)

    def coefficient(m: int) -> float:
        k, is_odd = divmod(m, 2)
        if is_odd:
            return -(a + k) * (a + b + k) * value / ((a + 2 * k) * (a + 2 * k + 1))
        return k * (b - k) * value / ((a + 2 * k - 1) * (a + 2 * k))

    return math.exp(front) / (a * _continued_fraction(1.0, coefficient, lambda _: 1.0))


def gamma_probability(a: float, value: float) -> float:
    """The regularized lower incomplete gamma function P(a, value)."""
    if value <= 0:
        return 0.0
    front = math.exp(a * math.log(value) - value - math.lgamma(a))
    if value < a + 1:
        term = total = 1 / a
        for n in itertools.count(1):
            term *= value / (a + n)
            total += term
            if term < total * 1e-17:
                return front * total
    fraction = _continued_fraction(value + 1 - a, lambda m: -m * (m - a), lambda m: value + 2 * m + 1 - a)
    return 1 - front / fraction


def _continued_fraction(start: float, a: Callable[[int], float], b: Callable[[int], float]) -> float:
    """start + a(1) / (b(1) + a(2) / (b(2) + ...)), by Lentz's method."""
    tiny = 1e-300
    value, c, d = start, start, 0.0
    for m in itertools.count(1):
        d = 1 / ((b(m) + a(m) * d) or tiny)
        c = (b(m) + a(m) / c) or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15 or m == 10_000:
            return value
    raise AssertionError


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, by halving, to the last bits of a double."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
