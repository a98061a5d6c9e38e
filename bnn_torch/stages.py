"""A stage of the network, forward and backward: a linear layer with its pooling, batch normalisation and activation.

Both directions are plain functions of tensors, so that a whole training step can be compiled, or captured in a CUDA
graph. What is computed in which float type:

* Products: linear layers take inputs, weights and output gradients in `dtype` and give results in it; sums run in
  float32. With float32 nothing is rounded; with TF32, what enters a product is rounded to 10 fraction bits. With
  bfloat16 (7 fraction bits) binary weights are exact where H is a power of two, and so are activations of -1, 0 and +1,
  products of them, and their sums up to 256. Rounded are images, ReLU and dropped-out activations, real-valued weights,
  larger sums, and all gradients that enter or leave a linear layer.
* All else (bias, pooling, batch normalisation, activation, loss, update) in float32, whatever `dtype` is.
* Evaluation in float32 products, of TF32 unless the engine's precision is float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.architecture import Conv
from benchmarks.parameters import Draw, Layer
from bnn_torch import quantize
from bnn_torch.layers import ACTIVATIONS, BATCH_NORMS, Moments
from bnn_torch.pooling import GRADIENTS, max_pool

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Affine(NamedTuple):
    """What a stage has beside weights, float32 (channels,)."""

    bias: Tensor
    gamma: Tensor
    beta: Tensor


class Taped(NamedTuple):
    """What the backward pass of a stage needs of its forward pass."""

    x: Tensor
    mask: Tensor | None
    unpooled: Tensor
    places: Tensor | None
    z: Tensor
    moments: Moments


class Gradients(NamedTuple):
    """Of a stage: its input, None for images; its weights, in their shape and dtype; bias, gamma and beta."""

    x: Tensor | None
    weight: Tensor
    affine: Affine


class Stage:
    """One stage; its tensors are given with each call."""

    def __init__(
        self,
        layer: Layer,
        mask: Draw | None,
        thresholds: Draw | None,
        model: ModelSettings,
        key: quantize.Key,
        dtype: torch.dtype,
    ) -> None:
        self.layer = layer
        self._is_conv = isinstance(layer.shape.layer, Conv)
        self._is_first = layer.norm == "bn1"
        self._padding = layer.shape.layer.kernel // 2 if isinstance(layer.shape.layer, Conv) else 0
        self._norm, self._epsilon = BATCH_NORMS[layer.norm_kind], model.batch_norm_epsilon
        self._activation = None if layer.last else ACTIVATIONS[model.activation]
        self._pool_gradient = GRADIENTS[model.max_pool_gradient]
        self._mask, self._thresholds, self._key, self._dtype = mask, thresholds, key, dtype
        self._keep, self._rescale = quantize.keep_and_scale(layer.dropout)

    def forward(self, x: Tensor, weight: Tensor, affine: Affine, step: Tensor) -> tuple[Tensor, Taped]:
        """Output in training, float32.

        Args:
            x: float32 (N, channels, rows, columns) or (N, units).
            weight: that products use, in the stage's dtype.
            affine: bias, gamma and beta.
            step: int64 (), from 1: what random draws are a function of.
        """
        mask = None
        if self._mask is not None:
            mask = quantize.dropout_mask(x.shape, self._keep, self._rescale, self._mask.tensor, step, self._key)
            x = x * mask
        x = x.to(self._dtype)
        z = unpooled = self._linear(x, weight, affine.bias)
        places = None
        if self.layer.pool is not None:
            z, places = max_pool(unpooled, self.layer.pool)
        y, moments = self._norm.forward(z, affine.gamma, affine.beta, self._epsilon)
        if self._activation is not None:
            drawn = []
            if self._thresholds is not None:
                drawn = [quantize.thresholds(y.shape, self._thresholds.tensor, step, self._key)]
            y = self._activation.forward(y, *drawn)
        return y, Taped(x, mask, unpooled, places, z, moments)

    def backward(self, g: Tensor, weight: Tensor, affine: Affine, taped: Taped) -> Gradients:
        """All gradients, from that of the output, float32."""
        if self._activation is not None:
            g = g * self._activation.slope(self._norm.output(taped.z, taped.moments, affine.beta))
        g, of_gamma, of_beta = self._norm.backward(taped.z, g, taped.moments)
        if self.layer.pool is not None:
            assert taped.places is not None
            g = self._pool_gradient(g, taped.unpooled, taped.z, taped.places, self.layer.pool)
        of_bias = g.sum([0, *range(2, g.ndim)])
        of_x, of_weight = self._linear_gradients(g.to(self._dtype), taped.x, weight)
        if of_x is not None:
            of_x = of_x.to(torch.float32)
            of_x = of_x if taped.mask is None else of_x * taped.mask
        return Gradients(of_x, of_weight, Affine(of_bias, of_gamma, of_beta))

    def evaluate(self, x: Tensor, weight: Tensor, affine: Affine, mean: Tensor, spread: Tensor) -> Tensor:
        """Output by the moving averages, float32."""
        z = self._linear(x, weight, affine.bias)
        if self.layer.pool is not None:
            z = functional.max_pool2d(z, self.layer.pool)
        y = self._norm.evaluate(z, affine.gamma, affine.beta, mean, spread, self._epsilon)
        return y if self._activation is None else self._activation.forward(y)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Products, float32. The bias is added to finished sums, as the papers' frameworks do.

        The sums of a binary network are whole numbers, and pooling finds many of them tied. Sums that start with the
        bias are rounded so that one of equal sums is the greatest by chance, and the gradient goes there.
        """
        if self._is_conv:
            sums = functional.conv2d(x, weight, padding=self._padding)
            return sums.to(torch.float32) + bias.reshape(1, -1, 1, 1)
        return (x.reshape(x.shape[0], -1) @ weight.t()).to(torch.float32) + bias

    def _linear_gradients(self, g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor | None, Tensor]:
        """Of x, in its shape, and of the weights."""
        if self._is_conv:
            padding, wanted = [self._padding] * 2, [not self._is_first, True, False]
            of_x, of_weight, _ = torch.ops.aten.convolution_backward(
                g, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, wanted
            )
            return (None if self._is_first else of_x), of_weight
        of_weight = g.t() @ x.reshape(x.shape[0], -1)
        return (None if self._is_first else (g @ weight).reshape(x.shape)), of_weight
