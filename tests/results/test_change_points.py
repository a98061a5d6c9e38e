"""Changes of level: found where they are, not where they are not, and by the figures alone."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from results.change_points import LEVEL, SHORTEST, _energies, _welch, change_points


def drawn(seed: int, count: int, step_at: int | None = None, step: float = 0.0) -> list[float]:
    generator = random.Random(seed)
    return [generator.gauss(step if step_at is not None and i >= step_at else 0.0, 1) for i in range(count)]


def test_a_step_is_found_where_it_is():
    figures = [1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 1.0, 2.0, 2.1, 1.9, 2.0, 2.1]
    (change,) = change_points(figures)
    assert change.position == 7
    assert (change.before, change.after) == (pytest.approx(1.0), pytest.approx(2.02))
    assert change.p_value < LEVEL


def test_two_steps():
    assert [c.position for c in change_points([0.0] * 8 + [5.0] * 8 + [2.0] * 8)] == [8, 16]


def test_few_figures_have_no_change():
    assert change_points([0.0] * 4 + [9.0] * 5) == []


def test_constant_figures_have_no_change():
    assert change_points([0.1] * 30) == []


def test_false_alarms_are_as_rare_as_declared():
    alarms = sum(bool(change_points(drawn(seed, 20))) for seed in range(500))
    assert alarms <= 20  # 1.8 % are 9


def test_a_step_of_three_deviations_is_seldom_missed():
    assert sum(bool(change_points(drawn(seed, 20, 10, 3.0))) for seed in range(100)) >= 90


@given(st.integers(0, 1000), st.floats(-100, 100), st.sampled_from([0.125, 2.0, 1024.0]))
def test_units_and_origin_do_not_matter(seed, origin, unit):
    figures = drawn(seed, 15, 7, 4.0)
    moved = change_points([origin + unit * figure for figure in figures])
    assert [change.position for change in moved] == [change.position for change in change_points(figures)]


@example([0.0] * 9 + [5.6e-121])
@example([0.0] * 7 + [5e-324] * 5)
@given(st.lists(st.floats(-10, 10), min_size=10, max_size=25))
def test_changes_are_never_nearer_than_the_shortest_segment(figures):
    ends = [0, *(change.position for change in change_points(figures)), len(figures)]
    assert all(later - earlier >= SHORTEST for earlier, later in itertools.pairwise(ends))


@given(st.lists(st.floats(-10, 10), min_size=6, max_size=20))
def test_the_energy_of_every_cut_is_as_it_is_defined(figures):
    def mean_distance(left, right):
        return sum(abs(x - y) for x in left for y in right) / (len(left) * len(right))

    for at, energy in _energies(figures).items():
        left, right = figures[:at], figures[at:]
        same = sum(mean_distance(part, part) * len(part) / (len(part) - 1) for part in (left, right))  # but itself
        expected = at * len(right) / len(figures) * (2 * mean_distance(left, right) - same)
        assert energy == pytest.approx(expected, abs=1e-9)


def test_welch_is_scipys():
    left, right = drawn(1, 7), drawn(2, 9, 0, 1.0)
    assert _welch(left, right) == pytest.approx(stats.ttest_ind(left, right, equal_var=False).pvalue)
