"""The papers' activations, each as its forward pass and the gradient that its authors use.

Everything is written out in plain tensor operators, without autograd: the authors' gradients are not always those of
the forward formulas, and a step that is one function of tensors can be compiled and captured as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Activation(NamedTuple):
    """An activation of float32 tensors.

    Attributes:
        forward: of y and, where thresholds are drawn, of them; in evaluation of y alone.
        slope: its derivative at y, float32.
    """

    forward: Callable[..., Tensor]
    slope: Callable[[Tensor], Tensor]


def _relu_slope(y: Tensor) -> Tensor:
    return 0.5 * ((y > 0).to(y.dtype) + (y >= 0).to(y.dtype))


def _upper_half(y: Tensor) -> Tensor:
    """Whether (y + 1) / 2, in float32, is rounded up: where y >= -2.98e-8."""
    return (y + 1) * 0.5 >= 0.5


def _within(y: Tensor) -> Tensor:
    """1 where the original clips nothing, which it decides at (y + 1) / 2 in float32, so at 1.0000001 too; else 0."""
    half = (y + 1) * 0.5
    return ((half >= 0) & (half <= 1)).to(y.dtype)


def _stochastic_sign(y: Tensor, thresholds: Tensor | None = None) -> Tensor:
    return torch.sign(y) if thresholds is None else torch.sign(y.clamp(-1, 1) - thresholds)


_FIXED = {
    # max(0, y); derivative 1 where y > 0, 1/2 at 0, as Theano's abs form has it, else 0.
    "relu": Activation(lambda y: y.clamp(min=0), _relu_slope),
    # +1 where y >= 0, else -1; derivative 1 where |y| <= 1. Rounding is half away from zero and (y + 1) / 2 a float32,
    # so -2.98e-8 <= y < 0 gives +1 too. Source: binary_net.py, binary_tanh_unit(); arXiv 1602.02830, section 1.3.
    "binary_tanh": Activation(lambda y: _upper_half(y).to(y.dtype) * 2 - 1, _within),
    # 1 where y >= 0, else 0; derivative 1/2 where |y| <= 1. Source: binary_net.py, binary_sigmoid_unit().
    "binary_sigmoid": Activation(lambda y: _upper_half(y).to(y.dtype), lambda y: 0.5 * _within(y)),
    # +1 with probability clip((y + 1) / 2, 0, 1), else -1: sign(clip(y, -1, 1) - T), T uniform in (-1, 1). Derivative
    # that of the hardtanh, straight through the sign: 1 where |y| <= 1. In evaluation sign(y), and sign(0) = 0 as Torch
    # has it. Source: itayhubara/BinaryNet, BinarizedNeurons.lua behind nn.HardTanh; arXiv 1602.02830, equation 2.
    "stochastic_sign": Activation(_stochastic_sign, lambda y: (y.abs() <= 1).to(y.dtype)),
    # -1, 0 or +1: a signed integer of two bits in narrow range, halves rounded to even. Derivative 1 where the rounded
    # value is not clipped. Source: brevitas, core/quant/int_base.py, IntQuant.
    "int2": Activation(lambda y: y.round().clamp(-1, 1), lambda y: (y.round().abs() <= 1).to(y.dtype)),
}
# The ReLU of `ModelSettings.linear_output`: its derivative at 0 is PyTorch's, 0.
LINEAR_RELU = Activation(lambda y: y.clamp(min=0), lambda y: (y > 0).to(y.dtype))


def _sign(x: Tensor) -> Tensor:
    """+1 where x > 0, else -1. Source: RWTH-IDS/efficient-binary-neural-networks, binary_modules.py, binarize()."""
    return (x > 0).to(x.dtype) * 2 - 1


def _ternary(y: Tensor) -> Tensor:
    """+1 where y > t, -1 where y < -t, else 0, with t = .4 mean|y| over the whole tensor.

    The sum is one of double precision, so that t does not depend on its order.
    Source: RWTH-IDS/efficient-binary-neural-networks, ternary_modules.py, ternarize() with "tbn".
    """
    threshold = (0.4 * y.abs().mean(dtype=torch.float64)).to(y.dtype)
    return (y > threshold).to(y.dtype) - (y < -threshold).to(y.dtype)


class Estimator(NamedTuple):
    """What "sign" and "ternary" act on, f(x), and its derivative: `ModelSettings.activation_gradient` has both."""

    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _inside(x: Tensor) -> Tensor:
    return (x.abs() < 1).to(x.dtype)


def _bireal(x: Tensor) -> Tensor:
    clipped = x.clamp(-1, 1)
    return 2 * clipped - clipped * clipped.abs()


def _swish(beta: float | None) -> Estimator:
    """f = 2s (1 + bx (1 - s)) - 1, or x where that gives 0; f' = 2bs (1 - s) (2 + bx (1 - 2s)); s the sigmoid of bx.

    Source: RWTH-IDS/efficient-binary-neural-networks, lenet.py, _swish_ste(); arXiv 1812.11800, SignSwish.
    """
    assert beta is not None

    def f(x: Tensor) -> Tensor:
        s = torch.sigmoid(beta * x)
        y = 2 * s * (1 + beta * x * (1 - s)) - 1
        return torch.where(y == 0, x, y)

    def slope(x: Tensor) -> Tensor:
        s = torch.sigmoid(beta * x)
        return 2 * beta * s * (1 - s) * (2 + beta * x * (1 - 2 * s))

    return Estimator(f, slope)


# What "sign" and "ternary" act on, by the words of `ModelSettings.activation_gradient`: functions of `swish_beta`.
# Source: RWTH-IDS/efficient-binary-neural-networks, lenet.py: hardtanh, "vanilla" and _bireal_ste(), that of Bi-Real
# Net (arXiv 1808.00278).
ESTIMATORS: dict[str, Callable[[float | None], Estimator]] = {
    "hardtanh": lambda beta: Estimator(lambda x: x.clamp(-1, 1), _inside),
    "identity": lambda beta: Estimator(lambda x: x, torch.ones_like),
    "bireal": lambda beta: Estimator(_bireal, lambda x: (2 - 2 * x.abs()) * _inside(x)),
    "swish": _swish,
}


def _whatever_the_estimator(activation: Activation) -> Callable[[Estimator], Activation]:
    return lambda estimator: activation


# By the words of `ModelSettings.activation`: functions of the estimator. "sign" and "ternary" have its slope; as every
# f has the sign of x, "sign" need not compute it.
ACTIVATIONS: dict[str, Callable[[Estimator], Activation]] = {
    **{word: _whatever_the_estimator(fixed) for word, fixed in _FIXED.items()},
    "none": lambda estimator: Activation(lambda x: x, torch.ones_like),
    "torch_sign": lambda estimator: Activation(torch.sign, _inside),
    "sign": lambda estimator: Activation(_sign, estimator.slope),
    "ternary": lambda estimator: Activation(lambda x: _ternary(estimator.f(x)), estimator.slope),
}


def activation(word: str, model: ModelSettings) -> Activation:
    """A layer's activation: see `ModelSettings.activation`."""
    return ACTIVATIONS[word](ESTIMATORS[model.activation_gradient](model.swish_beta))
