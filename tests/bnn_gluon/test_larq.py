"""The Gluon engine against Larq, step by step (tests/golden/larq)."""

from __future__ import annotations

import functools

import larq_cases as cases
import pytest

from benchmarks.engine import open_engine

OPENED: cases.Opened = functools.partial(open_engine, "gluon")


@pytest.fixture
def reference() -> cases.Reference:
    return cases.Reference(OPENED)


def test_first_step(reference):
    cases.check_first_step(reference)


def test_epoch(reference):
    cases.check_epoch(reference)


def test_evaluation(reference):
    cases.check_evaluation(reference)
