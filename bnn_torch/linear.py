"""The linear layers: PyTorch's products, in the float type that `stages` says, and their gradients without autograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.engine.layers import Layer
from benchmarks.recipe.architecture import Conv
from bnn_torch.kernels.convolution import convolution_gradients
from bnn_torch.kernels.padding import fold_edge, pad_edge

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Given(NamedTuple):
    """What a stage is given with each call.

    Attributes:
        weight: that products use; in training in the network's dtype, in evaluation float32.
        scale: what they are multiplied by, float32 (1,) or (filters,), if the layer has a scale.
        values: biases, gammas, betas and running statistics of the network, float32 (channels,), by name.
        step: int64 (), from 1: what random draws are a function of; in training.
    """

    weight: Tensor
    scale: Tensor
    values: Mapping[str, Tensor]
    step: Tensor | None = None


class Linear:
    """A convolution or fully connected layer, with its bias if it has one.

    The bias is added to finished sums, as the papers' frameworks do. The sums of a binary network are whole numbers,
    and pooling finds many of them tied. Sums that start with the bias are rounded so that one of equal sums is the
    greatest by chance, and the gradient goes there. So a scale, too, multiplies finished sums, of signs; the gradient
    of the weights is with respect to scale times sign.
    """

    def __init__(self, layer: Layer, model: ModelSettings, dtype: torch.dtype) -> None:
        self._weight, self._bias = layer.weight, layer.bias if layer.biases else None
        self._is_conv, self._is_first = isinstance(layer.shape.layer, Conv), layer.norm == "bn1"
        around = layer.shape.layer.padding if isinstance(layer.shape.layer, Conv) else 0
        self._scaled, self._by_filter = layer.scaled, layer.scaled_by_filter
        self._edge, self._padding = (around, 0) if model.padding == "edge" else (0, around)
        self._dtype = dtype

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        x = x.to(self._dtype)
        return self.evaluate(x, given), x

    def backward(self, g: Tensor, given: Given, taped: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        found = {} if self._bias is None else {self._bias: g.sum([0, *range(2, g.ndim)])}
        compute = self._conv_gradients if self._is_conv else self._dense_gradients
        # The gradient of the weights needs none of them, that of the input those of each filter in their size.
        weight = given.weight
        if self._by_filter:
            weight = (weight * _of_filters(given.scale, weight.ndim - 1)).to(self._dtype)
        of_x, found[self._weight] = compute(g.to(self._dtype), taped, weight)
        return (of_x * given.scale if self._scaled and not self._by_filter and of_x is not None else of_x), found

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        if self._is_conv:
            sums = functional.conv2d(self._padded(x), given.weight, padding=self._padding).to(torch.float32)
        else:
            sums = (x.reshape(x.shape[0], -1) @ given.weight.t()).to(torch.float32)
        sums = sums * _of_filters(given.scale, sums.ndim - 2) if self._scaled else sums
        return sums if self._bias is None else sums + _of_filters(given.values[self._bias], sums.ndim - 2)

    def _padded(self, x: Tensor) -> Tensor:
        return pad_edge(x, self._edge) if self._edge else x

    def _conv_gradients(self, g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor | None, Tensor]:
        of_x, of_weight = convolution_gradients(g, self._padded(x), weight, self._padding, of_input=not self._is_first)
        if of_x is None:
            return None, of_weight
        of_x = of_x.to(torch.float32)
        return (fold_edge(of_x, self._edge) if self._edge else of_x), of_weight

    def _dense_gradients(self, g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor | None, Tensor]:
        of_weight = g.t() @ x.reshape(x.shape[0], -1)
        return (None if self._is_first else (g @ weight).reshape(x.shape).to(torch.float32)), of_weight


def _of_filters(values: Tensor, axes: int) -> Tensor:
    """A value for each filter, as something that broadcasts over so many axes behind it."""
    return values.reshape(-1, *[1] * axes)
