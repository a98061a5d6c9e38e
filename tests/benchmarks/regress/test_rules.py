"""When a difference is an alarm: intervals, screening and confirmation, speed, statistics of images."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.regress import rules
from benchmarks.regress.rules import Band

losses = st.lists(st.floats(0.1, 10), min_size=5, max_size=20)


@given(losses, st.integers(1, 8), st.floats(1e-4, 0.5))
def test_a_loss_is_within_the_limits_where_its_p_value_is_larger(reference, fresh, alpha):
    band = Band.of(reference)
    low, high = band.limits(fresh, alpha)
    assert low < math.exp(band.mean) < high
    for factor, is_larger in ((0.99, True), (1.01, False)):
        inside = math.exp(band.mean + factor * (math.log(high) - band.mean))
        assert (band.p_value([inside] * fresh) > alpha) == is_larger


def test_equal_losses_of_all_seeds_do_not_divide_by_zero():
    band = Band.of([2.0] * 20)
    assert band.p_value([2.0, 2.0]) == 1
    assert not rules.is_suspect(band, [2.0001, 2.0])
    assert rules.is_suspect(band, [2.1, 2.1])


def test_losses_of_all_sizes_have_limits():
    assert Band.of([1e-3, 1e300]).limits(1, 1e-4)[1] > 1e300


def test_a_loss_of_zero_has_a_logarithm():
    assert math.isfinite(Band.of([0.0, 0.1]).p_value([0.0]))


def test_a_seed_that_diverged_is_outside_of_every_interval():
    band = Band.of([1.0, 2.0, 3.0])
    assert band.p_value([None, 2.0]) == 0
    assert rules.geometric_mean([None, 2.0]) == math.inf


BANDS = {f"b{number}": Band.of([0.9, 1.0, 1.1] * 7) for number in range(75)}


def alarms(screened, confirmed):
    nothing = {name: [1.0, 1.0] for name in BANDS}
    return set(rules.alarms(BANDS, nothing | {"b0": screened}, {"b0": confirmed}))


def test_an_alarm_needs_both_on_the_same_side():
    assert alarms([1.5, 1.5], [1.5] * 8) == {"b0"}
    assert alarms([0.5, 0.5], [1.5] * 8) == set()
    assert alarms([1.5, 1.5], [1.0] * 8) == set()


def test_holm_counts_the_benchmarks_that_are_no_suspects():
    barely = math.exp(BANDS["b0"].mean + 3.5 * BANDS["b0"].deviation * math.sqrt(1 / 8 + 1 / 21))
    assert BANDS["b0"].p_value([barely] * 8) < rules.ALPHA
    assert alarms([1.5, 1.5], [barely] * 8) == set()


@pytest.mark.parametrize(("rounds", "allowed"), [([1.0, 9.0] * 5, 0.10), ([1.0] * 5 + [1.2] * 5, 0.24)])
def test_noisy_rounds_allow_more(rounds, allowed):
    assert rules.allowed_slowdown(rounds) == pytest.approx(allowed)


def test_images_of_other_statistics_are_others():
    assert not rules.is_other_data([0.0, 1.0, 0.1], [0.009, 0.991, 0.1])
    assert rules.is_other_data([0.0, 1.0, 0.1], [0.0, 1.0, 0.12])
