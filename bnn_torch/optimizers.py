"""Parameter updates: one pass over memory for moments, step and clipping, once compiled.

A rule is applied to every parameter by itself. Which are clipped, and how the learning rate of each is scaled, the
recipe says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.parameters import ap2 as ap2_of_number
from bnn_torch.ap2 import ap2

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

    def step_size(self, lr: float, step: int) -> np.float32:
        """What the direction of update `step` (from 1) is multiplied by."""

    def update(self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor) -> Updated:
        """One update, not clipped; float32 of any one shape. `step_size` broadcasts."""


class Adam:
    """theta <- theta - a_t * m / (sqrt(v) + epsilon), a_t = lr * sqrt(1 - beta2^t) / (1 - beta1^t).

    Lasagne's form, where epsilon is not bias-corrected ("epsilon hat" of arXiv 1412.6980, section 2).
    Source: lasagne/updates.py, adam(); binary_connect.py, clipping_scaling(), as Theano compiles it: p - s * step, not
    the literal p + s * ((p - step) - p), which loses small steps.
    """

    moments: tuple[str, ...] = ("mean", "square")

    def step_size(self, lr: float, step: int) -> np.float32:
        return np.float32(lr * math.sqrt(1 - BETA2**step) / (1 - BETA1**step))

    def update(self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor) -> Updated:
        mean = _BETA1 * moments[0] + _REST1 * gradient
        square = _BETA2 * moments[1] + _REST2 * gradient * gradient
        return Updated(parameter - step_size * (mean / (square.sqrt() + _EPSILON)), (mean, square))


class Sgd:
    """theta <- theta - lr * g. Source: lasagne/updates.py, sgd()."""

    moments: tuple[str, ...] = ()

    def step_size(self, lr: float, step: int) -> np.float32:
        return np.float32(lr)

    def update(self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor) -> Updated:
        return Updated(parameter - step_size * gradient, ())


class ShiftAdaMax:
    """theta <- theta - a_t * m / v, a_t = AP2(lr / (1 - beta1^t)): AdaMax whose divisions are shifts.

    m <- beta1 m + (1 - beta1) g, v <- AP2(max(beta2 v, |g|)) + 2^-27, and this v is what the next step starts from. So
    it never decays, as .999 * 2^k rounds back to 2^k: it is the largest |g| so far, rounded.
    Source: itayhubara/BinaryNet, adaMax_binary_clip_shift.lua; arXiv 1602.02830, shift based AdaMax.
    """

    moments: tuple[str, ...] = ("mean", "maximum")

    def step_size(self, lr: float, step: int) -> np.float32:
        return ap2_of_number(np.float32(lr / (1 - BETA1**step)))

    def update(self, parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], step_size: Tensor) -> Updated:
        mean = _BETA1 * moments[0] + _REST1 * gradient
        maximum = ap2(torch.maximum(_BETA2 * moments[1], gradient.abs())) + _SHIFT_EPSILON
        return Updated(parameter - step_size * (mean / maximum), (mean, maximum))


RULES: dict[str, Rule] = {"adam": Adam(), "sgd": Sgd(), "shift_adamax": ShiftAdaMax()}
