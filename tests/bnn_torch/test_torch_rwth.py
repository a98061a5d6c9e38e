"""The PyTorch engine against RWTH-IDS' own PyTorch code, step by step (tests/golden/rwth)."""

from __future__ import annotations

import pytest
import rwth_cases as cases

pytestmark = pytest.mark.torch


@pytest.fixture(params=cases.CASES)
def reference(request, opened) -> cases.Reference:
    return cases.Reference(request.param, opened)


def test_first_loss_and_gradients(reference):
    cases.check_first_loss_and_gradients(reference)


def test_three_steps(reference):
    cases.check_three_steps(reference)


def test_evaluation(reference):
    cases.check_evaluation(reference)
