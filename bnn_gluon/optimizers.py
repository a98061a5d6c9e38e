"""Parameter updates on the CPU: one pass over memory for moments, step and clipping, one before it for a penalty.

A rule is applied to every parameter by itself. Which are clipped, and how the learning rate of each is scaled, the
recipe says; `update` has both as limit and step size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numba
import numpy as np

from bnn_gluon.ap2 import ap2

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# lasagne.updates.adam, its defaults.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
_BETA1, _BETA2, _EPSILON = np.float32(BETA1), np.float32(BETA2), np.float32(EPSILON)
# Subtracted in double precision, as Lasagne does: in float32, 1 - .999 is 1.3e-5 larger.
_REST1, _REST2 = np.float32(1 - BETA1), np.float32(1 - BETA2)

_SHIFT_EPSILON = np.float32(2.0**-27)  # adaMax_binary_clip_shift.lua

NO_LIMIT = np.float32(np.inf)

_ap2 = numba.njit(inline="always")(ap2)


class Rule(Protocol):
    """An optimiser: `moments` names the arrays that it keeps beside each parameter, which start at zero."""

    moments: tuple[str, ...]

    def step_size(self, lr: float, step: int) -> np.float32:
        """What the direction of update `step` (from 1) is multiplied by."""

    def update(
        self,
        parameter: np.ndarray,
        gradient: np.ndarray,
        moments: Sequence[np.ndarray],
        step_size: np.float32,
        limit: np.float32 = NO_LIMIT,
        step: int = 1,
    ) -> None:
        """Update number `step` in place, then clipping to +-limit; all arrays float32 (n,)."""


class Adam:
    """theta <- clip(theta - a_t * m / (sqrt(v) + epsilon)), a_t = lr * sqrt(1 - beta2^t) / (1 - beta1^t).

    Lasagne's form, where epsilon is not bias-corrected ("epsilon hat" of arXiv 1412.6980, section 2).
    Source: lasagne/updates.py, adam(); binary_connect.py, clipping_scaling(), as Theano compiles it: p - s * step, not
    the literal p + s * ((p - step) - p), which loses small steps.
    """

    moments: tuple[str, ...] = ("mean", "square")

    def step_size(self, lr: float, step: int) -> np.float32:
        return np.float32(lr * math.sqrt(1 - BETA2**step) / (1 - BETA1**step))

    def update(
        self,
        parameter: np.ndarray,
        gradient: np.ndarray,
        moments: Sequence[np.ndarray],
        step_size: np.float32,
        limit: np.float32 = NO_LIMIT,
        step: int = 1,
    ) -> None:
        mean, square = moments
        _adam(parameter, gradient, mean, square, step_size, limit, np.float32(1))


class Sgd:
    """theta <- clip(theta - lr * g). Source: lasagne/updates.py, sgd()."""

    moments: tuple[str, ...] = ()

    def step_size(self, lr: float, step: int) -> np.float32:
        return np.float32(lr)

    def update(
        self,
        parameter: np.ndarray,
        gradient: np.ndarray,
        moments: Sequence[np.ndarray],
        step_size: np.float32,
        limit: np.float32 = NO_LIMIT,
        step: int = 1,
    ) -> None:
        _sgd(parameter, gradient, step_size, limit)


class MomentumSgd:
    """v <- momentum v + g; theta <- clip(theta - lr v), or with Nesterov's momentum clip(theta - lr (g + momentum v)).

    Source: PyTorch's torch.optim.SGD, of which RWTH-IDS/efficient-binary-neural-networks, main.py, takes it.
    """

    moments: tuple[str, ...] = ("velocity",)

    def __init__(self, momentum: float, nesterov: bool) -> None:
        self._momentum, self._nesterov = np.float32(momentum), nesterov

    def step_size(self, lr: float, step: int) -> np.float32:
        return np.float32(lr)

    def update(
        self,
        parameter: np.ndarray,
        gradient: np.ndarray,
        moments: Sequence[np.ndarray],
        step_size: np.float32,
        limit: np.float32 = NO_LIMIT,
        step: int = 1,
    ) -> None:
        _momentum_sgd(parameter, gradient, *moments, self._momentum, self._nesterov, step_size, limit)


class TorchAdam:
    """theta <- clip(theta - a_t * m / (sqrt(v / (1 - beta2^t)) + epsilon)), a_t = lr / (1 - beta1^t).

    Adam as published, where epsilon is added to the bias-corrected root (arXiv 1412.6980, algorithm 1).
    Source: PyTorch's torch.optim.Adam.
    """

    moments: tuple[str, ...] = ("mean", "square")

    def step_size(self, lr: float, step: int) -> np.float32:
        return np.float32(lr / (1 - BETA1**step))

    def update(
        self,
        parameter: np.ndarray,
        gradient: np.ndarray,
        moments: Sequence[np.ndarray],
        step_size: np.float32,
        limit: np.float32 = NO_LIMIT,
        step: int = 1,
    ) -> None:
        mean, square = moments
        inverse_root = np.float32(1 / math.sqrt(1 - BETA2**step))
        _adam(parameter, gradient, mean, square, step_size, limit, inverse_root)


class ShiftAdaMax:
    """theta <- clip(theta - a_t * m / v), a_t = AP2(lr / (1 - beta1^t)): AdaMax whose divisions are shifts.

    m <- beta1 m + (1 - beta1) g, v <- AP2(max(beta2 v, |g|)) + 2^-27, and this v is what the next step starts from. So
    it never decays, as .999 * 2^k rounds back to 2^k: it is the largest |g| so far, rounded.
    Source: itayhubara/BinaryNet, adaMax_binary_clip_shift.lua; arXiv 1602.02830, shift based AdaMax.
    """

    moments: tuple[str, ...] = ("mean", "maximum")

    def step_size(self, lr: float, step: int) -> np.float32:
        return np.float32(ap2(np.float32(lr / (1 - BETA1**step))))

    def update(
        self,
        parameter: np.ndarray,
        gradient: np.ndarray,
        moments: Sequence[np.ndarray],
        step_size: np.float32,
        limit: np.float32 = NO_LIMIT,
        step: int = 1,
    ) -> None:
        mean, maximum = moments
        _shift_adamax(parameter, gradient, mean, maximum, step_size, limit)


RULES: dict[str, Rule] = {
    "adam": Adam(),
    "sgd": Sgd(),
    "shift_adamax": ShiftAdaMax(),
    "torch_adam": TorchAdam(),
}


def rule_of(model: ModelSettings) -> Rule:
    """The optimiser of a recipe."""
    return MomentumSgd(model.momentum, model.nesterov) if model.momentum else RULES[model.optimizer]


@numba.njit(parallel=True, error_model="numpy", cache=True)
def add_penalty(gradient, parameter, quantised, of_parameter, of_quantised):  # type: ignore[no-untyped-def]
    """gradient += of_parameter * parameter + of_quantised * quantised; arrays float32 (n,), the others float32."""
    for i in numba.prange(gradient.size):
        gradient[i] += of_parameter * parameter[i] + of_quantised * quantised[i]


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _adam(parameter, gradient, mean, square, step_size, limit, inverse_root):  # type: ignore[no-untyped-def]
    for i in numba.prange(parameter.size):
        g = gradient[i]
        m = _BETA1 * mean[i] + _REST1 * g
        v = _BETA2 * square[i] + _REST2 * g * g
        mean[i] = m
        square[i] = v
        parameter[i] = min(max(parameter[i] - step_size * (m / (np.sqrt(v) * inverse_root + _EPSILON)), -limit), limit)


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _sgd(parameter, gradient, step_size, limit):  # type: ignore[no-untyped-def]
    for i in numba.prange(parameter.size):
        parameter[i] = min(max(parameter[i] - step_size * gradient[i], -limit), limit)


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _momentum_sgd(parameter, gradient, velocity, momentum, nesterov, step_size, limit):  # type: ignore[no-untyped-def]
    for i in numba.prange(parameter.size):
        v = momentum * velocity[i] + gradient[i]
        velocity[i] = v
        direction = gradient[i] + momentum * v if nesterov else v
        parameter[i] = min(max(parameter[i] - step_size * direction, -limit), limit)


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _shift_adamax(parameter, gradient, mean, maximum, step_size, limit):  # type: ignore[no-untyped-def]
    for i in numba.prange(parameter.size):
        g = gradient[i]
        m = _BETA1 * mean[i] + _REST1 * g
        v = _ap2(max(_BETA2 * maximum[i], abs(g))) + _SHIFT_EPSILON
        mean[i] = m
        maximum[i] = v
        parameter[i] = min(max(parameter[i] - step_size * (m / v), -limit), limit)
