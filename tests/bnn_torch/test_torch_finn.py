"""The PyTorch engine against Brevitas, step by step (tests/golden/finn)."""

from __future__ import annotations

import functools

import finn_cases as cases
import pytest

from benchmarks.engine import open_engine

pytestmark = pytest.mark.torch
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def opened(request) -> cases.Opened:
    return functools.partial(open_engine, "torch", device=request.param, compile="off")


@pytest.fixture(params=cases.CASES)
def reference(request, opened) -> cases.Reference:
    return cases.Reference(request.param, opened)


def test_first_loss_and_gradients(reference):
    cases.check_first_loss_and_gradients(reference)


def test_three_steps(reference):
    cases.check_three_steps(reference)


def test_evaluation(reference):
    cases.check_evaluation(reference)
