"""The Gluon engine against Brevitas, step by step (tests/golden/finn)."""

from __future__ import annotations

import functools

import finn_cases as cases
import pytest

from benchmarks.engine import open_engine

OPENED: cases.Opened = functools.partial(open_engine, "gluon")


@pytest.fixture(params=cases.CASES)
def reference(request) -> cases.Reference:
    return cases.Reference(request.param, OPENED)


def test_first_loss_and_gradients(reference):
    cases.check_first_loss_and_gradients(reference)


def test_three_steps(reference):
    cases.check_three_steps(reference)


def test_evaluation(reference):
    cases.check_evaluation(reference)
