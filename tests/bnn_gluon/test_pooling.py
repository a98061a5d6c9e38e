"""Max pooling and the two rules of its gradient against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_gluon.kernels import in_numpy, pooling

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


@pytest.mark.parametrize("loops", [pooling, in_numpy])
@given(side=SIDES, size=st.integers(1, 4), stride=st.integers(1, 3), data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_any_windows(loops, side, size, stride, data, seed):
    """Pixel by pixel."""
    size = min(size, side)
    padding = data.draw(st.integers(0, size // 2))
    generator = np.random.default_rng(seed)
    x = generator.integers(-2, 3, (2, 2, side, side + 1)).astype(np.float32)
    shape = *x.shape[:2], *((length + 2 * padding - size) // stride + 1 for length in x.shape[2:])
    largest, mean, dy = np.empty(shape, np.float32), np.empty(shape, np.float32), generator.integers(-4, 5, shape)
    dy = dy.astype(np.float32)
    of_largest, of_mean = np.full_like(x, np.nan), np.full_like(x, np.nan)
    loops.max_pool_windows(x, size, stride, padding, largest)
    loops.mean_pool_windows(x, size, stride, padding, mean)
    loops.gradient_of_max_pool_windows(x, largest, dy, size, stride, padding, of_largest)
    loops.gradient_of_mean_pool_windows(dy, size, stride, padding, of_mean)
    expected_largest, expected_mean = np.zeros_like(x), np.zeros_like(x)
    for n, c, i, j in np.ndindex(shape):
        rows = range(max(0, i * stride - padding), min(x.shape[2], i * stride - padding + size))
        columns = range(max(0, j * stride - padding), min(x.shape[3], j * stride - padding + size))
        pixels = [(n, c, a, b) for a in rows for b in columns]
        values = [x[pixel] for pixel in pixels]
        assert largest[n, c, i, j] == max(values)
        assert mean[n, c, i, j] == pytest.approx(sum(values) / size**2, abs=1e-6)
        expected_largest[pixels[int(np.argmax(values))]] += dy[n, c, i, j]
        for pixel in pixels:
            expected_mean[pixel] += dy[n, c, i, j] / size**2
    np.testing.assert_array_equal(of_largest, expected_largest)
    np.testing.assert_allclose(of_mean, expected_mean, atol=1e-5)
