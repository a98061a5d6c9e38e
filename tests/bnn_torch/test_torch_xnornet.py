"""The PyTorch engine against XNOR-Net-PyTorch's training, step by step (tests/golden/xnornet), and one in NumPy."""

from __future__ import annotations

import pytest
import xnornet_cases as cases
import xnornet_reference

pytestmark = pytest.mark.torch


@pytest.fixture(params=cases.CASES)
def reference(request, opened) -> cases.Reference:
    return cases.Reference(request.param, opened)


def test_one_step_in_numpy(opened):
    xnornet_reference.check_one_step(opened)


def test_first_step(reference):
    cases.check_first_step(reference)


def test_epochs(reference):
    cases.check_epochs(reference)


def test_evaluation(reference):
    cases.check_evaluation(reference)
