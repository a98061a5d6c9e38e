"""What is drawn at random for each layer in a step: dropout masks and the thresholds of stochastic activations."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from benchmarks.engine.layers import Layer
    from benchmarks.recipe import ModelSettings

# Numbers of the first layer's masks and thresholds among the random draws; weights count from 0, those that are drawn
# for an evaluated batch from EVALUATION_WEIGHTS.
_FIRST_MASK, _FIRST_THRESHOLDS, _FIRST_OUTPUT_MASK, EVALUATION_WEIGHTS = 1 << 16, 1 << 17, 3 << 16, 1 << 18


class Mask(NamedTuple):
    """A dropout mask to be drawn: `scale` with probability `keep`, else 0; `shape` is without the batch axis."""

    tensor: int
    shape: tuple[int, ...]
    keep: np.float32
    scale: np.float32


class Thresholds(NamedTuple):
    """Thresholds of a stochastic activation to be drawn; `shape` is without the batch axis."""

    tensor: int
    shape: tuple[int, ...]


class Draws(NamedTuple):
    """What is drawn for a layer in each step besides weights, where it is.

    Attributes:
        mask, output_mask: of the linear layer's input and output.
        thresholds: of the activation behind it.
    """

    mask: Mask | None
    output_mask: Mask | None
    thresholds: Thresholds | None


def draws_of(layers: list[Layer], model: ModelSettings) -> list[Draws]:
    """The draws of each layer. Weights are drawn too if they are stochastic: their tensors are numbered from 0."""
    found, first_of = [], dict[tuple[int, ...], int]()
    for position, layer in enumerate(layers):
        mask = output_mask = thresholds = None
        inputs, outputs = layer.shape.input_shape, layer.shape.output_shape
        if layer.dropout:
            # The original gives every dropout layer the same seed: equal shapes, equal masks.
            number = first_of.setdefault(inputs, position) if model.dropout_kind == "normal_threshold" else position
            mask = Mask(_FIRST_MASK + number, inputs, *keep_and_scale(layer.dropout, model.dropout_kind))
        if layer.output_dropout:
            kept = keep_and_scale(layer.output_dropout, model.dropout_kind)
            output_mask = Mask(_FIRST_OUTPUT_MASK + position, outputs, *kept)
        if layer.activation == "stochastic_sign":
            pooled_before = layer.pool is not None and model.layer_order == "CPBA"
            shape = layers[position + 1].shape.input_shape if pooled_before else outputs
            thresholds = Thresholds(_FIRST_THRESHOLDS + position, shape)
        found.append(Draws(mask, output_mask, thresholds))
    return found


def keep_and_scale(rate: float, kind: str) -> tuple[np.float32, np.float32]:
    """With which probability dropout keeps a value, and what that is multiplied by: see `ModelSettings.dropout_kind`.

    Source: lasagne/layers/noise.py, DropoutLayer with rescale=True; akshaychawla/Binary-Neural-Networks@4fc39ad,
    layers.py, Dropout: (srng.normal(shape) < p) / p.
    """
    keep = np.float32(1) - np.float32(rate)
    if kind == "normal_threshold":
        return np.float32(NormalDist().cdf(1 - rate)), np.float32(1) / keep
    return keep, np.float32(1) / keep
