"""The activations: their codes in the compiled loops of `fused`, and the ternary activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np

from bnn_gluon.kernels import parallel
from bnn_gluon.kernels.fused import (
    BINARY_SIGMOID,
    BINARY_TANH,
    BIREAL,
    HARDTANH,
    INT2,
    NO_STEEPNESS,
    NONE,
    POSITIVE,
    RELU,
    SIGN,
    STOCHASTIC_SIGN,
    SWISH,
    TORCH_SIGN,
)

# What "sign" and "ternary" act on, and where their gradient comes from, by the words of
# `ModelSettings.activation_gradient`.
ESTIMATORS = {"identity": NONE, "hardtanh": HARDTANH, "bireal": BIREAL, "swish": SWISH}

_ONE, _ZERO = np.float32(1), np.float32(0)
_TERNARY_SHARE = 0.4
PIECE = 4096


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


def _whatever_the_estimator(forward: int, evaluation: int, slope: int) -> Callable[[int, np.float32], Activation]:
    return lambda estimator, steepness: Activation(forward, evaluation, slope)


# By the words of `ModelSettings.activation`, and "none": functions of the estimator's code and of its steepness.
# "sign" and "ternary" have the slope of the estimator.
ACTIVATIONS: dict[str, Callable[[int, np.float32], Activation]] = {
    "none": _whatever_the_estimator(NONE, NONE, NONE),
    "relu": _whatever_the_estimator(RELU, RELU, RELU),
    "binary_tanh": _whatever_the_estimator(BINARY_TANH, BINARY_TANH, BINARY_TANH),
    "binary_sigmoid": _whatever_the_estimator(BINARY_SIGMOID, BINARY_SIGMOID, BINARY_SIGMOID),
    "stochastic_sign": _whatever_the_estimator(STOCHASTIC_SIGN, TORCH_SIGN, STOCHASTIC_SIGN),
    "torch_sign": _whatever_the_estimator(TORCH_SIGN, TORCH_SIGN, HARDTANH),
    "int2": _whatever_the_estimator(INT2, INT2, INT2),
    "sign": lambda estimator, steepness: Activation(SIGN, SIGN, estimator, steepness=steepness),
    "ternary": lambda estimator, steepness: Activation(
        estimator, estimator, estimator, ternary=True, steepness=steepness
    ),
}


def activation_of(word: str, gradient: str, swish_beta: float | None) -> Activation:
    """The activation of a layer, from the recipe's words: see `benchmarks.recipe.settings.ModelSettings`."""
    return ACTIVATIONS[word](ESTIMATORS[gradient], np.float32(swish_beta or 0))


def ternarize(y: np.ndarray) -> None:
    """Replace y by +1 where y > t, -1 where y < -t, else 0; t = .4 mean|y| over all of it.

    Source: RWTH-IDS/efficient-binary-neural-networks, binary_modules.py, ternarize of activations ("tbn").
    """
    flat = y.reshape(-1)
    _ternarize(flat, np.float32(_TERNARY_SHARE * mean_absolute(flat)))


def mean_absolute(x: np.ndarray) -> float:
    """mean|x| of float32 (n,); in pieces of fixed size, so it does not depend on the number of threads."""
    totals = np.empty(-(-x.size // PIECE))
    _sum_pieces(x, totals)
    return float(np.add.accumulate(totals)[-1]) / x.size  # one after the other


@parallel.loop
def _sum_pieces(part, x, totals):
    for four in parallel.share(part, (totals.size + 3) // 4):
        first = four * 4 * PIECE
        sum_four(x[first : first + 4 * PIECE], totals[4 * four : 4 * four + 4])


@numba.njit(error_model="numpy")
def sum_four(x, totals):
    """totals = sum|x| of each of up to four pieces of x, float32 (n,): float64, one value after the other.

    A sum waits for each of its additions, so four at a time take little longer than one.
    """
    if x.size == 4 * PIECE:
        first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
        for i in range(PIECE):
            first += abs(x[i])
            second += abs(x[PIECE + i])
            third += abs(x[2 * PIECE + i])
            fourth += abs(x[3 * PIECE + i])
        totals[0], totals[1], totals[2], totals[3] = first, second, third, fourth
    else:
        for k in range(totals.size):
            total = 0.0
            for i in range(k * PIECE, min((k + 1) * PIECE, x.size)):
                total += abs(x[i])
            totals[k] = total


@parallel.loop
def _ternarize(part, y, threshold):
    for i in parallel.share(part, y.size):
        y[i] = _ONE if y[i] > threshold else (-_ONE if y[i] < -threshold else _ZERO)
