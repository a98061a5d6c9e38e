"""Parameter updates: one pass over memory for moments, step and clipping, once compiled.

The formulas and their sources are with the rules: see `benchmarks.engine.updates`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.engine.updates import BETA1, BETA2, EPSILON, REST1, REST2, SHIFT_EPSILON
from bnn_torch.kernels.ap2 import ap2

_BETA1, _BETA2, _EPSILON, _REST1, _REST2 = (float(np.float32(value)) for value in (BETA1, BETA2, EPSILON, REST1, REST2))


class Updated(NamedTuple):
    """What an update makes of a parameter, and of the moments that are kept beside it."""

    parameter: Tensor
    moments: tuple[Tensor, ...]


# update(parameter, gradient, moments, *sizes): one update, not clipped; float32 of any one shape. Sizes broadcast.
Update = Callable[..., Updated]


def _sgd(parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor) -> Updated:
    return Updated(parameter - step_size * gradient, ())


def _momentum_sgd(
    momentum: float, nesterov: bool, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor
) -> Updated:
    velocity = momentum * moments[0] + gradient
    direction = gradient + momentum * velocity if nesterov else velocity
    return Updated(parameter - step_size * direction, (velocity,))


def _adam(parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor) -> Updated:
    mean, square = _averages(moments, gradient)
    return Updated(parameter - step_size * (mean / (square.sqrt() + _EPSILON)), (mean, square))


def _torch_adam(
    parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor, correction: Tensor
) -> Updated:
    mean, square = _averages(moments, gradient)
    return Updated(parameter - step_size * (mean / (square.sqrt() * correction + _EPSILON)), (mean, square))


def _averages(moments: Sequence[Tensor], gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Adam's moving averages of the gradient and of its square."""
    mean, square = moments
    return _BETA1 * mean + _REST1 * gradient, _BETA2 * square + _REST2 * gradient * gradient


def _shift_adamax(parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor) -> Updated:
    mean = _BETA1 * moments[0] + _REST1 * gradient
    maximum = ap2(torch.maximum(_BETA2 * moments[1], gradient.abs())) + SHIFT_EPSILON
    return Updated(parameter - step_size * (mean / maximum), (mean, maximum))


# By the names of `benchmarks.engine.updates`, whose `update_of` chooses.
UPDATES: dict[str, Update] = {
    "sgd": _sgd,
    "momentum": _momentum_sgd,
    "adam": _adam,
    "torch_adam": _torch_adam,
    "keras_adam": _torch_adam,
    "shift_adamax": _shift_adamax,
}
