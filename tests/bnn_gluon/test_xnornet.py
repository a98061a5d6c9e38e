"""The Gluon engine against XNOR-Net-PyTorch's training, step by step (tests/golden/xnornet), and one step in NumPy."""

from __future__ import annotations

import functools

import pytest
import xnornet_cases as cases
import xnornet_reference

from benchmarks.engine import open_engine

OPENED: cases.Opened = functools.partial(open_engine, "gluon")


@pytest.fixture(params=cases.CASES)
def reference(request) -> cases.Reference:
    return cases.Reference(request.param, OPENED)


def test_one_step_in_numpy():
    xnornet_reference.check_one_step(OPENED)


def test_the_references_gradients_are_finite_differences():
    xnornet_reference.check_finite_differences(OPENED)


def test_first_step(reference):
    cases.check_first_step(reference)


def test_epochs(reference):
    cases.check_epochs(reference)


def test_evaluation(reference):
    cases.check_evaluation(reference)
