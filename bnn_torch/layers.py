"""Activations and batch normalizations of the papers, each as its forward pass and the gradient that its authors use.

Everything is written out in plain tensor operators, without autograd: the authors' gradients are not always those of
the forward formulas, and a step that is one function of tensors can be compiled and captured as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from bnn_torch.kernels.ap2 import ap2

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# -- activations -------------------------------------------------------------------------------------------------------


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


_ACTIVATIONS = {
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
}
# The ReLU of `ModelSettings.linear_output`: its derivative at 0 is PyTorch's, 0.
LINEAR_RELU = Activation(lambda y: y.clamp(min=0), lambda y: (y > 0).to(y.dtype))


def activation(word: str, model: ModelSettings) -> Activation:
    """A layer's activation: see `ModelSettings.activation`. "sign" and "ternary" have the slope of their estimator."""
    if word not in ("sign", "ternary"):
        return _ACTIVATIONS[word]
    estimator = _swish(model.swish_beta) if model.swish_beta is not None else _ESTIMATORS[model.activation_gradient]
    # f has the sign of x, so there is nothing to compute.
    return Activation(_sign if word == "sign" else lambda x: _ternary(estimator.f(x)), estimator.slope)


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


# Source: RWTH-IDS/efficient-binary-neural-networks, lenet.py: hardtanh, "vanilla" and _bireal_ste(), that of Bi-Real
# Net (arXiv 1808.00278).
_ESTIMATORS = {
    "hardtanh": Estimator(lambda x: x.clamp(-1, 1), _inside),
    "identity": Estimator(lambda x: x, torch.ones_like),
    "bireal": Estimator(_bireal, lambda x: (2 - 2 * x.abs()) * _inside(x)),
}


def _swish(beta: float) -> Estimator:
    """f = 2s (1 + bx (1 - s)) - 1, or x where that gives 0; f' = 2bs (1 - s) (2 + bx (1 - 2s)); s the sigmoid of bx.

    Source: RWTH-IDS/efficient-binary-neural-networks, lenet.py, _swish_ste(); arXiv 1812.11800, SignSwish.
    """

    def f(x: Tensor) -> Tensor:
        s = torch.sigmoid(beta * x)
        y = 2 * s * (1 + beta * x * (1 - s)) - 1
        return torch.where(y == 0, x, y)

    def slope(x: Tensor) -> Tensor:
        s = torch.sigmoid(beta * x)
        return 2 * beta * s * (1 - s) * (2 + beta * x * (1 - 2 * s))

    return Estimator(f, slope)


# -- batch normalization -----------------------------------------------------------------------------------------------

# How a batch normalization follows from the variance: a function of variance, float32 (channels,), epsilon and the
# number of values a channel that gives
#   what is averaged beside the mean;
#   the factor r that the centered input is multiplied by, beside gamma;
#   r', with which the gradient of r reaches the input x: -gamma * r' * sum(g * (x - mean)) / count * (x - mean).


def _binaryconnect(variance: Tensor, epsilon: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    std = variance.sqrt()
    factor = 1 / (std + epsilon)
    return std, factor, factor * factor / std  # NaN for a channel of zero variance, as in the original


def _lasagne(variance: Tensor, epsilon: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    inv_std = 1 / (variance + epsilon).sqrt()
    return inv_std, inv_std, inv_std * inv_std * inv_std


def _torch(variance: Tensor, epsilon: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    _, factor, slope = _lasagne(variance, epsilon, count)
    return variance * (count / max(count - 1, 1)), factor, slope  # of a single value, 0


def _shift(variance: Tensor, epsilon: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    inv_std, _, _ = _lasagne(variance, epsilon, count)
    factor = ap2(inv_std)
    return inv_std, factor, factor * factor * factor


def _itself(x: Tensor) -> Tensor:
    return x


class BatchNorm(NamedTuple):
    """A batch normalization, over the batch and the pixels of a convolution's output, of float32 tensors.

    Forward, with c = x - mean and R the rounding: variance = mean(c * R(c)), y = R(gamma) * factor * c + beta.
    Gradient, with g that of y and count the number of values a channel:
    dx = R(gamma) * factor * (g - mean(g)) - R(gamma) * factor' * sum(g * R(c)) / count * R(c),
    dgamma = factor * sum(g * R(c)), dbeta = sum(g).
    In evaluation mean and spread are moving averages, m <- (1 - alpha) m + alpha * batch value, not bias-corrected.

    Kinds, with R(x) = x unless another is named:
    "binaryconnect": factor = 1 / (std + epsilon); std is averaged, without epsilon. A channel of zero variance has
        gradient NaN. Source: BinaryConnect, batch_norm.py.
    "lasagne": factor = inv_std = 1 / sqrt(variance + epsilon), which is averaged. Source: BatchNormLayer in
        lasagne/layers/normalization.py of January 2016, which BinaryNet uses.
    "torch", "torch_no_affine": the same factor; the unbiased variance is averaged. Source: torch/nn,
        BatchNormalization.lua; PyTorch's BatchNorm2d(affine=False) for the second, where gamma is 1 and beta 0.
    "shift": R = AP2 and factor = AP2(inv_std); the unrounded inv_std is averaged. All that an input is multiplied by is
        a power of two, and dgamma = sum(AP2(AP2(inv_std) * c) * g). Source: itayhubara/BinaryNet,
        (Spatial)BatchNormalizationShiftPow2.lua; arXiv 1602.02830, shift based batch normalization.
    """

    formulas: Callable[[Tensor, float, int], tuple[Tensor, Tensor, Tensor]]
    factor: Callable[[Tensor, float], Tensor]  # from the moving average of the spread, in evaluation
    rounded: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Moments]:
        """Output and what the backward pass needs."""
        axes, count = _batch_axes(x), x.numel() // x.shape[1]
        mean = x.mean(axes)
        centered = x - _wide(mean, x)
        variance = (centered * self.rounded(centered)).mean(axes)
        spread, factor, slope = self.formulas(variance, epsilon, count)
        scale = self.rounded(gamma) * factor
        moments = Moments(mean, spread, scale, factor, self.rounded(gamma) * slope)
        return centered * _wide(scale, x) + _wide(beta, x), moments

    def output(self, x: Tensor, moments: Moments, beta: Tensor) -> Tensor:
        """The output of `forward` again."""
        return (x - _wide(moments.mean, x)) * _wide(moments.scale, x) + _wide(beta, x)

    def backward(self, x: Tensor, g: Tensor, moments: Moments) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of x, gamma and beta."""
        axes, count = _batch_axes(x), x.numel() // x.shape[1]
        rounded = self.rounded(x - _wide(moments.mean, x))
        sum_g, sum_gc = g.sum(axes), (g * rounded).sum(axes)
        slope = moments.slope * sum_gc / count
        dx = _wide(moments.scale, x) * (g - _wide(sum_g / count, x)) - _wide(slope, x) * rounded
        return dx, sum_gc * moments.factor, sum_g

    def evaluate(self, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, spread: Tensor, epsilon: float) -> Tensor:
        """Output by the moving averages."""
        scale = self.rounded(gamma) * self.factor(spread, epsilon)
        return (x - _wide(mean, x)) * _wide(scale, x) + _wide(beta, x)


class Moments(NamedTuple):
    """Of a batch, float32 (channels,): mean and spread for the moving averages; scale, factor, slope for `backward`."""

    mean: Tensor
    spread: Tensor
    scale: Tensor
    factor: Tensor
    slope: Tensor


_TORCH = BatchNorm(_torch, lambda variance, epsilon: 1 / (variance + epsilon).sqrt(), _itself)
BATCH_NORMS = {
    "binaryconnect": BatchNorm(_binaryconnect, lambda std, epsilon: 1 / (std + epsilon), _itself),
    "lasagne": BatchNorm(_lasagne, lambda inv_std, epsilon: inv_std, _itself),
    "torch": _TORCH,
    "torch_no_affine": _TORCH,
    "shift": BatchNorm(_shift, lambda inv_std, epsilon: ap2(inv_std), ap2),
}


def _batch_axes(x: Tensor) -> list[int]:
    """All axes of x (N, channels, ...) but that of the channels."""
    return [0, *range(2, x.ndim)]


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """Values of the channels as something that broadcasts against x (N, channels, ...)."""
    return values.reshape(1, -1, *[1] * (x.ndim - 2))
