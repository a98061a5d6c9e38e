"""The Gluon engine against the memorization experiments' training step in float64 NumPy."""

from __future__ import annotations

import functools

import memorization_reference as reference
import pytest

from benchmarks.engine import open_engine

OPENED: reference.Opened = functools.partial(open_engine, "gluon")


@pytest.mark.parametrize("case", reference.CASES)
def test_three_steps(case):
    reference.check_three_steps(case, OPENED)
