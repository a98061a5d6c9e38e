"""Max pooling and the two rules of its gradient against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_gluon.kernels import pooling

SIDES = st.integers(2, 9)


def windows(x: np.ndarray, size: int) -> np.ndarray:
    """The windows of x (N, channels, rows, columns): (N, channels, rows', columns', size * size), copies."""
    rows, columns = x.shape[2] // size, x.shape[3] // size
    cut = x[:, :, : rows * size, : columns * size].reshape(*x.shape[:2], rows, size, columns, size)
    return cut.transpose(0, 1, 2, 4, 3, 5).reshape(*x.shape[:2], rows, columns, size * size)


@pytest.mark.parametrize("every", [False, True])
@given(rows=SIDES, columns=st.integers(2, 23), size=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_pooling_and_gradient(every, rows, columns, size, seed):
    """Of whole numbers, so that most windows have ties."""
    size = min(size, rows, columns)
    generator = np.random.default_rng(seed)
    x = generator.integers(-2, 3, (2, 3, rows, columns)).astype(np.float32)
    y = np.empty((2, 3, rows // size, columns // size), np.float32)
    pooling.max_pool(x, size, y)
    values = windows(x, size)
    np.testing.assert_array_equal(y, values.max(axis=-1))

    dy, dx = generator.normal(size=y.shape).astype(np.float32), np.full_like(x, np.nan)
    pooling.gradient_of_max_pool(x, y, dy, size, every, dx)
    first = np.eye(size * size)[values.argmax(axis=-1)]
    winners = values == y[..., None] if every else first
    np.testing.assert_array_equal(windows(dx, size), (dy[..., None] * winners).astype(np.float32))
    assert not dx[:, :, rows // size * size :].any()
    assert not dx[:, :, :, columns // size * size :].any()
