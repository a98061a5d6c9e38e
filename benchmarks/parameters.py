"""What the engines must agree on before anything is computed: names of parameters, their initial values, the scales of
their learning rates, their limits, and what is drawn at random in a step.

Plain NumPy: two engines that are given the same seed start from the same parameters and make the same draws.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from benchmarks.architecture import Conv, LayerShape, MaxPool, layer_shapes, parse_architecture

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# What is averaged beside the mean by each batch normalisation: its parameter is "running_<spread>".
SPREADS = {"binaryconnect": "std", "lasagne": "inv_std", "shift": "inv_std", "torch": "var"}
# Numbers of the first layer's dropout mask and thresholds among the random draws; weights count from 0.
_FIRST_MASK, _FIRST_THRESHOLDS = 1 << 16, 1 << 17


class Layer(NamedTuple):
    """A linear layer with the pooling and the batch normalisation behind it.

    Attributes:
        name, norm: "conv1" and "bn1"; linear layers of each kind, and normalisations, are numbered from 1 in order.
        shape: of the linear layer.
        pool: side of the pooling windows, None without pooling.
        norm_kind, alpha: of the batch normalisation.
        dropout: rate in front of the linear layer.
        last: whether it is the output: no activation follows.
    """

    name: str
    norm: str
    shape: LayerShape
    pool: int | None
    norm_kind: str
    alpha: float
    dropout: float
    last: bool

    @property
    def weight(self) -> str:
        return f"{self.name}.weight"

    @property
    def bias(self) -> str:
        return f"{self.name}.bias"

    @property
    def channels(self) -> int:
        return self.shape.output_shape[0]

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
        channels = (self.channels,)
        statistics = {f"{self.norm}.running_{name}": channels for name in ("mean", SPREADS[self.norm_kind])}
        return {
            self.weight: self.weight_shape,
            self.bias: channels,
            f"{self.norm}.gamma": channels,
            f"{self.norm}.beta": channels,
            **statistics,
        }


def layers_of(model: ModelSettings, input_shape: tuple[int, ...]) -> list[Layer]:
    """The network's layers in order."""
    shapes = layer_shapes(parse_architecture(model.architecture), input_shape)
    pools = [after.layer.size if isinstance(after.layer, MaxPool) else None for after in shapes[1:]] + [None]
    linear = [(shape, pool) for shape, pool in zip(shapes, pools, strict=True) if not isinstance(shape.layer, MaxPool)]
    layers: list[Layer] = []
    for number, (shape, pool) in enumerate(linear, 1):
        kind, last = "conv" if isinstance(shape.layer, Conv) else "dense", number == len(linear)
        layers.append(
            Layer(
                name=f"{kind}{sum(layer.name.startswith(kind) for layer in layers) + 1}",
                norm=f"bn{number}",
                shape=shape,
                pool=pool,
                norm_kind=model.output_batch_norm if last and model.output_batch_norm else model.batch_norm,
                alpha=model.output_batch_norm_alpha
                if last and model.output_batch_norm_alpha
                else model.batch_norm_alpha,
                dropout=model.dropout_hidden if layers else model.dropout_input,
                last=last,
            )
        )
    return layers


# -- random draws ------------------------------------------------------------------------------------------------------


class Draw(NamedTuple):
    """What is drawn for each step besides weights: `shape` is without the batch axis, `rate` of a dropout mask."""

    kind: Literal["mask", "thresholds"]
    tensor: int
    shape: tuple[int, ...]
    rate: float = 0.0


def draws_of(layers: list[Layer], model: ModelSettings) -> list[tuple[Draw | None, Draw | None]]:
    """For each layer the dropout mask of its input and the thresholds of the activation behind it, where there are any.

    Weights are drawn too if they are stochastic: their tensors are numbered from 0 in order.
    """
    found = []
    for position, layer in enumerate(layers):
        mask = thresholds = None
        if layer.dropout:
            mask = Draw("mask", _FIRST_MASK + position, layer.shape.input_shape, layer.dropout)
        if model.activation == "stochastic_sign" and not layer.last:
            shape = layers[position + 1].shape.input_shape
            thresholds = Draw("thresholds", _FIRST_THRESHOLDS + position, shape)
        found.append((mask, thresholds))
    return found


# -- values ------------------------------------------------------------------------------------------------------------


def ap2(x: np.float32) -> np.float32:
    """AP2(x) = sign(x) * 2^round(log2|x|): the power of two nearest to a positive x on a logarithmic scale.

    As arrays are rounded by the engines: between 2^k and 2^(k+1) the power changes at 2^(k + 1/2).
    Source: arXiv 1602.02830, section 1.4.
    """
    mantissa, exponent = math.frexp(float(np.float32(x) * np.float32(1.5 / math.sqrt(2))))
    return np.float32(math.ldexp(1.0, exponent if mantissa >= 0.75 else exponent - 1))


def glorot_limit(shape: LayerShape) -> float:
    """sqrt(6 / (fan_in + fan_out)): the limit of Glorot and Bengio's uniform initialisation (AISTATS 2010)."""
    return math.sqrt(6 / (shape.fan_in + shape.fan_out))


def lr_scales(layers: list[Layer], model: ModelSettings) -> dict[str, np.float32]:
    """Learning-rate scale of each parameter that has one other than 1, by name.

    "glorot": of weights, float32(1 / sqrt(1.5 / (fan_in + fan_out))), twice the inverse of Glorot's limit.
    "torch_glorot": of weights and their biases, and of gamma 1 / sqrt(1.5 / n) for n channels.
    "torch_glorot_ap2": of weights and their biases, AP2 of that.
    Source: binary_connect.py, W_LR_scale; itayhubara/BinaryNet, Models/BinaryNet_MNIST_Model.lua for the second,
    BinaryNet_Cifar10_Model.lua and BinaryNet_SVHN_Model.lua for the third.
    """
    scales: dict[str, np.float32] = {}
    if model.lr_scale == "none":
        return scales
    for layer in layers:
        glorot = np.float32(1 / np.sqrt(1.5 / (layer.shape.fan_in + layer.shape.fan_out)))
        scales[layer.weight] = ap2(glorot) if model.lr_scale == "torch_glorot_ap2" else glorot
        if model.lr_scale != "glorot":
            scales[layer.bias] = scales[layer.weight]
        if model.lr_scale == "torch_glorot":
            scales[f"{layer.norm}.gamma"] = np.float32(1 / np.sqrt(1.5 / layer.channels))
    return scales


def limits(layers: list[Layer], model: ModelSettings) -> dict[str, np.float32]:
    """Limit H of each parameter that is clipped to +-H, by name: of binarised weights, or of all of their layer.

    "half_glorot" is float32(sqrt(6 / (fan_in + fan_out)) / 2), of binary_connect.py at BinaryConnect@0e27148.
    """
    found: dict[str, np.float32] = {}
    if model.weights == "real":
        return found
    for layer in layers:
        half_glorot = model.weight_limit == "half_glorot"
        limit = np.float32(glorot_limit(layer.shape) / 2 if half_glorot else model.weight_limit)
        found[layer.weight] = limit
        if model.clipped == "all":
            found |= dict.fromkeys((layer.bias, f"{layer.norm}.gamma", f"{layer.norm}.beta"), limit)
    return found


def initial_values(layers: list[Layer], model: ModelSettings, seed: int) -> dict[str, np.ndarray]:
    """All parameters before the first step, float32, by name.

    Weights are uniform, within +-H if they are binarised, else as Glorot says; gamma = 1, biases and beta = 0; running
    means are 0 and spreads 1. With initialization "torch" biases are uniform within +-1 / sqrt(fan_in), and so is gamma
    of a "torch" batch normalisation within 0 and 1.
    Source: binary_connect.py, lasagne.init.Uniform((-H, H)) if binary, else Lasagne's default, GlorotUniform();
    itayhubara/BinaryNet, reset() of BinaryLinear.lua and cudnnBinarySpatialConvolution.lua, and of
    BatchNormalization.lua of torch/nn.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    clipped, values = limits(layers, model), {}
    for layer in layers:
        for name, shape in layer.parameters.items():
            one = name.endswith(".gamma") or (".running_" in name and not name.endswith("_mean"))
            values[name] = np.full(shape, float(one), np.float32)
        limit = clipped.get(layer.weight, np.float32(glorot_limit(layer.shape)))
        weights = generator.uniform(-limit, limit, layer.shape.weights)
        values[layer.weight] = weights.astype(np.float32).reshape(layer.weight_shape)
        if model.initialization == "torch":
            spread = 1 / math.sqrt(layer.shape.fan_in)
            values[layer.bias] = generator.uniform(-spread, spread, layer.channels).astype(np.float32)
            if layer.norm_kind == "torch":
                values[f"{layer.norm}.gamma"] = generator.uniform(0, 1, layer.channels).astype(np.float32)
    return values
