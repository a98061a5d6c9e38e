"""Parameter updates: one pass over memory for moments, step and clipping, once compiled.

A rule is applied to every parameter by itself. Which are clipped, and how the learning rate of each is scaled, the
recipe says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.parameters import ap2 as ap2_of_number
from bnn_torch.ap2 import ap2

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# lasagne.updates.adam, its defaults.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
_BETA1, _BETA2, _EPSILON = (float(np.float32(value)) for value in (BETA1, BETA2, EPSILON))
# Subtracted in double precision, as Lasagne does: in float32, 1 - .999 is 1.3e-5 larger.
_REST1, _REST2 = float(np.float32(1 - BETA1)), float(np.float32(1 - BETA2))

_SHIFT_EPSILON = 2.0**-27  # adaMax_binary_clip_shift.lua


class Updated(NamedTuple):
    """What a rule makes of a parameter, and of the moments that it keeps beside it."""

    parameter: Tensor
    moments: tuple[Tensor, ...]


class Rule(Protocol):
    """An optimiser: `moments` names the tensors that it keeps beside each parameter, which start at zero."""

    moments: tuple[str, ...]

    def sizes(self, lr: float, step: int) -> tuple[np.float32, ...]:
        """What depends on the number of the update (from 1): what its direction is multiplied by, and maybe more."""

    def update(
        self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor, *more: Tensor
    ) -> Updated:
        """One update, not clipped; float32 of any one shape. The last arguments are `sizes`, and broadcast."""


class Adam:
    """theta <- theta - a_t * m / (sqrt(v) + epsilon), a_t = lr * sqrt(1 - beta2^t) / (1 - beta1^t).

    Lasagne's form, where epsilon is not bias-corrected ("epsilon hat" of arXiv 1412.6980, section 2).
    Source: lasagne/updates.py, adam(); binary_connect.py, clipping_scaling(), as Theano compiles it: p - s * step, not
    the literal p + s * ((p - step) - p), which loses small steps.
    """

    moments: tuple[str, ...] = ("mean", "square")

    def sizes(self, lr: float, step: int) -> tuple[np.float32, ...]:
        return (np.float32(lr * math.sqrt(1 - BETA2**step) / (1 - BETA1**step)),)

    def update(
        self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor, *more: Tensor
    ) -> Updated:
        mean, square = _averages(moments, gradient)
        return Updated(parameter - step_size * (mean / (square.sqrt() + _EPSILON)), (mean, square))


class TorchAdam:
    """theta <- theta - a_t * m / (sqrt(v / (1 - beta2^t)) + epsilon), a_t = lr / (1 - beta1^t).

    Adam as published, where epsilon is added to the bias-corrected root (arXiv 1412.6980, algorithm 1). Its second size
    is 1 / sqrt(1 - beta2^t). Source: PyTorch's torch.optim.Adam.
    """

    moments: tuple[str, ...] = ("mean", "square")

    def sizes(self, lr: float, step: int) -> tuple[np.float32, ...]:
        return np.float32(lr / (1 - BETA1**step)), np.float32(1 / math.sqrt(1 - BETA2**step))

    def update(
        self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor, *more: Tensor
    ) -> Updated:
        mean, square = _averages(moments, gradient)
        (correction,) = more
        return Updated(parameter - step_size * (mean / (square.sqrt() * correction + _EPSILON)), (mean, square))


def _averages(moments: Sequence[Tensor], gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Adam's moving averages of the gradient and of its square."""
    mean, square = moments
    return _BETA1 * mean + _REST1 * gradient, _BETA2 * square + _REST2 * gradient * gradient


class Sgd:
    """theta <- theta - lr * g. Source: lasagne/updates.py, sgd()."""

    moments: tuple[str, ...] = ()

    def sizes(self, lr: float, step: int) -> tuple[np.float32, ...]:
        return (np.float32(lr),)

    def update(
        self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor, *more: Tensor
    ) -> Updated:
        return Updated(parameter - step_size * gradient, ())


class MomentumSgd(Sgd):
    """v <- momentum v + g; theta <- theta - lr v, or with Nesterov's momentum theta - lr (g + momentum v).

    Source: PyTorch's torch.optim.SGD.
    """

    moments: tuple[str, ...] = ("velocity",)

    def __init__(self, momentum: float, nesterov: bool) -> None:
        self._momentum, self._nesterov = momentum, nesterov

    def update(
        self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor, *more: Tensor
    ) -> Updated:
        velocity = self._momentum * moments[0] + gradient
        direction = gradient + self._momentum * velocity if self._nesterov else velocity
        return Updated(parameter - step_size * direction, (velocity,))


class ShiftAdaMax:
    """theta <- theta - a_t * m / v, a_t = AP2(lr / (1 - beta1^t)): AdaMax whose divisions are shifts.

    m <- beta1 m + (1 - beta1) g, v <- AP2(max(beta2 v, |g|)) + 2^-27, and this v is what the next step starts from. So
    it never decays, as .999 * 2^k rounds back to 2^k: it is the largest |g| so far, rounded.
    Source: itayhubara/BinaryNet, adaMax_binary_clip_shift.lua; arXiv 1602.02830, shift based AdaMax.
    """

    moments: tuple[str, ...] = ("mean", "maximum")

    def sizes(self, lr: float, step: int) -> tuple[np.float32, ...]:
        return (ap2_of_number(np.float32(lr / (1 - BETA1**step))),)

    def update(
        self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor, *more: Tensor
    ) -> Updated:
        mean = _BETA1 * moments[0] + _REST1 * gradient
        maximum = ap2(torch.maximum(_BETA2 * moments[1], gradient.abs())) + _SHIFT_EPSILON
        return Updated(parameter - step_size * (mean / maximum), (mean, maximum))


_RULES: dict[str, Rule] = {
    "adam": Adam(),
    "torch_adam": TorchAdam(),
    "sgd": Sgd(),
    "shift_adamax": ShiftAdaMax(),
}


def rule_of(model: ModelSettings) -> Rule:
    """The optimiser of a recipe."""
    return MomentumSgd(model.momentum, model.nesterov) if model.momentum else _RULES[model.optimizer]
