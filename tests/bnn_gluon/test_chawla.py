"""The Gluon engine against akshaychawla's training step in float64 NumPy."""

from __future__ import annotations

import functools

import chawla_reference as reference
import pytest

from benchmarks.engine import open_engine

OPENED: reference.Opened = functools.partial(open_engine, "gluon")


@pytest.mark.parametrize("case", reference.CASES)
def test_three_steps(case):
    reference.check_three_steps(case, OPENED)


@pytest.mark.parametrize("case", ["mlp float", "mlp binary"])
def test_the_output_layer_stays_as_it_is(case):
    reference.check_output_layer_stays(case, OPENED)


def test_a_last_smaller_batch():
    reference.check_last_smaller_batch(OPENED)
