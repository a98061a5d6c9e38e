"""How often the rule for groups says what, simulated: the rates that docs/verdicts.md states."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.verdict.group import RULES, TWO_LOOKS, Bounds
from results import statistics

SIGMA = 1.0  # the true standard deviation of a run's error over seeds; the images tell it
MARGIN = 2 * 2**0.5 * SIGMA  # two binomial standard errors, each sqrt(2) sigma
# True shift in sigma -> rates of "reproduced", "not reproduced", neither, with 3, 5, 10 runs; the claim is one run with
# the same noise. "reproduced, and better" is neither.
RATES = {
    0.0: ((0.86, 0.00, 0.14), (0.93, 0.00, 0.07), (0.97, 0.00, 0.03)),
    1.5: ((0.57, 0.02, 0.41), (0.68, 0.03, 0.30), (0.77, 0.04, 0.20)),
    2 * 2**0.5: ((0.17, 0.17, 0.66), (0.23, 0.23, 0.54), (0.30, 0.30, 0.40)),
    4.0: ((0.03, 0.52, 0.45), (0.04, 0.63, 0.34), (0.05, 0.72, 0.23)),
    4 * 2**0.5: ((0.00, 0.93, 0.07), (0.00, 0.97, 0.03), (0.00, 0.99, 0.01)),
}
FEWER = 20_000  # simulations, within +-0.02: every time; ten times as many, within +-0.01, at night


@functools.cache
def noise(simulations: int) -> tuple[np.ndarray, np.ndarray]:
    """The claims' (simulations,) and the runs' (simulations, 10) distances from their expected errors."""
    random = np.random.RandomState(20)
    return random.standard_normal(simulations) * SIGMA, random.standard_normal((simulations, 10)) * SIGMA


def holding(
    claims: np.ndarray | float, errors: np.ndarray, *, prior: bool = True, level: float = statistics.ONE_SIDED
) -> dict[str, np.ndarray]:
    """Of each simulation, by word, whether its rule holds; as `benchmarks.verdict.group` judges one."""
    n, mean, sample = errors.shape[1], errors.mean(axis=1), errors.var(axis=1, ddof=1)
    holds = statistics.is_independent(sample, n, SIGMA) & prior
    found = {}
    for degrees in (statistics.PRIOR_DEGREES, 0):
        interval = statistics.interval(mean, statistics.pooled_variance(sample, n, SIGMA, degrees), n, level)
        bounds = Bounds(*interval, claims - MARGIN, claims + MARGIN)
        found[degrees] = {word: rule(bounds) for word, rule in RULES}
    return {word: np.where(holds, found[statistics.PRIOR_DEGREES][word], found[0][word]) for word, _ in RULES}


def rates(shift: float, runs: int, simulations: int, *, prior: bool = True) -> list[float]:
    claims, errors = noise(simulations)
    words = holding(claims, errors[:, :runs] + shift, prior=prior)
    decided = np.zeros(simulations, dtype=bool)
    for word, is_so in words.items():
        assert not (decided & is_so).any(), word  # at most one rule holds
        decided |= is_so
    one, other = words["reproduced"].mean(), words["not reproduced"].mean()
    return [one, other, 1 - one - other]


def differences(simulations: int) -> float:
    found = {shift: [rates(shift, n, simulations) for n in (3, 5, 10)] for shift in RATES}
    return max(np.abs(np.array(found[shift]) - np.array(RATES[shift])).max() for shift in RATES)


def test_the_rates_are_those_that_are_stated() -> None:
    assert differences(FEWER) < 0.02


def test_the_rates_in_the_documentation_are_these() -> None:
    text = (Path(__file__).parents[3] / "docs" / "verdicts.md").read_text()
    rows = re.findall(r"^\| (?:0|[\d.]* ?d) \| (\.\d\d.*) \|$", text, re.MULTILINE)
    found = [[[float(rate) for rate in cell.split(" / ")] for cell in row.split(" | ")] for row in rows]
    assert np.abs(np.array(found) - np.array(list(RATES.values()))).max() <= 0.01001


@pytest.mark.nightly
def test_the_rates_are_those_that_are_stated_to_one_percent() -> None:
    assert differences(10 * FEWER) < 0.01
    assert rates(0.0, 3, 10 * FEWER, prior=False)[0] == pytest.approx(0.68, abs=0.01)
    assert rates(0.0, 5, 10 * FEWER, prior=False)[0] == pytest.approx(0.91, abs=0.01)


@pytest.mark.parametrize(
    ("sizes", "prior", "both", "late"),
    [
        ((5, 10), True, 0.05, 0.061),
        ((5, 10), False, 0.05, 0.067),
        ((3, 5), True, 0.04, 0.048),
        ((3, 5), False, 0.05, 0.066),
    ],
)
def test_two_looks_err_in_five_of_a_hundred_cases(
    sizes: tuple[int, int], prior: bool, both: float, late: float
) -> None:
    _, errors = noise(10 * FEWER)
    edge = errors + MARGIN
    at_once = holding(0.0, edge[:, : sizes[0]], prior=prior)["reproduced"]
    first, second = (holding(0.0, edge[:, :n], prior=prior, level=TWO_LOOKS[prior])["reproduced"] for n in sizes)
    assert at_once.mean() < 0.0515
    assert (first | second).mean() == pytest.approx(both, abs=0.003)
    assert (at_once | second).mean() == pytest.approx(late, abs=0.003)
