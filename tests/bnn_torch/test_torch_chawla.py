"""The PyTorch engine against akshaychawla's training step in float64 NumPy."""

from __future__ import annotations

import chawla_reference as reference
import pytest

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("case", reference.CASES)
def test_three_steps(case, opened):
    reference.check_three_steps(case, opened)


@pytest.mark.parametrize("case", ["mlp float", "mlp binary"])
def test_the_output_layer_stays_as_it_is(case, opened):
    reference.check_output_layer_stays(case, opened)


def test_a_last_smaller_batch(opened):
    reference.check_last_smaller_batch(opened)
