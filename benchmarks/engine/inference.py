"""A network in evaluation mode as a list of plain steps, for whoever computes it with none of the engines.

    [{"op": "conv", "weight": "conv1.weight", "padding": 2, "mode": "zeros"}, {"op": "max_pool", "size": 2},
     {"op": "normalize", "norm": "bn1"}, {"op": "sign"}, ..., {"op": "dense", "weight": "dense2.weight"}]

Images, float32 (N, channels, rows, columns), go through the steps in order; out come the scores, (N, classes).

- "conv": convolution of stride 1 with weights (out, in, rows, columns), `padding` pixels around, zeros or copies of the
  edge; "dense": weights (out, in) times the input, flattened in C order. With "bias": a tensor that is added.
- "max_pool", "mean_pool": windows of `size` x `size`, `stride` apart (or `size`), `padding` pixels around (or none),
  which are zeros of a mean and no maximum; what does not fill a window is left out.
- "normalize": (x - <norm>.center) * <norm>.scale + <norm>.shift by channel: batch normalization by `norm_tensors`.
- "relu", "binary_tanh", "binary_sigmoid", "sign", "torch_sign", "int2": the words of `ModelSettings.activation`;
  "stochastic_sign" is "torch_sign" here.
- "images_sign", "images_int2", "images_int8": the words of `ModelSettings.input_quantization`.

Plain NumPy; the engines add up in other orders, so the last bits of their scores are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.engine.layers import SPREADS, Layer, evaluation_kinds, layers_of
from benchmarks.engine.updates import ap2
from benchmarks.recipe.architecture import Conv, Pool
from benchmarks.recipe.networks import NETWORKS

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

Step = dict[str, Any]
_AS_EVALUATED = {"stochastic_sign": "torch_sign"}


class NoStepsError(ValueError):
    """The scores of an image do not follow from these steps alone; the message is the reason."""


def steps_of(model: ModelSettings, image_shape: tuple[int, ...]) -> list[Step]:
    """The steps of a recipe's network.

    Raises:
        NoStepsError: what an image comes to depends on other images, or a word has no step.
    """
    if model.architecture in NETWORKS:
        raise NoStepsError(f"{model.architecture} is no chain of layers")
    if model.evaluation_statistics == "batch":
        raise NoStepsError("its batch normalization takes the statistics of the evaluated batch")
    layers = layers_of(model, image_shape)
    unknown = {"ternary", "stochastic"} & set(evaluation_kinds(layers, model))
    if unknown or any(layer.activation == "ternary" for layer in layers):
        raise NoStepsError(f"{unknown.pop()} weights" if unknown else "ternary activations depend on the whole batch")
    word = model.input_quantization
    images: list[Step] = [] if word == "none" else [{"op": f"images_{word}"}]
    return images + [step for layer in layers for step in _steps(layer, model)]


def _steps(layer: Layer, model: ModelSettings) -> list[Step]:
    """Of one layer with what belongs to it, in the order of `ModelSettings`."""
    steps = [_linear(layer, model)]
    if layer.has_linear_norm:
        steps.append({"op": "normalize", "norm": layer.linear_norm})
    if layer.linear_output != "none":
        steps.append({"op": "relu"})
    pool = [] if layer.pool is None else [_pool(layer.pool)]
    norm = [] if layer.norm_kind == "none" else [{"op": "normalize", "norm": layer.norm}]
    word = layer.activation
    activation = [] if word == "none" else [{"op": _AS_EVALUATED.get(word, word)}]
    return [*steps, *pool, *norm, *activation] if model.layer_order == "CPBA" else [*steps, *norm, *activation, *pool]


def _pool(pool: Pool) -> Step:
    step: Step = {"op": "mean_pool" if pool.mean else "max_pool", "size": pool.size}
    return step if pool.tiles else step | {"stride": pool.stride, "padding": pool.padding}


def _linear(layer: Layer, model: ModelSettings) -> Step:
    step: Step = {"op": "dense", "weight": layer.weight}
    if isinstance(layer.shape.layer, Conv):
        step = {"op": "conv", "weight": layer.weight, "padding": layer.shape.layer.padding, "mode": model.padding}
    return step | ({"bias": layer.bias} if layer.biases and not _moves_mean(layer) else {})


def _moves_mean(layer: Layer) -> bool:
    """Whether the normalization behind it takes off the bias of a convolution, or of a layer with a scale."""
    first_has_norm = layer.norm_kind != "none" and layer.linear_output != "relu"
    return layer.biases and first_has_norm and (isinstance(layer.shape.layer, Conv) or layer.scaled)


def norm_tensors(
    model: ModelSettings, image_shape: tuple[int, ...], parameters: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What "normalize" steps name, float32 (channels,) or (1,): "bn1.center", "bn1.scale", "bn1.shift", ...

    The center is the running mean, less the bias of a layer that it moves with; scale and shift are those of the
    recipe's batch normalization from running statistics, gamma and beta.
    """
    found: dict[str, np.ndarray] = {}
    for layer in layers_of(model, image_shape):
        norms = [layer.linear_norm] if layer.has_linear_norm else []
        norms += [layer.norm] if layer.norm_kind != "none" else []
        for position, norm in enumerate(norms):
            mean = parameters[f"{norm}.running_mean"]
            moved = not position and _moves_mean(layer)
            ones = np.ones(mean.shape, np.float32)
            gamma, beta = parameters.get(f"{norm}.gamma", ones), parameters.get(f"{norm}.beta", 0 * ones)
            spread = parameters[f"{norm}.running_{SPREADS[layer.norm_kind]}"]
            found[f"{norm}.center"] = mean - parameters[layer.bias] if moved else mean
            found[f"{norm}.scale"] = _scale(layer.norm_kind, gamma, spread, np.float32(layer.epsilon))
            found[f"{norm}.shift"] = beta
    return found


def _scale(kind: str, gamma: np.ndarray, spread: np.ndarray, epsilon: np.float32) -> np.ndarray:
    """What the centered input is multiplied by: see WORDS["model.batch_norm"]."""
    if kind == "binaryconnect":
        scale: np.ndarray = gamma / (spread + epsilon)
    elif kind == "shift":
        scale = ap2(gamma) * ap2(spread)
    elif kind == "lasagne":
        scale = gamma * spread
    else:
        scale = gamma / np.sqrt(spread + epsilon)
    return scale
