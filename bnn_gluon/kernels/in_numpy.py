"""Pooling, batch normalization and activations in NumPy: the functions of `pooling` and `fused` under the same names.

For BNN_KERNELS=mxnet: see `choice`. Arguments and results are those of the compiled functions, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnn_gluon.kernels import fused
from bnn_gluon.kernels.ap2 import ap2

Array = np.ndarray
_ONE, _HALF = np.float32(1), np.float32(0.5)


def max_pool(x: Array, size: int, y: Array) -> None:
    """Compute what `pooling.max_pool` does."""
    y[:] = _windows(x, size).max(axis=-1)


def gradient_of_max_pool(x: Array, y: Array, dy: Array, size: int, every: bool, dx: Array) -> None:
    """Compute what `pooling.gradient_of_max_pool` does."""
    n, channels, rows, columns = y.shape
    wins = _windows(x, size) == y[..., None]
    if not every:
        wins &= np.add.accumulate(wins, axis=-1, dtype=np.int32) == 1
    spread = (dy[..., None] * wins).reshape(n, channels, rows, columns, size, size).transpose(0, 1, 2, 4, 3, 5)
    dx[:] = 0
    dx[:, :, : rows * size, : columns * size] = spread.reshape(n, channels, rows * size, columns * size)


def _windows(x: Array, size: int) -> Array:
    """(N, channels, rows, columns, values of a window), row by row; a remainder of rows and columns is dropped."""
    n, channels, rows, columns = (*x.shape[:2], x.shape[2] // size, x.shape[3] // size)
    whole = x[:, :, : rows * size, : columns * size].reshape(n, channels, rows, size, columns, size)
    return whole.transpose(0, 1, 2, 4, 3, 5).reshape(n, channels, rows, columns, size * size)


def max_pool_windows(x: Array, size: int, stride: int, padding: int, y: Array) -> None:
    """Compute what `pooling.max_pool_windows` does."""
    y[:] = _padded_windows(x, size, stride, padding, -np.inf).max(axis=-1)


def gradient_of_max_pool_windows(
    x: Array, y: Array, dy: Array, size: int, stride: int, padding: int, dx: Array
) -> None:
    """Compute what `pooling.gradient_of_max_pool_windows` does."""
    first = _padded_windows(x, size, stride, padding, -np.inf).argmax(axis=-1)
    _spread_windows(dy[..., None] * (first[..., None] == np.arange(size**2)), size, stride, padding, dx)


def mean_pool_windows(x: Array, size: int, stride: int, padding: int, y: Array) -> None:
    """Compute what `pooling.mean_pool_windows` does."""
    y[:] = _padded_windows(x, size, stride, padding, 0).mean(axis=-1)


def gradient_of_mean_pool_windows(dy: Array, size: int, stride: int, padding: int, dx: Array) -> None:
    """Compute what `pooling.gradient_of_mean_pool_windows` does."""
    _spread_windows(np.repeat(dy[..., None] / np.float32(size**2), size**2, -1), size, stride, padding, dx)


def _padded_windows(x: Array, size: int, stride: int, padding: int, around: float) -> Array:
    """(N, channels, rows, columns, values of a window), row by row."""
    sides = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded: Array = np.pad(x, sides, constant_values=around)
    view: Any = np.lib.stride_tricks.sliding_window_view  # whose types know no axes
    windows: Array = view(padded, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    return windows.reshape(*windows.shape[:4], size**2)


def _spread_windows(values: Array, size: int, stride: int, padding: int, dx: Array) -> None:
    """Set dx to the sums, at each pixel, of the values (N, channels, rows, columns, values of a window) of windows."""
    rows, columns = values.shape[2:4]
    total = np.zeros((*dx.shape[:2], dx.shape[2] + 2 * padding, dx.shape[3] + 2 * padding), np.float32)
    for place in range(size**2):
        a, b = divmod(place, size)
        total[:, :, a : a + rows * stride : stride, b : b + columns * stride : stride] += values[..., place]
    dx[:] = total[:, :, padding : padding + dx.shape[2], padding : padding + dx.shape[3]]


def moments(x: Array, rounded: bool = False) -> tuple[Array, Array]:
    """Compute what `fused.moments` does."""
    mean = x.mean(axis=(0, 2), dtype=np.float64).astype(np.float32)
    centered = x - _wide(mean)
    second = ap2(centered) if rounded else centered
    return mean, (centered * second).mean(axis=(0, 2), dtype=np.float64).astype(np.float32)


def normalize(
    x: Array,
    mean: Array,
    scale: Array,
    beta: Array,
    activation: int,
    y: Array,
    thresholds: Array = fused.NO_THRESHOLDS,
    steepness: np.float32 = fused.NO_STEEPNESS,
) -> None:
    """Compute what `fused.normalize` does."""
    z = (x - _wide(mean)) * _wide(scale) + _wide(beta)
    y[:] = _activated(z, activation, thresholds.reshape(z.shape) if thresholds.size else thresholds, steepness)


def gradient_sums(
    x: Array,
    dy: Array,
    mean: Array,
    scale: Array,
    beta: Array,
    activation: int,
    rounded: bool = False,
    steepness: np.float32 = fused.NO_STEEPNESS,
) -> tuple[Array, Array]:
    """Compute what `fused.gradient_sums` does."""
    centered = x - _wide(mean)
    dy *= _slope(centered * _wide(scale) + _wide(beta), activation, steepness)
    second = ap2(centered) if rounded else centered
    return dy.sum(axis=(0, 2), dtype=np.float64), (dy * second).sum(axis=(0, 2), dtype=np.float64)


def gradient_of_input(
    x: Array, g: Array, mean: Array, scale: Array, mean_g: Array, slope: Array, rounded: bool = False
) -> None:
    """Compute what `fused.gradient_of_input` does."""
    centered = x - _wide(mean)
    g[:] = _wide(scale) * (g - _wide(mean_g)) - _wide(slope) * (ap2(centered) if rounded else centered)


def channel_sums(x: Array) -> Array:
    """Compute what `fused.channel_sums` does."""
    sums: Array = x.sum(axis=(0, 2), dtype=np.float64)
    return sums


def _wide(values: Array) -> Array:
    """Values of the channels, as they are broadcast against (N, channels, pixels)."""
    return values[:, None]


def _activated(y: Array, activation: int, thresholds: Array, steepness: np.float32) -> Array:
    """Compute what `fused.activate` does."""
    clipped = np.clip(y, -_ONE, _ONE)
    s = _sigmoid(steepness * y)
    swish = 2 * s * (1 + steepness * y * (1 - s)) - 1
    upper = (y + _ONE) * _HALF >= _HALF
    results: dict[int, Callable[[], Array]] = {
        fused.NONE: lambda: y,
        fused.RELU: lambda: np.maximum(y, 0),
        fused.BINARY_TANH: lambda: np.where(upper, _ONE, -_ONE),
        fused.BINARY_SIGMOID: lambda: upper,
        fused.STOCHASTIC_SIGN: lambda: np.sign(clipped - thresholds),
        fused.TORCH_SIGN: lambda: np.sign(y),
        fused.SIGN: lambda: np.where(y > 0, _ONE, -_ONE),
        fused.HARDTANH: lambda: clipped,
        fused.BIREAL: lambda: 2 * clipped - clipped * np.abs(clipped),
        fused.SWISH: lambda: np.where(swish == 0, y, swish),
        fused.INT2: lambda: np.clip(np.rint(y), -_ONE, _ONE),
    }
    result: Array = results[activation]()
    return result


def _slope(y: Array, activation: int, steepness: np.float32) -> Array:
    """The derivative that `fused.times_slope` multiplies by."""
    s = _sigmoid(steepness * y)
    half = (y + _ONE) * _HALF
    inside = (half >= 0) & (half <= 1)
    results: dict[int, Callable[[], Array]] = {
        fused.NONE: lambda: np.ones_like(y),
        fused.RELU: lambda: _HALF * ((y > 0) * _ONE + (y >= 0)),
        fused.POSITIVE: lambda: y > 0,
        fused.BINARY_TANH: lambda: inside,
        fused.BINARY_SIGMOID: lambda: _HALF * inside,
        fused.STOCHASTIC_SIGN: lambda: np.abs(y) <= 1,
        fused.HARDTANH: lambda: np.abs(y) < 1,
        fused.BIREAL: lambda: np.maximum(2 - 2 * np.abs(y), 0),
        fused.SWISH: lambda: 2 * steepness * s * (1 - s) * (2 + steepness * y * (1 - 2 * s)),
        fused.INT2: lambda: np.abs(np.rint(y)) <= 1,
    }
    result: Array = results[activation]()
    return result


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        sigmoid: Array = _ONE / (_ONE + np.exp(-x))
    return sigmoid
