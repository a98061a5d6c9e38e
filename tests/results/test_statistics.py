"""Numbers for verdicts, against published tables, SciPy and definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import statistics
from results.statistics import Interval, Variance

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(
    ("probability", "degrees", "table"),
    [(0.95, 1, 6.314), (0.95, 4, 2.132), (0.95, 8, 1.860), (0.975, 8, 2.306), (0.99, 10, 2.764), (0.95, 120, 1.658)],
)
def test_quantiles_of_student_s_t_are_those_of_the_tables(probability: float, degrees: int, table: float) -> None:
    assert statistics.student_t_quantile(probability, degrees) == pytest.approx(table, abs=5e-4)


@pytest.mark.parametrize(("degrees", "table"), [(1, 6.635), (2, 9.210), (4, 13.277), (9, 21.666), (30, 50.892)])
def test_points_of_chi_squared_are_those_of_the_tables(degrees: int, table: float) -> None:
    assert statistics.chi_squared_quantile(0.99, degrees) == pytest.approx(table, abs=5e-4)


@given(st.floats(0.5, 0.9999), st.integers(1, 300), st.integers(0, 40), st.integers(1, 40))
def test_distributions_are_scipy_s(probability: float, degrees: int, count: int, others: int) -> None:
    value = statistics.student_t_quantile(probability, degrees)
    assert value == pytest.approx(scipy_stats.t.ppf(probability, degrees), rel=1e-9, abs=1e-9)
    assert statistics.student_t_tail(value, degrees) == pytest.approx(1 - probability, rel=1e-9)
    assert statistics.student_t_tail(-value, degrees) == pytest.approx(probability)
    point = statistics.chi_squared_quantile(probability, degrees)
    assert point == pytest.approx(scipy_stats.chi2.ppf(probability, degrees), rel=1e-9)
    proportion = scipy_stats.binomtest(count, count + others).proportion_ci(method="exact")
    assert statistics.clopper_pearson(count, count + others) == pytest.approx(tuple(proportion), abs=1e-9)
    both = scipy_stats.binomtest(count, count + others)
    assert statistics.mcnemar(count, others) == pytest.approx(both.pvalue)


def test_none_of_five_may_still_be_half() -> None:
    assert statistics.clopper_pearson(0, 5) == pytest.approx((0, 0.5218), abs=1e-4)
    assert statistics.clopper_pearson(1, 5) == pytest.approx((0.0051, 0.7164), abs=1e-4)


def test_standard_error_is_binomial() -> None:
    assert statistics.binomial_standard_error(115, 10_000) == pytest.approx(100 * math.sqrt(0.0115 * 0.9885 / 10_000))
    assert statistics.binomial_standard_error(0, 10) == statistics.binomial_standard_error(10, 10) == 0


def test_a_margin_covers_the_paper_s_own_uncertainty() -> None:
    assert statistics.margin(8.27, 10_000) == pytest.approx(0.5509, abs=1e-4)
    assert statistics.margin(8.27, 10_000, 3.0) == pytest.approx(1.5 * 0.5509, abs=2e-4)
    assert statistics.margin(8.27, 10_000, deviation=0.1, runs=4) == statistics.margin(8.27, 10_000)
    assert statistics.margin(8.27, 10_000, deviation=0.6, runs=4) == pytest.approx(2.6 * 0.3)


@given(st.lists(st.lists(st.booleans(), min_size=30, max_size=30), min_size=2, max_size=6))
def test_share_of_images_on_which_runs_differ(outcomes: list[list[bool]]) -> None:
    numbers = [int("".join("01"[right] for right in one), 2) for one in outcomes]
    pairs = [np.mean(np.array(a) != np.array(b)) for i, a in enumerate(outcomes) for b in outcomes[:i]]
    assert statistics.differing_share(numbers, 30) == pytest.approx(np.mean(pairs))


def test_two_runs_tell_the_seed_noise_of_independent_errors() -> None:
    """As simulated for this project: 1.4 to 3.5 % off from two runs, where their own deviation is 77 % off."""
    random = np.random.RandomState(1)
    images, pairs = 10_000, 200
    probability = random.beta(0.08, 0.9, images)
    true = 100 * math.sqrt(np.sum(probability * (1 - probability))) / images
    found = []
    for _ in range(pairs):
        first, second = (np.packbits(random.random_sample(images) < probability).tobytes() for _ in range(2))
        outcomes = [int.from_bytes(run, "big") for run in (first, second)]
        found.append(statistics.independent_deviation(statistics.differing_share(outcomes, images), images))
    assert np.mean(found) == pytest.approx(true, rel=0.01)
    assert 0.014 < np.std(found) / true < 0.035


def test_pooled_variance_and_interval() -> None:
    errors = [8.23, 8.38, 8.41, 8.50, 8.53]
    variance = statistics.pooled_variance(np.var(errors, ddof=1), 5, 0.19, 4)
    assert variance == pytest.approx(((4 * 0.19**2 + 4 * np.var(errors, ddof=1)) / 8, 8))
    interval = statistics.interval(8.41, variance, 5)
    assert interval.upper - 8.41 == pytest.approx(1.8595 * math.sqrt(variance.value / 5), abs=1e-5)
    assert interval.lower + interval.upper == pytest.approx(2 * 8.41)
    assert statistics.tail(interval.upper - 8.41, variance, 5) == pytest.approx(0.05)


def test_without_a_prior_the_interval_is_student_s() -> None:
    errors = [1.0, 1.2, 1.1, 1.4]
    interval = statistics.interval(np.mean(errors), statistics.pooled_variance(np.var(errors, ddof=1), 4), 4)
    expected = scipy_stats.t.interval(0.9, 3, np.mean(errors), scipy_stats.sem(errors))
    assert interval == pytest.approx(expected)


def test_seeds_that_differ_more_than_independent_errors_are_found() -> None:
    assert statistics.is_independent(0.13276, 5, math.sqrt(0.04))
    assert not statistics.is_independent(0.1328, 5, math.sqrt(0.04))
    assert statistics.is_independent(0.0, 2, 0.0)


@given(st.floats(-0.6, 0.6), st.floats(0.001, 1.0), st.integers(2, 10), st.sampled_from([0, 4]))
def test_so_many_more_runs_are_the_fewest_that_are_enough(distance: float, value: float, runs: int, prior: int) -> None:
    variance = Variance(value, prior + runs - 1)
    more = statistics.more_runs(distance, 0.55, variance, runs)
    if abs(distance) >= 0.55:
        assert more is None
    elif more is not None and more < 10_000:
        ends = [
            statistics.interval(distance, Variance(value, variance.degrees + k), runs + k)
            for k in (more, max(more - 1, 0))
        ]
        inside = [end.lower >= -0.55 and end.upper <= 0.55 for end in ends]
        assert inside == [True, more == 0]


def test_holm_as_in_its_definition() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([]) == []
    assert statistics.holm([0.7, 0.6]) == [1.0, 1.0]


def test_difference_of_groups_and_prediction() -> None:
    interval = statistics.difference((8.5, 8.2), (0.2, 0.1), (5, 10))
    half = 1.959964 * math.sqrt(0.04 / 5 + 0.01 / 10)
    assert interval == pytest.approx(Interval(0.3 - half, 0.3 + half))
    distance = statistics.plausible_distance(Variance(0.04, 8), 5)
    assert distance == pytest.approx(2.306004 * 0.2 * math.sqrt(1.2), rel=1e-6)


def test_the_best_of_k_runs() -> None:
    random = np.random.RandomState(1).standard_normal((200_000, 10))
    for k in (2, 3, 5, 10):
        assert statistics.BEST_OF[k] == pytest.approx(-random[:, :k].min(axis=1).mean(), abs=0.01)
