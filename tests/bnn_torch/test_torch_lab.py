"""The PyTorch engine against loss-aware binarization's training step in float64 NumPy."""

from __future__ import annotations

import functools

import lab_reference as reference
import pytest

from benchmarks.engine import open_engine

pytestmark = pytest.mark.torch
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def opened(request) -> reference.Opened:
    return functools.partial(open_engine, "torch", device=request.param, compile="off")


@pytest.mark.parametrize("case", reference.CASES)
def test_three_steps(case, opened):
    reference.check_three_steps(case, opened)
