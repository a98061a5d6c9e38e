"""Activations of one row of values and their derivatives, for the passes of `fused`, and the ternary activation.

The functions of a row work in place on float32 (n,); which activation it is, a code says.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

NONE, RELU, BINARY_TANH, BINARY_SIGMOID, STOCHASTIC_SIGN, TORCH_SIGN, SIGN, HARDTANH, BIREAL, SWISH, POSITIVE = range(
    11
)
# What "sign" and "ternary" act on, and where their gradient comes from.
ESTIMATORS = {"identity": NONE, "hardtanh": HARDTANH, "bireal": BIREAL, "swish": SWISH}
NO_THRESHOLDS = np.empty(0, np.float32)
NO_STEEPNESS = np.float32(0)

_HALF, _ONE, _TWO, _ZERO = np.float32(0.5), np.float32(1), np.float32(2), np.float32(0)
_TERNARY_SHARE = 0.4


class Activation(NamedTuple):
    """An activation as the codes of its parts.

    Attributes:
        forward, evaluation: in training and in evaluation.
        slope: its derivative's.
        ternary: whether `ternarize` follows.
        steepness: of the swish, beta.
    """

    forward: int
    evaluation: int
    slope: int
    ternary: bool = False
    steepness: np.float32 = NO_STEEPNESS


# The ReLU of `linear_output`: its derivative at 0 is PyTorch's, 0. Sums of binary networks are often 0.
LINEAR_RELU = Activation(RELU, RELU, POSITIVE)


def activation_of(word: str, gradient: str, swish_beta: float | None) -> Activation:
    """The activation of a layer, from the recipe's words: see `benchmarks.settings.ModelSettings`."""
    plain = {"none": NONE, "relu": RELU, "binary_tanh": BINARY_TANH, "binary_sigmoid": BINARY_SIGMOID}
    if word in plain:
        return Activation(plain[word], plain[word], plain[word])
    if word == "stochastic_sign":
        return Activation(STOCHASTIC_SIGN, TORCH_SIGN, STOCHASTIC_SIGN)
    estimator, steepness = ESTIMATORS[gradient], np.float32(swish_beta or 0)
    if word == "sign":
        return Activation(SIGN, SIGN, estimator, steepness=steepness)
    assert word == "ternary"
    return Activation(estimator, estimator, estimator, ternary=True, steepness=steepness)


# numba compiles branches, not tables of functions.
@numba.njit(error_model="numpy")
def activate(y, activation, thresholds, steepness):  # type: ignore[no-untyped-def]  # noqa: PLR0912
    """Replace y, float32 (n,), by its activation.

    relu: max(0, y). binary_tanh: +1 where y >= 0, else -1. binary_sigmoid: 1 where y >= 0, else 0. The latter two round
    (y + 1) / 2, a float32, half away from zero, so -2.98e-8 <= y < 0 counts as 0, as originally.
    stochastic_sign: sign(clip(y, -1, 1) - T), thresholds T uniform in (-1, 1): +1 with probability
    clip((y + 1) / 2, 0, 1), else -1; it is sign((hardtanh(y) + 1) / 2 - U) with U uniform in (0, 1). In evaluation:
    sign(y), where sign(0) = 0 as Torch has it.
    sign: +1 where y > 0, else -1. As the estimators below have the sign of y, it needs none of them.
    hardtanh: clip(y, -1, 1). bireal: with c = clip(y, -1, 1), 2c - c|c|.
    swish: with b the steepness and s = 1 / (1 + exp(-by)), 2s (1 + by (1 - s)) - 1, but y where that gives 0.
    Source: binary_net.py, binary_tanh_unit(), binary_sigmoid_unit() and Round3; itayhubara/BinaryNet,
    BinarizedNeurons.lua behind nn.HardTanh; arXiv 1602.02830, section 1.3 and equation 2;
    RWTH-IDS/efficient-binary-neural-networks, binary_modules.py.
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


@numba.njit(error_model="numpy")
def times_slope(y, activation, steepness, g):  # type: ignore[no-untyped-def]  # noqa: PLR0912
    """Multiply g by the derivative of the activation at y, both float32 (n,).

    Of relu: 1 where y > 0 and 1/2 at 0, as Theano's (y + |y|) / 2 has it; POSITIVE: 0 at 0. Of binary_tanh: 1 where
    |y| <= 1, which is decided where the original clips, at (y + 1) / 2 in float32, so it is 1 at 1.0000001 too; of
    binary_sigmoid half of that. Of stochastic_sign: 1 where |y| <= 1, the slope of the hardtanh, straight through the
    sign.
    Of hardtanh: 1 where |y| < 1. Of bireal: 2 - 2|y| there. Of swish: 2bs (1 - s) (2 + by (1 - 2s)).
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


def ternarize(y: np.ndarray) -> None:
    """Replace y by +1 where y > t, -1 where y < -t, else 0; t = .4 mean|y| over all of it.

    Source: RWTH-IDS/efficient-binary-neural-networks, binary_modules.py, ternarize of activations ("tbn").
    """
    flat = y.reshape(-1)
    _ternarize(flat, np.float32(_TERNARY_SHARE * mean_absolute(flat)))


@numba.njit(parallel=True, error_model="numpy", cache=True)
def mean_absolute(x):  # type: ignore[no-untyped-def]
    """mean|x| of float32 (n,), float64; in pieces of fixed size, so it does not depend on the number of threads."""
    piece = 4096
    totals = np.zeros((x.size + piece - 1) // piece)
    for k in numba.prange(totals.size):
        total = 0.0
        for i in range(k * piece, min((k + 1) * piece, x.size)):
            total += abs(x[i])
        totals[k] = total
    return totals.sum() / x.size


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _ternarize(y, threshold):  # type: ignore[no-untyped-def]
    for i in numba.prange(y.size):
        y[i] = _ONE if y[i] > threshold else (-_ONE if y[i] < -threshold else _ZERO)
