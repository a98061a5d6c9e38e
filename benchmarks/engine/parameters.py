"""What the engines must agree on before anything is computed: names of parameters, their initial values, the scales of
their learning rates, their limits and penalties, and what is drawn at random in a step.

Plain NumPy: two engines that are given the same seed start from the same parameters and make the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.recipe.architecture import Conv, Dense, LayerShape, MaxPool, layer_shapes, parse_architecture
from benchmarks.recipe.layerwise import (
    layer_activations,
    layer_batch_norms,
    layer_dropouts,
    layer_linear_outputs,
    layer_trained,
    layer_weights,
)

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# What is averaged beside the mean by each batch normalization: its parameter is "running_<spread>".
SPREADS = {"binaryconnect": "std", "lasagne": "inv_std", "shift": "inv_std", "torch": "var", "torch_no_affine": "var"}
# Numbers of the first layer's masks and thresholds among the random draws; weights count from 0, those that are drawn
# for an evaluated batch from EVALUATION_WEIGHTS.
_FIRST_MASK, _FIRST_THRESHOLDS, _FIRST_OUTPUT_MASK, EVALUATION_WEIGHTS = 1 << 16, 1 << 17, 3 << 16, 1 << 18


class Layer(NamedTuple):
    """A linear layer with the pooling and the batch normalization behind it.

    Attributes:
        name, norm: "conv1" and "bn1"; linear layers of each kind, and stages, are numbered from 1 in order.
        shape: of the linear layer.
        weights: how training quantizes them, "real" if not at all.
        biases: whether the linear layer has them.
        trained: whether weights and biases are updated.
        pool: side of the pooling windows, None without pooling.
        linear_output: what is done to the linear layer's output first: "none", "relu" or "batch_norm_relu".
        norm_kind, alpha: of the batch normalization, "none" if there is none.
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
    pool: int | None
    linear_output: str
    norm_kind: str
    alpha: float
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
        """Of linear_output "batch_norm_relu"."""
        return f"{self.name}_bn"

    @property
    def channels(self) -> int:
        return self.shape.output_shape[0]

    @property
    def quantized(self) -> bool:
        """Whether the forward pass uses other weights than the real-valued ones."""
        return self.weights != "real"

    @property
    def affine(self) -> bool:
        """Whether there is a batch normalization with gamma and beta."""
        return self.norm_kind not in ("none", "torch_no_affine")

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(out, in), or (out, in, rows, columns) of a convolution."""
        if isinstance(self.shape.layer, Conv):
            side = self.shape.layer.kernel
            return (self.channels, self.shape.input_shape[0], side, side)
        return (self.channels, self.shape.fan_in)

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all parameters, running statistics included, in order."""
        names = [self.bias] if self.biases else []
        if self.linear_output == "batch_norm_relu":
            names += self._norm_parameters(self.linear_norm, affine=True)
        if self.norm_kind != "none":
            names += self._norm_parameters(self.norm, affine=self.affine)
        return {self.weight: self.weight_shape, **dict.fromkeys(names, (self.channels,))}

    def _norm_parameters(self, norm: str, *, affine: bool) -> list[str]:
        names = ["gamma", "beta"] if affine else []
        return [f"{norm}.{name}" for name in (*names, "running_mean", f"running_{SPREADS[self.norm_kind]}")]


def layers_of(model: ModelSettings, input_shape: tuple[int, ...]) -> list[Layer]:
    """The network's layers in order."""
    shapes = layer_shapes(parse_architecture(model.architecture), input_shape)
    pools = [after.layer.size if isinstance(after.layer, MaxPool) else None for after in shapes[1:]] + [None]
    linear = [(shape, pool) for shape, pool in zip(shapes, pools, strict=True) if not isinstance(shape.layer, MaxPool)]
    weights, trained = layer_weights(model), layer_trained(model)
    norms, dropouts = layer_batch_norms(model), layer_dropouts(model)
    linear_outputs = layer_linear_outputs(model)
    activations = [*layer_activations(model), "none"]
    layers: list[Layer] = []
    for position, (shape, pool) in enumerate(linear):
        kind, last = "conv" if isinstance(shape.layer, Conv) else "dense", position == len(linear) - 1
        alpha = (model.output_batch_norm_alpha if last else None) or model.batch_norm_alpha
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


# -- random draws ------------------------------------------------------------------------------------------------------


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


# -- values ------------------------------------------------------------------------------------------------------------


def ap2(x: np.float32) -> np.float32:
    """AP2(x) = sign(x) * 2^round(log2|x|): the power of two nearest to a positive x on a logarithmic scale.

    As arrays are rounded by the engines: between 2^k and 2^(k+1) the power changes at 2^(k + 1/2).
    Source: arXiv 1602.02830, section 1.4.
    """
    mantissa, exponent = math.frexp(float(np.float32(x) * np.float32(1.5 / math.sqrt(2))))
    return np.float32(math.ldexp(1.0, exponent if mantissa >= 0.75 else exponent - 1))


def glorot_limit(shape: LayerShape) -> float:
    """sqrt(6 / (fan_in + fan_out)): the limit of Glorot and Bengio's uniform initialization (AISTATS 2010)."""
    return math.sqrt(6 / (shape.fan_in + shape.fan_out))


def lr_scales(layers: list[Layer], model: ModelSettings) -> dict[str, np.float32]:
    """Learning-rate scale of each parameter that has one other than 1, by name; layers that are not real have some.

    "glorot": of weights, float32(1 / sqrt(1.5 / (fan_in + fan_out))), twice the inverse of Glorot's limit.
    "torch_glorot": of weights and their biases, and of gamma 1 / sqrt(1.5 / n) for n channels.
    "torch_glorot_ap2": of weights and their biases, AP2 of that.
    Source: binary_connect.py, W_LR_scale; itayhubara/BinaryNet, Models/BinaryNet_MNIST_Model.lua for the second,
    BinaryNet_Cifar10_Model.lua and BinaryNet_SVHN_Model.lua for the third.
    """
    scales: dict[str, np.float32] = {}
    if model.lr_scale == "none":
        return scales
    for layer in (layer for layer in layers if layer.quantized):
        glorot = np.float32(1 / np.sqrt(1.5 / (layer.shape.fan_in + layer.shape.fan_out)))
        scales[layer.weight] = ap2(glorot) if model.lr_scale == "torch_glorot_ap2" else glorot
        if model.lr_scale != "glorot":
            scales[layer.bias] = scales[layer.weight]
        if model.lr_scale == "torch_glorot":
            scales[f"{layer.norm}.gamma"] = np.float32(1 / np.sqrt(1.5 / layer.channels))
    return scales


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


def clip_limits(layers: list[Layer], model: ModelSettings) -> dict[str, np.float32]:
    """H of each parameter that is clipped to +-H after an update, by name."""
    limits, untouched = weight_limits(layers, model), frozen(layers)
    found: dict[str, np.float32] = {}
    for layer in (layer for layer in layers if layer.quantized):
        trained = [name for name in layer.parameters if ".running_" not in name and name not in untouched]
        names = trained if model.clipped == "all" else [name for name in trained if name == layer.weight]
        found |= dict.fromkeys(names, limits[layer.weight])
    return found


def frozen(layers: list[Layer]) -> set[str]:
    """Names of the parameters that are not updated."""
    return {name for layer in layers if not layer.trained for name in (layer.weight, layer.bias)}


class Penalty(NamedTuple):
    """What is added to a parameter's gradient: `decay` times the parameter, `quantized` times its quantized weights."""

    decay: float
    quantized: float


def penalties(layers: list[Layer], model: ModelSettings) -> dict[str, Penalty]:
    """The penalty of each parameter that has one, by name: see `ModelSettings`, "Update"."""
    found: dict[str, Penalty] = {}
    for layer in layers:
        for name in layer.parameters:
            if ".running_" in name:
                continue
            decay, quantized = model.weight_decay, 0.0
            if name == layer.weight:
                decay += 2 * model.l2_dense if isinstance(layer.shape.layer, Dense) else 0.0
                quantized -= 2 * model.binary_regularization if layer.quantized else 0.0
            if decay or quantized:
                found[name] = Penalty(decay, quantized)
    return found


def initial_values(layers: list[Layer], model: ModelSettings, seed: int) -> dict[str, np.ndarray]:
    """All parameters before the first step, float32, by name: see `ModelSettings.initialization`.

    Running means are 0 and spreads 1.
    Source: binary_connect.py, lasagne.init.Uniform((-H, H)) if binary, else Lasagne's default, GlorotUniform();
    itayhubara/BinaryNet, reset() of BinaryLinear.lua and cudnnBinarySpatialConvolution.lua, and of
    BatchNormalization.lua of torch/nn; RWTH-IDS/efficient-binary-neural-networks, lenet.py, nn.init.xavier_normal_;
    akshaychawla/Binary-Neural-Networks, layers.py.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    limits, values = weight_limits(layers, model), {}
    for layer in layers:
        for name, shape in layer.parameters.items():
            one = name.endswith(".gamma") or (".running_" in name and not name.endswith("_mean"))
            values[name] = np.full(shape, float(one), np.float32)
        weights = _initial_weights(layer, model, limits, generator)
        values[layer.weight] = weights.astype(np.float32).reshape(layer.weight_shape)
        if model.initialization in ("torch", "xavier_normal") and layer.biases:
            spread = 1 / math.sqrt(layer.shape.fan_in)
            values[layer.bias] = generator.uniform(-spread, spread, layer.channels).astype(np.float32)
        if model.initialization == "torch" and layer.norm_kind == "torch":
            values[f"{layer.norm}.gamma"] = generator.uniform(0, 1, layer.channels).astype(np.float32)
    return values


def _initial_weights(
    layer: Layer, model: ModelSettings, limits: dict[str, np.float32], generator: np.random.Generator
) -> np.ndarray:
    """Float64 (weights,)."""
    deviations = {
        "xavier_normal": math.sqrt(2 / (layer.shape.fan_in + layer.shape.fan_out)),
        "he_normal": math.sqrt(2 / layer.shape.fan_in),
        "standard_normal": 1.0,
    }
    if model.initialization in deviations:
        return generator.normal(0, deviations[model.initialization], layer.shape.weights)
    limit = limits.get(layer.weight, np.float32(glorot_limit(layer.shape)))
    return generator.uniform(-limit, limit, layer.shape.weights)
