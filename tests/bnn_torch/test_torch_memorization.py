"""The PyTorch engine against the memorization experiments' training step in float64 NumPy."""

from __future__ import annotations

import memorization_reference as reference
import pytest

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("case", reference.CASES)
def test_three_steps(case, opened):
    reference.check_three_steps(case, opened)
