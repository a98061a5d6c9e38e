"""The table of a network's layers: names and shapes of parameters, and how evaluation quantizes the weights.

Plain NumPy, like all of this room that the engines share: both get the same names, values and draws from the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.recipe.architecture import Conv, LayerShape, Pool, layer_shapes, parse_architecture
from benchmarks.recipe.layerwise import (
    NORM_LEARNED,
    layer_activations,
    layer_batch_norms,
    layer_dropouts,
    layer_linear_outputs,
    layer_trained,
    layer_weights,
)
from benchmarks.recipe.words import WORDS

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# What is averaged beside the mean by each batch normalization: its parameter is "running_<spread>".
SPREADS = {
    "binaryconnect": "std",
    "lasagne": "inv_std",
    "shift": "inv_std",
    "torch": "var",
    "torch_no_affine": "var",
    "torch_no_gamma": "var",
    "biased_no_gamma": "var",
    "tensor": "var",
}
_SCALED = {word.name for word in WORDS["model.weights"] if word.scaled}
_SCALED_BY_FILTER = {word.name for word in WORDS["model.weights"] if word.by_filter}


class Layer(NamedTuple):
    """A linear layer with the pooling and the batch normalization behind it.

    Attributes:
        name, norm: "conv1" and "bn1"; linear layers of each kind, and stages, are numbered from 1 in order.
        shape: of the linear layer.
        weights: how training quantizes them, "real" if not at all.
        biases: whether the linear layer has them.
        trained: whether weights and biases are updated.
        pool: the pooling behind it, None without pooling.
        linear_output: what is done to the linear layer's output first: "none", "relu", "batch_norm_relu" or
            "batch_norm_no_affine_relu".
        norm_kind, alpha, epsilon: of the batch normalization, kind "none" if there is none.
        activation: "none" behind the last layer.
        dropout, output_dropout: rates in front of the linear layer, and of its output.
        last: whether it is the output.
    """

    name: str
    norm: str
    shape: LayerShape
    weights: str
    biases: bool
    trained: bool
    pool: Pool | None
    linear_output: str
    norm_kind: str
    alpha: float
    epsilon: float
    activation: str
    dropout: float
    output_dropout: float
    last: bool

    @property
    def weight(self) -> str:
        return f"{self.name}.weight"

    @property
    def bias(self) -> str:
        return f"{self.name}.bias"

    @property
    def linear_norm(self) -> str:
        """Of linear_output "batch_norm_relu" and "batch_norm_no_affine_relu"."""
        return f"{self.name}_bn"

    @property
    def has_linear_norm(self) -> bool:
        """Whether `linear_output` has a batch normalization."""
        return self.linear_output.startswith("batch_norm")

    @property
    def linear_norm_learned(self) -> tuple[str, ...]:
        """What that learns: gamma and beta, or nothing."""
        return ("gamma", "beta") if self.linear_output == "batch_norm_relu" else ()

    @property
    def channels(self) -> int:
        return self.shape.output_shape[0]

    @property
    def quantized(self) -> bool:
        """Whether the forward pass uses other weights than the real-valued ones."""
        return self.weights != "real"

    @property
    def scaled(self) -> bool:
        """Whether quantized weights have a size of the layer, its parameter `scale`."""
        return self.weights in _SCALED

    @property
    def scaled_by_filter(self) -> bool:
        """Whether each filter has such a size of its own, and its part in the gradient."""
        return self.weights in _SCALED_BY_FILTER

    @property
    def scales(self) -> int:
        """How many sizes the parameter `scale` has."""
        return self.channels if self.scaled_by_filter else 1

    @property
    def scale(self) -> str:
        """Name of the size of quantized weights in the coming step and in evaluation, if `scaled`."""
        return f"{self.name}.scale"

    @property
    def norm_learned(self) -> tuple[str, ...]:
        """What the batch normalization learns, of gamma and beta."""
        return NORM_LEARNED[self.norm_kind]

    @property
    def norm_channels(self) -> int:
        """How many means and variances the batch normalization has."""
        return 1 if self.norm_kind == "tensor" else self.channels

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(out, in), or (out, in, rows, columns) of a convolution."""
        if isinstance(self.shape.layer, Conv):
            side = self.shape.layer.kernel
            return (self.channels, self.shape.input_shape[0], side, side)
        return (self.channels, self.shape.fan_in)

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all parameters, scale and running statistics included, in order."""
        names = [self.bias] if self.biases else []
        if self.has_linear_norm:
            names += self._norm_parameters(self.linear_norm, self.linear_norm_learned)
        scale = {self.scale: (self.scales,)} if self.scaled else {}
        shapes = {self.weight: self.weight_shape, **scale, **dict.fromkeys(names, (self.channels,))}
        if self.norm_kind != "none":
            names = self._norm_parameters(self.norm, self.norm_learned)
            shapes |= dict.fromkeys(names, (self.norm_channels,))
        return shapes

    @property
    def differentiated(self) -> list[str]:
        """Names of the parameters that have gradients, in order."""
        return [name for name in self.parameters if ".running_" not in name and name != self.scale]

    def _norm_parameters(self, norm: str, learned: tuple[str, ...]) -> list[str]:
        return [f"{norm}.{name}" for name in (*learned, "running_mean", f"running_{SPREADS[self.norm_kind]}")]


def layers_of(model: ModelSettings, input_shape: tuple[int, ...]) -> list[Layer]:
    """The network's layers in order."""
    shapes = layer_shapes(parse_architecture(model.architecture), input_shape)
    pools = [after.layer if isinstance(after.layer, Pool) else None for after in shapes[1:]] + [None]
    linear = [(shape, pool) for shape, pool in zip(shapes, pools, strict=True) if not isinstance(shape.layer, Pool)]
    weights, trained = layer_weights(model), layer_trained(model)
    norms, dropouts = layer_batch_norms(model), layer_dropouts(model)
    linear_outputs = layer_linear_outputs(model)
    activations = [*layer_activations(model), "none"]
    layers: list[Layer] = []
    for position, (shape, pool) in enumerate(linear):
        kind, last = "conv" if isinstance(shape.layer, Conv) else "dense", position == len(linear) - 1
        alpha = (model.output_batch_norm_alpha if last else None) or model.batch_norm_alpha
        epsilon = (model.output_batch_norm_epsilon if last else None) or model.batch_norm_epsilon
        layers.append(
            Layer(
                name=f"{kind}{sum(layer.name.startswith(kind) for layer in layers) + 1}",
                norm=f"bn{position + 1}",
                shape=shape,
                weights=weights[position],
                biases=model.biases,
                trained=trained[position],
                pool=pool,
                linear_output=linear_outputs[position],
                norm_kind=norms[position],
                alpha=alpha,
                epsilon=epsilon,
                activation=activations[position],
                dropout=dropouts[position].input,
                output_dropout=dropouts[position].output,
                last=last,
            )
        )
    return layers


def evaluation_kinds(layers: list[Layer], model: ModelSettings) -> list[str]:
    """How evaluation quantizes the weights of each layer: see `ModelSettings.evaluation_weights`."""
    if model.evaluation_weights == "real":
        return ["real" for _ in layers]
    drawn = "stochastic" if model.evaluation_weights == "stochastic" else "deterministic"
    return [drawn if layer.weights == "stochastic" else layer.weights for layer in layers]


def glorot_limit(shape: LayerShape) -> float:
    """sqrt(6 / (fan_in + fan_out)): the limit of Glorot and Bengio's uniform initialization (AISTATS 2010)."""
    return math.sqrt(6 / (shape.fan_in + shape.fan_out))


def weight_limits(layers: list[Layer], model: ModelSettings) -> dict[str, np.float32]:
    """H of each layer that is not real, by the name of its weights.

    "half_glorot" is float32(sqrt(6 / (fan_in + fan_out)) / 2), of binary_connect.py at BinaryConnect@0e27148.
    """
    half_glorot = model.weight_limit == "half_glorot"
    return {
        layer.weight: np.float32(glorot_limit(layer.shape) / 2 if half_glorot else model.weight_limit)
        for layer in layers
        if layer.quantized
    }


def check_parameters(parameters: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse parameters that are not those of these names and shapes.

    Raises:
        ValueError: a name missing or unknown, or another shape.
    """
    if set(parameters) != set(shapes):
        raise ValueError(f"parameters: expected {sorted(shapes)}, found {sorted(parameters)}")
    for name, shape in shapes.items():
        if np.shape(parameters[name]) != shape:
            raise ValueError(f"{name}: expected shape {shape}, found {np.shape(parameters[name])}")
