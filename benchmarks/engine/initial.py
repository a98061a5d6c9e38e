"""Parameters before the first step: two engines that are given the same seed start from the same values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.engine.layers import Layer, glorot_limit, weight_limits

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings
    from benchmarks.recipe.architecture import LayerShape

# Of normal weights the standard deviation, of uniform ones the limit.
DEVIATIONS: dict[str, Callable[[LayerShape], float]] = {
    "xavier_normal": lambda shape: math.sqrt(2 / (shape.fan_in + shape.fan_out)),
    "he_normal": lambda shape: math.sqrt(2 / shape.fan_in),
    "narrow_normal": lambda shape: 0.05,
    "standard_normal": lambda shape: 1.0,
}
LIMITS: dict[str, Callable[[LayerShape], float]] = {
    "lasagne": glorot_limit,
    "torch": glorot_limit,
    "glorot_uniform": glorot_limit,
    "half_glorot": lambda shape: glorot_limit(shape) / 2,
    "torch_default": lambda shape: 1 / math.sqrt(shape.fan_in),
}
_WITHIN_OWN_LIMIT = ("lasagne", "torch")  # +-H, where a layer has one


def initial_values(layers: list[Layer], model: ModelSettings, seed: int) -> dict[str, np.ndarray]:
    """All parameters before the first step, float32, by name: see `ModelSettings.initialization`.

    Running means are 0 and spreads 1; a scale is the mean size of the layer's, or the filter's, weights.
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
        if layer.quantized and model.weight_centering == "input_channels":
            values[layer.weight] = centered(values[layer.weight], limits[layer.weight])
        if layer.scaled:
            sizes = np.abs(values[layer.weight]).reshape(layer.scales, -1)
            values[layer.scale] = sizes.mean(axis=1, dtype=np.float64).astype(np.float32)
        if model.initialization in ("torch", "torch_default", "xavier_normal") and layer.biases:
            spread = 1 / math.sqrt(layer.shape.fan_in)
            values[layer.bias] = generator.uniform(-spread, spread, layer.channels).astype(np.float32)
        if model.initialization == "torch" and layer.norm_kind == "torch":
            values[f"{layer.norm}.gamma"] = generator.uniform(0, 1, layer.channels).astype(np.float32)
    return values


def centered(weights: np.ndarray, limit: np.float32) -> np.ndarray:
    """Weights (filters, channels, ...) less their mean over the channels, summed in float64, clipped to +-limit."""
    mean = weights.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    clipped: np.ndarray = np.clip(weights - mean, -limit, limit)
    return clipped


def _initial_weights(
    layer: Layer, model: ModelSettings, limits: dict[str, np.float32], generator: np.random.Generator
) -> np.ndarray:
    """Float64 (weights,)."""
    word, count = model.initialization, layer.shape.weights
    if word in DEVIATIONS:
        return generator.normal(0, DEVIATIONS[word](layer.shape), count)
    own = limits.get(layer.weight) if word in _WITHIN_OWN_LIMIT else None
    limit = np.float32(LIMITS[word](layer.shape)) if own is None else own
    return generator.uniform(-limit, limit, count)
