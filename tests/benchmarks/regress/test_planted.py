"""Each planted defect is found, by the name of a benchmark and of a figure. planted.py plants them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.recipe import benchmark_ids
from benchmarks.regress import rules
from benchmarks.regress.figures import Figure
from results.statistics import student_t_quantile

DRIVER = Path(__file__).with_name("planted.py")
# defect -> the benchmark and the kind of the figure that is the alarm
EXPECTED = {
    "lr scale left out": ("binaryconnect-mnist-deterministic", "accuracy"),
    "clip left out": ("binaryconnect-paper-mnist", "accuracy"),
    "wrong evaluation weights": ("binaryconnect-mnist", "accuracy"),
    "average of the variance": ("binaryconnect-mnist-deterministic", "accuracy"),
    "no shuffle": ("binarynet-torch7-mnist", "accuracy"),
    "gradient doubled": ("rwth-lenet5-mnist-float", "accuracy"),
    "half of the errors counted": ("chawla-mlp-mnist-float", "accuracy"),
    "pooling after activation": ("rwth-lenet5-mnist-binary", "bits"),
    "sign(0) = 0": ("rwth-lenet5-mnist-xnor", "bits"),
    "contrast without mean": ("binaryconnect-svhn-none", "bits"),
    "slow kernel": ("rwth-lenet5-mnist-float", "speed"),
    "leak": ("binarynet-torch7-mnist", "memory"),
}

pytestmark = pytest.mark.slow


def planted(*defects: str) -> dict[str, Figure]:
    """What a process that plants one after another finds."""
    command = [sys.executable, str(DRIVER), *defects]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = (line.split("\t") for line in result.stdout.splitlines())
    return {name: msgspec.json.decode(figure, type=Figure) for name, figure in lines}


@pytest.fixture(scope="module")
def found() -> dict[str, Figure]:
    """Of all defects but the leak, whose process must be its own: what a process has had once, it has had."""
    return planted(*(name for name in EXPECTED if name != "leak"))


@pytest.mark.parametrize("defect", [name for name in EXPECTED if name != "leak"])
def test_a_defect_is_an_alarm(defect, found):
    figure = found[defect]
    assert (figure.benchmark, figure.kind, figure.word) == (*EXPECTED[defect], "alarm")
    if figure.kind == "accuracy" and defect != "half of the errors counted":  # which needs no band
        # Also among all benchmarks, where Holm's limit is wider.
        alone, among = (
            student_t_quantile(1 - rules.ALPHA / (2 * count), rules.REFERENCE_SEEDS - 1)
            for count in (1, len(benchmark_ids()))
        )
        assert figure.excess > among / alone


def test_a_leak_is_an_alarm():
    figure = planted("leak")["leak"]
    assert (figure.benchmark, figure.kind, figure.word) == (*EXPECTED["leak"], "alarm")
