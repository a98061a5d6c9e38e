"""The PyTorch engine against loss-aware binarization's training step in float64 NumPy."""

from __future__ import annotations

import lab_reference as reference
import pytest

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("case", reference.CASES)
def test_three_steps(case, opened):
    reference.check_three_steps(case, opened)
