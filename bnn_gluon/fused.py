"""Batch normalisation with its activation in a few passes over memory, for training on the CPU.

MXNet's operators take one pass for every sum, product and broadcast, and its reductions over the pixels of a
convolution are slow: composed of them, batch normalisation took longer than the convolutions. Here the statistics, the
affine map with the activation, the sums of the gradient and the gradient itself are one pass each, with sums in double
precision.

Arrays are float32 (N, channels, pixels), C-contiguous; a fully connected layer has one pixel. Per-channel arrays are
float32 (channels,). `activation` is one of the codes below; the pre-activation is (x - mean) * scale + beta, recomputed
in the backward pass instead of stored.
"""

from __future__ import annotations

import numba
import numpy as np

NONE, RELU, BINARY_TANH = 0, 1, 2
ACTIVATIONS = {"none": NONE, "relu": RELU, "binary_tanh": BINARY_TANH}

_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1), np.float32(0)
# Channels that one thread handles at a time where there is one pixel: whole cache lines, and few partial sums.
_BLOCK = 256


@numba.njit(inline="always")
def _activate(y, activation):  # type: ignore[no-untyped-def]
    if activation == RELU:
        return max(y, _ZERO)
    if activation == BINARY_TANH:
        return _ONE if (y + _ONE) * _HALF >= _HALF else -_ONE
    return y


@numba.njit(inline="always")
def _slope(y, activation):  # type: ignore[no-untyped-def]
    """Derivative of the activation: of ReLU 1/2 at 0, as Theano's abs form has it; of binary_tanh 1 where |y| <= 1.

    That is decided where the original clips, at (y + 1) / 2 in float32, so it is 1 at 1.0000001 too.
    """
    if activation == RELU:
        return _ONE if y > _ZERO else (_HALF if y == _ZERO else _ZERO)
    if activation == BINARY_TANH:
        half = (y + _ONE) * _HALF
        return _ONE if _ZERO <= half <= _ONE else _ZERO
    return _ONE


# -- forward ----------------------------------------------------------------------------------------------------------


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of every channel, float32 (channels,), summed in double precision."""
    mean, variance = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
    if x.shape[2] == 1:
        _moments_of_columns(x[:, :, 0], mean, variance)
    else:
        _moments_of_pixels(x, mean, variance)
    return mean, variance


def normalize(
    x: np.ndarray, mean: np.ndarray, scale: np.ndarray, beta: np.ndarray, activation: int, y: np.ndarray
) -> None:
    """Set y, float32 of the shape of x, to activation((x - mean) * scale + beta)."""
    if x.shape[2] == 1:
        _normalize_columns(x[:, :, 0], mean, scale, beta, activation, y[:, :, 0])
    else:
        _normalize_pixels(x, mean, scale, beta, activation, y)


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _moments_of_columns(x, mean, variance):  # type: ignore[no-untyped-def]
    n, channels = x.shape
    for block in numba.prange((channels + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min((block + 1) * _BLOCK, channels)
        total = np.zeros(last - first, np.float64)
        for i in range(n):
            for c in range(last - first):
                total[c] += x[i, first + c]
        for c in range(last - first):
            mean[first + c] = np.float32(total[c] / n)
            total[c] = 0.0
        for i in range(n):
            for c in range(last - first):
                centred = x[i, first + c] - mean[first + c]
                total[c] += centred * centred
        for c in range(last - first):
            variance[first + c] = np.float32(total[c] / n)


@numba.njit(fastmath={"reassoc", "contract"})
def _sum(x):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for p in range(x.size):
        total += x[p]
    return total


@numba.njit(fastmath={"reassoc", "contract"})
def _sum_of_squares(x, mean):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for p in range(x.size):
        centred = x[p] - mean
        total += centred * centred
    return total


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _moments_of_pixels(x, mean, variance):  # type: ignore[no-untyped-def]
    n, channels, pixels = x.shape
    for c in numba.prange(channels):
        total = 0.0
        for i in range(n):
            total += _sum(x[i, c])
        mean[c] = np.float32(total / (n * pixels))
        total = 0.0
        for i in range(n):
            total += _sum_of_squares(x[i, c], mean[c])
        variance[c] = np.float32(total / (n * pixels))


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _normalize_columns(x, mean, scale, beta, activation, y):  # type: ignore[no-untyped-def]
    for i in numba.prange(x.shape[0]):
        if activation == RELU:
            for c in range(x.shape[1]):
                y[i, c] = _activate((x[i, c] - mean[c]) * scale[c] + beta[c], RELU)
        elif activation == BINARY_TANH:
            for c in range(x.shape[1]):
                y[i, c] = _activate((x[i, c] - mean[c]) * scale[c] + beta[c], BINARY_TANH)
        else:
            for c in range(x.shape[1]):
                y[i, c] = (x[i, c] - mean[c]) * scale[c] + beta[c]


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _normalize_pixels(x, mean, scale, beta, activation, y):  # type: ignore[no-untyped-def]
    n, channels, pixels = x.shape
    for row in numba.prange(n * channels):
        i, c = row // channels, row % channels
        m, s, b = mean[c], scale[c], beta[c]
        source, target = x[i, c], y[i, c]
        if activation == RELU:
            for p in range(pixels):
                target[p] = _activate((source[p] - m) * s + b, RELU)
        elif activation == BINARY_TANH:
            for p in range(pixels):
                target[p] = _activate((source[p] - m) * s + b, BINARY_TANH)
        else:
            for p in range(pixels):
                target[p] = (source[p] - m) * s + b


# -- backward ---------------------------------------------------------------------------------------------------------


def gradient_sums(
    x: np.ndarray, dy: np.ndarray, mean: np.ndarray, scale: np.ndarray, beta: np.ndarray, activation: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the batch of g and of g * (x - mean), float64 (channels,); g is dy behind the activation.

    `dy`, the gradient of the activated output, is replaced by g.
    """
    sums = np.zeros((2, x.shape[1]))
    if x.shape[2] == 1:
        _sums_of_columns(x[:, :, 0], dy[:, :, 0], mean, scale, beta, activation, sums[0], sums[1])
    else:
        _sums_of_pixels(x, dy, mean, scale, beta, activation, sums[0], sums[1])
    return sums[0], sums[1]


def gradient_of_input(
    x: np.ndarray, g: np.ndarray, mean: np.ndarray, scale: np.ndarray, mean_g: np.ndarray, slope: np.ndarray
) -> None:
    """Replace g by scale * (g - mean_g) - slope * (x - mean): the gradient with respect to x."""
    if x.shape[2] == 1:
        _input_of_columns(x[:, :, 0], g[:, :, 0], mean, scale, mean_g, slope)
    else:
        _input_of_pixels(x, g, mean, scale, mean_g, slope)


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _sums_of_columns(x, dy, mean, scale, beta, activation, sum_g, sum_gc):  # type: ignore[no-untyped-def]
    n, channels = x.shape
    for block in numba.prange((channels + _BLOCK - 1) // _BLOCK):
        for i in range(n):
            for c in range(block * _BLOCK, min((block + 1) * _BLOCK, channels)):
                centred = x[i, c] - mean[c]
                g = dy[i, c] * _slope(centred * scale[c] + beta[c], activation)
                dy[i, c] = g
                sum_g[c] += g
                sum_gc[c] += g * centred


@numba.njit(fastmath={"reassoc", "contract"})
def _sums_of_row(x, dy, mean, scale, beta, activation):  # type: ignore[no-untyped-def]
    sum_g, sum_gc = np.float32(0), np.float32(0)
    for p in range(x.size):
        centred = x[p] - mean
        g = dy[p] * _slope(centred * scale + beta, activation)
        dy[p] = g
        sum_g += g
        sum_gc += g * centred
    return sum_g, sum_gc


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _sums_of_pixels(x, dy, mean, scale, beta, activation, sum_g, sum_gc):  # type: ignore[no-untyped-def]
    n, channels, _ = x.shape
    for c in numba.prange(channels):
        total_g, total_gc = 0.0, 0.0
        for i in range(n):
            part_g, part_gc = _sums_of_row(x[i, c], dy[i, c], mean[c], scale[c], beta[c], activation)
            total_g += part_g
            total_gc += part_gc
        sum_g[c], sum_gc[c] = total_g, total_gc


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _input_of_columns(x, g, mean, scale, mean_g, slope):  # type: ignore[no-untyped-def]
    for i in numba.prange(x.shape[0]):
        for c in range(x.shape[1]):
            g[i, c] = scale[c] * (g[i, c] - mean_g[c]) - slope[c] * (x[i, c] - mean[c])


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _input_of_pixels(x, g, mean, scale, mean_g, slope):  # type: ignore[no-untyped-def]
    n, channels, pixels = x.shape
    for row in numba.prange(n * channels):
        i, c = row // channels, row % channels
        source, target, m, s, mg, k = x[i, c], g[i, c], mean[c], scale[c], mean_g[c], slope[c]
        for p in range(pixels):
            target[p] = s * (target[p] - mg) - k * (source[p] - m)
