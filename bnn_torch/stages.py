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
* All else (scale, bias, pooling, batch normalization, activation, loss, penalties, update) in float32, whatever `dtype`
  is; the thresholds of ternary weights and activations, and scales, are means in float64, rounded to float32.
* Evaluation in float32 products, of TF32 unless the engine's precision is float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from benchmarks.engine.draws import Draws, Mask, Thresholds
from benchmarks.engine.layers import SPREADS, Layer
from bnn_torch import quantize
from bnn_torch.activations import LINEAR_RELU, Activation, activation
from bnn_torch.batch_norm import BATCH_NORMS, Moments
from bnn_torch.linear import Given, Linear
from bnn_torch.pools import pool_of
from bnn_torch.quantized_images import QuantizedImages

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


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
        pool = [] if layer.pool is None else [pool_of(layer.pool, model)]
        pools_first = model.layer_order == "CPBA"
        quantizes = layer.norm == "bn1" and model.input_quantization != "none"
        self._parts: list[Part] = [
            *([QuantizedImages(model.input_quantization)] if quantizes else []),
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
    """The parts that `ModelSettings.linear_output` asks for."""
    if layer.linear_output == "none":
        return []
    kind = layer.norm_kind if layer.has_linear_norm else "none"
    return [Normalized(layer.linear_norm, kind, LINEAR_RELU, layer, model, learned=layer.linear_norm_learned)]


def _normalized(layer: Layer, thresholds: Thresholds | None, model: ModelSettings, key: quantize.Key) -> list[Part]:
    """Batch normalization and activation, where there are any."""
    part = WholeNormalized if layer.norm_kind == "tensor" else Normalized
    if layer.last:
        return [] if layer.norm_kind == "none" else [part(layer.norm, layer.norm_kind, None, layer, model)]
    drawn = None if thresholds is None else Drawn(thresholds, key)
    return [part(layer.norm, layer.norm_kind, activation(layer.activation, model), layer, model, drawn)]


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


class Drawn(NamedTuple):
    """Thresholds of a stochastic activation."""

    thresholds: Thresholds
    key: quantize.Key


class Normalized:
    """Batch normalization, if there is one, and an activation, if there is one.

    What the activation acts on is computed again in the backward pass, not kept: that would take as much memory again.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        activation: Activation | None,
        layer: Layer,
        model: ModelSettings,
        drawn: Drawn | None = None,
        *,
        learned: tuple[str, ...] | None = None,
    ) -> None:
        """`name` and `kind` are those of the batch normalization, `kind` "none" if there is none.

        `learned`: which of gamma and beta it has; None: those of its layer's `norm_learned`.
        """
        self._activation, self._drawn = activation, drawn
        self._norm, self._epsilon = BATCH_NORMS.get(kind), layer.epsilon
        self._by_batch = model.evaluation_statistics == "batch"
        self._learned = {f"{name}.{word}" for word in (layer.norm_learned if learned is None else learned)}
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
        found = {self._gamma: of_gamma, self._beta: of_beta}
        return g, {name: gradient for name, gradient in found.items() if name in self._learned}

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
        """Normalize by the statistics of the batch."""
        if self._norm is None:
            return x, None
        return self._norm.forward(x, *self._scale_and_shift(x, given), self._epsilon)

    def _scale_and_shift(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """gamma and beta; 1 and 0 where there are none."""
        gamma = given.values[self._gamma] if self._gamma in self._learned else x.new_ones(x.shape[1])
        beta = given.values[self._beta] if self._beta in self._learned else x.new_zeros(x.shape[1])
        return gamma, beta

    def _thresholds(self, y: Tensor, given: Given) -> list[Tensor]:
        if self._drawn is None:
            return []
        assert given.step is not None
        return [quantize.thresholds(y.shape, self._drawn.thresholds.tensor, given.step, self._drawn.key)]


class WholeNormalized(Normalized):
    """As `Normalized`, by the mean and variance of the whole tensor, (N, units), as if it were one channel's."""

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, tuple[Tensor, Moments | None]]:
        y, taped = super().forward(x[:, None], given)
        return y[:, 0], taped

    def backward(
        self, g: Tensor, given: Given, taped: tuple[Tensor, Moments | None]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        g, found = super().backward(g[:, None], given, taped)
        return g[:, 0], found

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        return super().evaluate(x[:, None], given)[:, 0]
