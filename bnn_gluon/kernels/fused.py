"""Batch normalization with its activation in a few passes over memory, on the CPU.

MXNet's operators take one pass for every sum, product and broadcast, and its reductions over the pixels of a
convolution are slow: composed of them, batch normalization took longer than the convolutions. Here the statistics, the
affine map with the activation, the sums of the gradient and the gradient itself are one pass each, with sums in double
precision. What is worked on in between, a row of one image's channel, stays in the first-level cache.

Memory, float32, C-contiguous; per-channel arrays (mean, scale, beta, sums) are (channels,)::

    convolution (N, channels, pixels)           fully connected (N, channels, 1), taken as (N, channels)
    image 0: | channel 0: pixel 0 1 2 ... | channel 1: ... |     image 0: | channel 0 1 2 ... 255 | 256 ... |
    image 1: | channel 0: ...             |                      image 1: | block 0               | block 1 |
    a thread has a channel of all images (statistics, sums)      a thread has a block of 256 channels of all images
    or a row, one image's channel (normalize, gradient)          (statistics, sums), or an image

`activation` is one of the codes below; the pre-activation is (x - mean) * scale + beta,
recomputed in the backward pass instead of stored. `rounded` says that AP2(x - mean) stands for x - mean in the second
factor of every sum and in the gradient, as shift-based batch normalization has it: see `bnn_gluon.batch_norm`.
"""

from __future__ import annotations

import numba
import numpy as np

from bnn_gluon.kernels import parallel
from bnn_gluon.kernels.ap2 import ap2

NONE, RELU, BINARY_TANH, BINARY_SIGMOID, STOCHASTIC_SIGN, TORCH_SIGN, SIGN, HARDTANH, BIREAL, SWISH, POSITIVE = range(
    11
)
INT2 = 11
NO_THRESHOLDS = np.empty(0, np.float32)
NO_STEEPNESS = np.float32(0)

_HALF, _ONE, _TWO, _ZERO = np.float32(0.5), np.float32(1), np.float32(2), np.float32(0)
_ONE_AND_A_HALF = np.float32(1.5)
# Channels that one thread handles at a time where there is one pixel: whole cache lines, and few partial sums.
_BLOCK = 256

_ap2 = numba.njit(inline="always")(ap2)


# numba compiles branches, not tables of functions.
@numba.njit(error_model="numpy")
def activate(y, activation, thresholds, steepness):  # noqa: PLR0912
    """Replace y, float32 (n,), by its activation.

    relu: max(0, y). binary_tanh: +1 where y >= 0, else -1. binary_sigmoid: 1 where y >= 0, else 0. The latter two round
    (y + 1) / 2, a float32, half away from zero, so -2.98e-8 <= y < 0 counts as 0, as originally.
    stochastic_sign: sign(clip(y, -1, 1) - T), thresholds T uniform in (-1, 1): +1 with probability
    clip((y + 1) / 2, 0, 1), else -1; it is sign((hardtanh(y) + 1) / 2 - U) with U uniform in (0, 1). In evaluation:
    sign(y), where sign(0) = 0 as Torch has it.
    sign: +1 where y > 0, else -1. As the estimators below have the sign of y, it needs none of them.
    hardtanh: clip(y, -1, 1). bireal: with c = clip(y, -1, 1), 2c - c|c|.
    swish: with b the steepness and s = 1 / (1 + exp(-by)), 2s (1 + by (1 - s)) - 1, but y where that gives 0.
    int2: clip(round(y), -1, 1), halves to even: +1 where y > 1/2, -1 where y < -1/2, else 0.
    Source: binary_net.py, binary_tanh_unit(), binary_sigmoid_unit() and Round3; itayhubara/BinaryNet,
    BinarizedNeurons.lua behind nn.HardTanh; arXiv 1602.02830, section 1.3 and equation 2;
    RWTH-IDS/efficient-binary-neural-networks, binary_modules.py; brevitas, core/quant/int_base.py, IntQuant.
    """
    if activation == RELU:
        for p in range(y.size):
            y[p] = max(y[p], _ZERO)
    elif activation == BINARY_TANH:
        for p in range(y.size):
            y[p] = _ONE if (y[p] + _ONE) * _HALF >= _HALF else -_ONE
    elif activation == BINARY_SIGMOID:
        for p in range(y.size):
            y[p] = _ONE if (y[p] + _ONE) * _HALF >= _HALF else _ZERO
    elif activation == STOCHASTIC_SIGN:
        for p in range(y.size):
            y[p] = np.sign(min(max(y[p], -_ONE), _ONE) - thresholds[p])
    elif activation == TORCH_SIGN:
        for p in range(y.size):
            y[p] = np.sign(y[p])
    elif activation == SIGN:
        for p in range(y.size):
            y[p] = _ONE if y[p] > _ZERO else -_ONE
    elif activation == HARDTANH:
        for p in range(y.size):
            y[p] = min(max(y[p], -_ONE), _ONE)
    elif activation == BIREAL:
        for p in range(y.size):
            clipped = min(max(y[p], -_ONE), _ONE)
            y[p] = _TWO * clipped - clipped * abs(clipped)
    elif activation == SWISH:
        for p in range(y.size):
            s = _ONE / (_ONE + np.exp(-steepness * y[p]))
            value = _TWO * s * (_ONE + steepness * y[p] * (_ONE - s)) - _ONE
            y[p] = value if value != _ZERO else y[p]
    elif activation == INT2:
        for p in range(y.size):
            y[p] = _ONE if y[p] > _HALF else (-_ONE if y[p] < -_HALF else _ZERO)


@numba.njit(error_model="numpy")
def times_slope(y, activation, steepness, g):  # noqa: PLR0912
    """Multiply g by the derivative of the activation at y, both float32 (n,).

    Of relu: 1 where y > 0 and 1/2 at 0, as Theano's (y + |y|) / 2 has it; POSITIVE: 0 at 0. Of binary_tanh: 1 where
    |y| <= 1, which is decided where the original clips, at (y + 1) / 2 in float32, so it is 1 at 1.0000001 too; of
    binary_sigmoid half of that. Of stochastic_sign: 1 where |y| <= 1, the slope of the hardtanh, straight through the
    sign.
    Of hardtanh: 1 where |y| < 1. Of bireal: 2 - 2|y| there. Of swish: 2bs (1 - s) (2 + by (1 - 2s)).
    Of int2: 1 where |round(y)| <= 1; as 3/2 is rounded to 2, where |y| < 3/2.
    """
    if activation == RELU:
        for p in range(y.size):
            g[p] *= _ONE if y[p] > _ZERO else (_HALF if y[p] == _ZERO else _ZERO)
    elif activation == POSITIVE:
        for p in range(y.size):
            g[p] *= _ONE if y[p] > _ZERO else _ZERO
    elif activation == BINARY_TANH:
        for p in range(y.size):
            g[p] *= _ONE if _ZERO <= (y[p] + _ONE) * _HALF <= _ONE else _ZERO
    elif activation == BINARY_SIGMOID:
        for p in range(y.size):
            g[p] *= _HALF if _ZERO <= (y[p] + _ONE) * _HALF <= _ONE else _ZERO
    elif activation == STOCHASTIC_SIGN:
        for p in range(y.size):
            g[p] *= _ONE if -_ONE <= y[p] <= _ONE else _ZERO
    elif activation == HARDTANH:
        for p in range(y.size):
            g[p] *= _ONE if -_ONE < y[p] < _ONE else _ZERO
    elif activation == BIREAL:
        for p in range(y.size):
            g[p] *= max(_TWO - _TWO * abs(y[p]), _ZERO)
    elif activation == SWISH:
        for p in range(y.size):
            s = _ONE / (_ONE + np.exp(-steepness * y[p]))
            g[p] *= _TWO * steepness * s * (_ONE - s) * (_TWO + steepness * y[p] * (_ONE - _TWO * s))
    elif activation == INT2:
        for p in range(y.size):
            g[p] *= _ONE if -_ONE_AND_A_HALF < y[p] < _ONE_AND_A_HALF else _ZERO


@numba.njit(error_model="numpy")
def _round(centered):
    for p in range(centered.size):
        centered[p] = _ap2(centered[p])


# Sums of a row may be taken in any order; nothing that rounds on purpose may be computed in these two.
@numba.njit(fastmath={"reassoc", "contract"})
def _sum(x):
    total = np.float32(0)
    for p in range(x.size):
        total += x[p]
    return total


@numba.njit(fastmath={"reassoc", "contract"})
def _dot(x, y):
    total = np.float32(0)
    for p in range(x.size):
        total += x[p] * y[p]
    return total


# -- forward ----------------------------------------------------------------------------------------------------------


def moments(x: np.ndarray, rounded: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of every channel, float32 (channels,), summed in double precision.

    With `rounded` it is mean(c * AP2(c)) instead of the variance mean(c * c), c = x - mean.
    """
    mean, variance = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
    if x.shape[2] == 1:
        _moments_of_columns(x[:, :, 0], rounded, mean, variance)
    else:
        _moments_of_pixels(x, rounded, mean, variance)
    return mean, variance


def normalize(
    x: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    beta: np.ndarray,
    activation: int,
    y: np.ndarray,
    thresholds: np.ndarray = NO_THRESHOLDS,
    steepness: np.float32 = NO_STEEPNESS,
) -> None:
    """Set y, float32 of the shape of x, to activation((x - mean) * scale + beta); y may be x.

    `thresholds`, flat and as many as x has values, are those of STOCHASTIC_SIGN, `steepness` is that of SWISH.
    """
    if x.shape[2] == 1:
        _normalize_columns(x[:, :, 0], mean, scale, beta, activation, thresholds, steepness, y[:, :, 0])
    else:
        _normalize_pixels(x, mean, scale, beta, activation, thresholds, steepness, y)


@parallel.loop
def _moments_of_columns(part, x, rounded, mean, variance):
    n, channels = x.shape
    for block in parallel.share(part, (channels + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min((block + 1) * _BLOCK, channels)
        total, means = np.zeros(last - first, np.float64), mean[first:last]
        for i in range(n):
            row = x[i, first:last]
            for c in range(row.size):
                total[c] += row[c]
        for c in range(means.size):
            means[c] = np.float32(total[c] / n)
            total[c] = 0.0
        for i in range(n):
            row = x[i, first:last]
            if rounded:
                for c in range(row.size):
                    centered = row[c] - means[c]
                    total[c] += centered * _ap2(centered)
            else:
                for c in range(row.size):
                    centered = row[c] - means[c]
                    total[c] += centered * centered
        for c in range(last - first):
            variance[first + c] = np.float32(total[c] / n)


@parallel.loop
def _moments_of_pixels(part, x, rounded, mean, variance):
    n, channels, pixels = x.shape
    centered, second = np.empty(pixels, np.float32), np.empty(pixels, np.float32)
    for c in parallel.share(part, channels):
        total = 0.0
        for i in range(n):
            total += _sum(x[i, c])
        mean[c] = np.float32(total / (n * pixels))
        total = 0.0
        for i in range(n):
            for p in range(pixels):
                centered[p] = x[i, c, p] - mean[c]
            if rounded:
                second[:] = centered
                _round(second)
                total += _dot(centered, second)
            else:
                total += _dot(centered, centered)
        variance[c] = np.float32(total / (n * pixels))


@parallel.loop
def _normalize_columns(part, x, mean, scale, beta, activation, thresholds, steepness, y):
    n, channels = x.shape
    for i in parallel.share(part, n):
        for c in range(channels):
            y[i, c] = (x[i, c] - mean[c]) * scale[c] + beta[c]
        activate(y[i], activation, thresholds[i * channels : (i + 1) * channels], steepness)


@parallel.loop
def _normalize_pixels(part, x, mean, scale, beta, activation, thresholds, steepness, y):
    n, channels, pixels = x.shape
    for row in parallel.share(part, n * channels):
        i, c = row // channels, row % channels
        m, s, b = mean[c], scale[c], beta[c]
        source, target = x[i, c], y[i, c]
        for p in range(pixels):
            target[p] = (source[p] - m) * s + b
        activate(target, activation, thresholds[row * pixels : (row + 1) * pixels], steepness)


# -- backward ---------------------------------------------------------------------------------------------------------


def gradient_sums(
    x: np.ndarray,
    dy: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    beta: np.ndarray,
    activation: int,
    rounded: bool = False,
    steepness: np.float32 = NO_STEEPNESS,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the batch of g and of g * (x - mean), float64 (channels,); g is dy behind the activation.

    `dy`, the gradient of the activated output, is replaced by g.
    """
    sums = np.zeros((2, x.shape[1]))
    if x.shape[2] == 1:
        _sums_of_columns(x[:, :, 0], dy[:, :, 0], mean, scale, beta, activation, steepness, rounded, sums[0], sums[1])
    else:
        _sums_of_pixels(x, dy, mean, scale, beta, activation, steepness, rounded, sums[0], sums[1])
    return sums[0], sums[1]


def gradient_of_input(
    x: np.ndarray,
    g: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    mean_g: np.ndarray,
    slope: np.ndarray,
    rounded: bool = False,
) -> None:
    """Replace g by scale * (g - mean_g) - slope * (x - mean): the gradient with respect to x."""
    if x.shape[2] == 1:
        _input_of_columns(x[:, :, 0], g[:, :, 0], mean, scale, mean_g, slope, rounded)
    else:
        _input_of_pixels(x, g, mean, scale, mean_g, slope, rounded)


@parallel.loop
def _sums_of_columns(part, x, dy, mean, scale, beta, activation, steepness, rounded, sum_g, sum_gc):
    n, channels = x.shape
    for block in parallel.share(part, (channels + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min((block + 1) * _BLOCK, channels)
        centered, y = np.empty(last - first, np.float32), np.empty(last - first, np.float32)
        m, s, b = mean[first:last], scale[first:last], beta[first:last]
        total_g, total_gc = sum_g[first:last], sum_gc[first:last]
        for i in range(n):
            row, g = x[i, first:last], dy[i, first:last]
            for c in range(row.size):
                centered[c] = row[c] - m[c]
                y[c] = centered[c] * s[c] + b[c]
            times_slope(y, activation, steepness, g)
            if rounded:
                _round(centered)
            for c in range(row.size):
                total_g[c] += g[c]
                total_gc[c] += g[c] * centered[c]


@parallel.loop
def _sums_of_pixels(part, x, dy, mean, scale, beta, activation, steepness, rounded, sum_g, sum_gc):
    n, channels, pixels = x.shape
    centered, y = np.empty(pixels, np.float32), np.empty(pixels, np.float32)
    for c in parallel.share(part, channels):
        m, s, b = mean[c], scale[c], beta[c]
        total_g, total_gc = 0.0, 0.0
        for i in range(n):
            source, g = x[i, c], dy[i, c]
            for p in range(pixels):
                centered[p] = source[p] - m
                y[p] = centered[p] * s + b
            times_slope(y, activation, steepness, g)
            if rounded:
                _round(centered)
            total_g += _sum(g)
            total_gc += _dot(g, centered)
        sum_g[c], sum_gc[c] = total_g, total_gc


@parallel.loop
def _input_of_columns(part, x, g, mean, scale, mean_g, slope, rounded):
    for i in parallel.share(part, x.shape[0]):
        if rounded:
            for c in range(x.shape[1]):
                g[i, c] = scale[c] * (g[i, c] - mean_g[c]) - slope[c] * _ap2(x[i, c] - mean[c])
        else:
            for c in range(x.shape[1]):
                g[i, c] = scale[c] * (g[i, c] - mean_g[c]) - slope[c] * (x[i, c] - mean[c])


@parallel.loop
def _input_of_pixels(part, x, g, mean, scale, mean_g, slope, rounded):
    n, channels, pixels = x.shape
    for row in parallel.share(part, n * channels):
        i, c = row // channels, row % channels
        source, target, m, s, mg, k = x[i, c], g[i, c], mean[c], scale[c], mean_g[c], slope[c]
        if rounded:
            for p in range(pixels):
                target[p] = s * (target[p] - mg) - k * _ap2(source[p] - m)
        else:
            for p in range(pixels):
                target[p] = s * (target[p] - mg) - k * (source[p] - m)


def channel_sums(x: np.ndarray) -> np.ndarray:
    """Sum of every channel, float64 (channels,)."""
    sums = np.empty(x.shape[1])
    _channel_sums(x, sums)
    return sums


@parallel.loop
def _channel_sums(part, x, sums):
    for c in parallel.share(part, x.shape[1]):
        total = 0.0
        for i in range(x.shape[0]):
            total += _sum(x[i, c])
        sums[c] = total
