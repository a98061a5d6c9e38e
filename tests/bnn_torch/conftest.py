"""Fixtures for the tests of the PyTorch engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.engine import open_engine


@pytest.fixture(
    params=[pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)],
)
def opened(request) -> Callable[..., Any]:
    """opened(model, image shape, seed): an engine that is not compiled, on each device."""
    return functools.partial(open_engine, "torch", device=request.param, compile="off")
