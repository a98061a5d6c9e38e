"""A stage of the network, forward and backward: a linear layer with its dropout, pooling, batch normalization and
activation, which are its parts, in the recipe's order.

Both directions are plain functions of tensors, so that a whole training step can be compiled, or captured in a CUDA
graph. What is computed in which float type:

* Products: linear layers take inputs, weights and output gradients in `dtype` and give results in it; sums run in
  float32. With float32 nothing is rounded; with TF32, what enters a product is rounded to 10 fraction bits. With
  bfloat16 (7 fraction bits) binary and ternary weights are exact where H is a power of two, and so are activations of
  -1, 0 and +1, whether they are padded with zeros or with copies of themselves, products of them, and their sums up to
  256. Rounded are images, ReLU and dropped-out activations, real-valued weights (in a network that has some layers of
  them, in these layers only), larger sums, and all gradients that enter or leave a linear layer.
* All else (bias, pooling, batch normalization, activation, loss, penalties, update) in float32, whatever `dtype` is;
  the thresholds of ternary weights and activations are means in float64, rounded to float32.
* Evaluation in float32 products, of TF32 unless the engine's precision is float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.engine.parameters import SPREADS, Draws, Layer, Mask, Thresholds
from benchmarks.recipe.architecture import Conv
from bnn_torch import quantize
from bnn_torch.kernels.convolution import convolution_gradients
from bnn_torch.kernels.padding import fold_edge, pad_edge
from bnn_torch.kernels.pooling import GRADIENTS, max_pool
from bnn_torch.layers import BATCH_NORMS, LINEAR_RELU, Activation, Moments, activation

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Given(NamedTuple):
    """What a stage is given with each call.

    Attributes:
        weight: that products use; in training in the network's dtype, in evaluation float32.
        values: biases, gammas, betas and running statistics of the network, float32 (channels,), by name.
        step: int64 (), from 1: what random draws are a function of; in training.
    """

    weight: Tensor
    values: Mapping[str, Tensor]
    step: Tensor | None = None


class Part(Protocol):
    """A part of a stage. Tensors between parts are float32, (N, channels, rows, columns) or (N, units)."""

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Any]:
        """Output in training, and what `backward` needs."""

    def backward(self, g: Tensor, given: Given, taped: Any) -> tuple[Tensor | None, dict[str, Tensor]]:
        """From the gradient of the output that of the input, None for images, and those of parameters by name."""

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        """Output in evaluation."""


class Stage:
    """A linear layer with what belongs to it."""

    def __init__(self, layer: Layer, draws: Draws, model: ModelSettings, key: quantize.Key, dtype: torch.dtype) -> None:
        pool = [] if layer.pool is None else [Pool(layer.pool, model.max_pool_gradient)]
        pools_first = model.layer_order == "CPBA"
        self._parts: list[Part] = [
            *([] if draws.mask is None else [Dropout(draws.mask, key)]),
            Linear(layer, model, dtype),
            *_on_linear_output(layer, model),
            *([] if draws.output_mask is None else [Dropout(draws.output_mask, key)]),
            *(pool if pools_first else []),
            *_normalized(layer, draws.thresholds, model, key),
            *([] if pools_first else pool),
        ]

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, list[Any]]:
        """Output in training, and what `backward` and `statistics` need."""
        tape = []
        for part in self._parts:
            x, taped = part.forward(x, given)
            tape.append(taped)
        return x, tape

    def backward(self, g: Tensor, given: Given, tape: list[Any]) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Gradient of the input, None for images, and of parameters by name; of the weights in their dtype."""
        found: dict[str, Tensor] = {}
        of_input: Tensor | None = g
        for part, taped in reversed(list(zip(self._parts, tape, strict=True))):
            if of_input is not None:
                of_input, of_parameters = part.backward(of_input, given, taped)
                found |= of_parameters
        return of_input, found

    def statistics(self, tape: list[Any]) -> dict[str, Tensor]:
        """Mean and spread of the batch, by the names of the running statistics that they move."""
        return {
            name: value
            for part, taped in zip(self._parts, tape, strict=True)
            if isinstance(part, Normalized)
            for name, value in part.statistics(taped).items()
        }

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        """Output in evaluation."""
        for part in self._parts:
            x = part.evaluate(x, given)
        return x


def _on_linear_output(layer: Layer, model: ModelSettings) -> list[Part]:
    """What `ModelSettings.linear_output` says."""
    if layer.linear_output == "none":
        return []
    kind = layer.norm_kind if layer.linear_output == "batch_norm_relu" else "none"
    return [Normalized(layer.linear_norm, kind, LINEAR_RELU, model)]


def _normalized(layer: Layer, thresholds: Thresholds | None, model: ModelSettings, key: quantize.Key) -> list[Part]:
    """Batch normalization and activation, where there are any."""
    if layer.last:
        return [] if layer.norm_kind == "none" else [Normalized(layer.norm, layer.norm_kind, None, model)]
    drawn = None if thresholds is None else Drawn(thresholds, key)
    return [Normalized(layer.norm, layer.norm_kind, activation(layer.activation, model), model, drawn)]


# -- parts -------------------------------------------------------------------------------------------------------------


class Dropout:
    """x times a mask, in training."""

    def __init__(self, mask: Mask, key: quantize.Key) -> None:
        self._tensor, self._keep, self._scale, self._key = mask.tensor, float(mask.keep), float(mask.scale), key

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        assert given.step is not None
        mask = quantize.dropout_mask(x.shape, self._keep, self._scale, self._tensor, given.step, self._key)
        return x * mask, mask

    def backward(self, g: Tensor, given: Given, taped: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return g * taped, {}

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        return x


class Linear:
    """A convolution or fully connected layer, with its bias if it has one.

    The bias is added to finished sums, as the papers' frameworks do. The sums of a binary network are whole numbers,
    and pooling finds many of them tied. Sums that start with the bias are rounded so that one of equal sums is the
    greatest by chance, and the gradient goes there.
    """

    def __init__(self, layer: Layer, model: ModelSettings, dtype: torch.dtype) -> None:
        self._weight, self._bias = layer.weight, layer.bias if layer.biases else None
        self._is_conv, self._is_first = isinstance(layer.shape.layer, Conv), layer.norm == "bn1"
        around = layer.shape.layer.padding if isinstance(layer.shape.layer, Conv) else 0
        self._edge, self._padding = (around, 0) if model.padding == "edge" else (0, around)
        self._dtype = dtype

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        x = x.to(self._dtype)
        return self.evaluate(x, given), x

    def backward(self, g: Tensor, given: Given, taped: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        found = {} if self._bias is None else {self._bias: g.sum([0, *range(2, g.ndim)])}
        compute = self._conv_gradients if self._is_conv else self._dense_gradients
        of_x, found[self._weight] = compute(g.to(self._dtype), taped, given.weight)
        return of_x, found

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        if self._is_conv:
            sums = functional.conv2d(self._padded(x), given.weight, padding=self._padding).to(torch.float32)
            return sums if self._bias is None else sums + given.values[self._bias].reshape(1, -1, 1, 1)
        sums = (x.reshape(x.shape[0], -1) @ given.weight.t()).to(torch.float32)
        return sums if self._bias is None else sums + given.values[self._bias]

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


class Pooled(NamedTuple):
    """What the gradient of a max pooling needs: its input, its output, and the places of the maxima."""

    unpooled: Tensor
    largest: Tensor
    places: Tensor


class Pool:
    """Max pooling."""

    def __init__(self, size: int, gradient: str) -> None:
        """`gradient`: a key of `pooling.GRADIENTS`."""
        self._size, self._gradient = size, GRADIENTS[gradient]

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Pooled]:
        pooled = Pooled(x, *max_pool(x, self._size))
        return pooled.largest, pooled

    def backward(self, g: Tensor, given: Given, taped: Pooled) -> tuple[Tensor, dict[str, Tensor]]:
        return self._gradient(g, *taped, self._size), {}

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        return functional.max_pool2d(x, self._size)


class Drawn(NamedTuple):
    """Thresholds of a stochastic activation."""

    thresholds: Thresholds
    key: quantize.Key


class Normalized:
    """Batch normalization, if there is one, and an activation, if there is one.

    What the activation acts on is computed again in the backward pass, not kept: that would take as much memory again.
    """

    def __init__(
        self, name: str, kind: str, activation: Activation | None, model: ModelSettings, drawn: Drawn | None = None
    ) -> None:
        """`name` and `kind` are those of the batch normalization, `kind` "none" if there is none."""
        self._activation, self._drawn = activation, drawn
        self._norm, self._epsilon = BATCH_NORMS.get(kind), model.batch_norm_epsilon
        self._by_batch, self._affine = model.evaluation_statistics == "batch", kind != "torch_no_affine"
        self._gamma, self._beta = f"{name}.gamma", f"{name}.beta"
        self._mean, self._spread = f"{name}.running_mean", f"{name}.running_{SPREADS.get(kind)}"

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, tuple[Tensor, Moments | None]]:
        y, moments = self._normalize(x, given)
        if self._activation is not None:
            y = self._activation.forward(y, *self._thresholds(y, given))
        return y, (x, moments)

    def backward(
        self, g: Tensor, given: Given, taped: tuple[Tensor, Moments | None]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x, moments = taped
        if self._norm is None or moments is None:
            return (g if self._activation is None else g * self._activation.slope(x)), {}
        if self._activation is not None:
            _, beta = self._scale_and_shift(x, given)
            g = g * self._activation.slope(self._norm.output(x, moments, beta))
        g, of_gamma, of_beta = self._norm.backward(x, g, moments)
        return g, {self._gamma: of_gamma, self._beta: of_beta} if self._affine else {}

    def statistics(self, taped: tuple[Tensor, Moments | None]) -> dict[str, Tensor]:
        """Mean and spread of the batch, by the names of the running statistics."""
        _, moments = taped
        return {} if moments is None else {self._mean: moments.mean, self._spread: moments.spread}

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        if self._norm is None or self._by_batch:
            y, _ = self._normalize(x, given)
        else:
            averages = given.values[self._mean], given.values[self._spread]
            y = self._norm.evaluate(x, *self._scale_and_shift(x, given), *averages, self._epsilon)
        return y if self._activation is None else self._activation.forward(y)

    def _normalize(self, x: Tensor, given: Given) -> tuple[Tensor, Moments | None]:
        """By the statistics of the batch."""
        if self._norm is None:
            return x, None
        return self._norm.forward(x, *self._scale_and_shift(x, given), self._epsilon)

    def _scale_and_shift(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """gamma and beta; 1 and 0 where there are none."""
        if not self._affine:
            return x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])
        return given.values[self._gamma], given.values[self._beta]

    def _thresholds(self, y: Tensor, given: Given) -> list[Tensor]:
        if self._drawn is None:
            return []
        assert given.step is not None
        return [quantize.thresholds(y.shape, self._drawn.thresholds.tensor, given.step, self._drawn.key)]
