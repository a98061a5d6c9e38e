"""The papers' batch normalizations, each as its forward pass and the gradient that its authors use.

Everything is written out in plain tensor operators, without autograd: the authors' gradients are not always those of
the forward formulas, and a step that is one function of tensors can be compiled and captured as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from bnn_torch.kernels.ap2 import ap2

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


def _biased(variance: Tensor, epsilon: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    _, factor, slope = _lasagne(variance, epsilon, count)
    return variance, factor, slope


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
    "torch_no_gamma", "biased_no_gamma": as "torch", where gamma is 1; of the second the biased variance is averaged.
        Source: tf.keras, BatchNormalization(scale=False), fused and not.
    "tensor": as "torch", of a tensor that `stages.WholeNormalized` gives as one channel.
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
    """Statistics of a batch, float32 (channels,).

    Mean and spread are for the moving averages; scale, factor and slope for `backward`.
    """

    mean: Tensor
    spread: Tensor
    scale: Tensor
    factor: Tensor
    slope: Tensor


_TORCH = BatchNorm(_torch, lambda variance, epsilon: 1 / (variance + epsilon).sqrt(), _itself)
_BIASED = _TORCH._replace(formulas=_biased)
BATCH_NORMS = {
    "binaryconnect": BatchNorm(_binaryconnect, lambda std, epsilon: 1 / (std + epsilon), _itself),
    "lasagne": BatchNorm(_lasagne, lambda inv_std, epsilon: inv_std, _itself),
    "torch": _TORCH,
    "torch_no_affine": _TORCH,
    "torch_no_gamma": _TORCH,
    "biased_no_gamma": _BIASED,
    "tensor": _TORCH,
    "shift": BatchNorm(_shift, lambda inv_std, epsilon: ap2(inv_std), ap2),
}


def _batch_axes(x: Tensor) -> list[int]:
    """All axes of x (N, channels, ...) but that of the channels."""
    return [0, *range(2, x.ndim)]


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """Values of the channels as something that broadcasts against x (N, channels, ...)."""
    return values.reshape(1, -1, *[1] * (x.ndim - 2))
