"""Parameter updates on the CPU: one pass over memory for moments, step and clipping, one before it for a penalty.

The formulas and their sources are with the rules: see `benchmarks.engine.updates`.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from benchmarks.engine.updates import BETA1, BETA2, EPSILON, REST1, REST2, SHIFT_EPSILON
from bnn_gluon.kernels import parallel
from bnn_gluon.kernels.ap2 import ap2

# update(parameter, gradient, *moments, limit, *sizes): one update in place, then clipping to +-limit. Arrays are
# float32 (n,), of any one n; limit and sizes are float32.
Update = Callable[..., None]

NO_LIMIT = np.float32(np.inf)

_BETA1, _BETA2, _EPSILON = np.float32(BETA1), np.float32(BETA2), np.float32(EPSILON)
_REST1, _REST2, _SHIFT_EPSILON = np.float32(REST1), np.float32(REST2), np.float32(SHIFT_EPSILON)

_ap2 = numba.njit(inline="always")(ap2)


@parallel.loop
def add_penalty(part, gradient, parameter, quantized, of_parameter, of_quantized):
    """gradient += of_parameter * parameter + of_quantized * quantized; arrays float32 (n,), the others float32."""
    for i in parallel.share(part, gradient.size):
        gradient[i] += of_parameter * parameter[i] + of_quantized * quantized[i]


@parallel.loop
def _torch_adam(part, parameter, gradient, mean, square, limit, step_size, correction):
    for i in parallel.share(part, parameter.size):
        g = gradient[i]
        m = _BETA1 * mean[i] + _REST1 * g
        v = _BETA2 * square[i] + _REST2 * g * g
        mean[i] = m
        square[i] = v
        parameter[i] = min(max(parameter[i] - step_size * (m / (np.sqrt(v) * correction + _EPSILON)), -limit), limit)


@parallel.loop
def _sgd(part, parameter, gradient, limit, step_size):
    for i in parallel.share(part, parameter.size):
        parameter[i] = min(max(parameter[i] - step_size * gradient[i], -limit), limit)


@parallel.loop
def _momentum_sgd(part, momentum, nesterov, parameter, gradient, velocity, limit, step_size):
    for i in parallel.share(part, parameter.size):
        v = momentum * velocity[i] + gradient[i]
        velocity[i] = v
        direction = gradient[i] + momentum * v if nesterov else v
        parameter[i] = min(max(parameter[i] - step_size * direction, -limit), limit)


@parallel.loop
def _shift_adamax(part, parameter, gradient, mean, maximum, limit, step_size):
    for i in parallel.share(part, parameter.size):
        g = gradient[i]
        m = _BETA1 * mean[i] + _REST1 * g
        v = _ap2(max(_BETA2 * maximum[i], abs(g))) + _SHIFT_EPSILON
        mean[i] = m
        maximum[i] = v
        parameter[i] = min(max(parameter[i] - step_size * (m / v), -limit), limit)


def _adam(parameter, gradient, mean, square, limit, step_size):
    _torch_adam(parameter, gradient, mean, square, limit, step_size, np.float32(1))


def _momentum(momentum, nesterov, parameter, gradient, velocity, limit, step_size):
    _momentum_sgd(np.float32(momentum), nesterov, parameter, gradient, velocity, limit, step_size)


# By the names of `benchmarks.engine.updates`, whose `update_of` chooses.
UPDATES: dict[str, Update] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "adam": _adam,
    "torch_adam": _torch_adam,
    "keras_adam": _torch_adam,
    "shift_adamax": _shift_adamax,
}
