"""The PyTorch engine against Larq, step by step (tests/golden/larq)."""

from __future__ import annotations

import larq_cases as cases
import pytest

pytestmark = pytest.mark.torch


@pytest.fixture
def reference(opened) -> cases.Reference:
    return cases.Reference(opened)


def test_first_step(reference):
    cases.check_first_step(reference)


def test_epoch(reference):
    cases.check_epoch(reference)


def test_evaluation(reference):
    cases.check_evaluation(reference)
