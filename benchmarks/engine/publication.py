"""Which weights are published with a record: binary ones as signs; real-valued ones of small networks as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.engine.layers import Layer, evaluation_kinds, layers_of, weight_limits
from benchmarks.recipe.layerwise import layer_weights
from benchmarks.recipe.networks import NETWORKS
from benchmarks.recipe.words import WORDS
from results.packed_weights import Kind, pack, packed_length
from results.weights import LARGEST

if TYPE_CHECKING:
    from benchmarks.recipe import Recipe

# Weights of which evaluation with binary weights sees the sign alone; of "ternary" and "real" ones it sees more.
_BY_SIGN = [word.name for word in WORDS["model.weights"] if word.by_sign]


def publishable(recipe: Recipe, parameters: Mapping[str, np.ndarray]) -> bytes | None:
    """The recipe's weights as bytes, see results/packed_weights.py; None if its network has none that are published.

    Networks evaluated with binary weights have them as signs, or as whole numbers of two bits, and the rest, a layer's
    scale included, as float32. Those evaluated with real-valued weights in all layers have all of it as float32, or, if
    that is larger than LARGEST bytes, the weights as float16. None if it is larger still, or if evaluation quantizes
    the weights otherwise.

    Args:
        parameters: of the declared network, as an engine gives them.
    """
    kinds = kinds_of(recipe)
    if kinds is None:
        return None
    layers = layers_of(recipe.model, recipe.image_shape)
    limit_of = weight_limits(layers, recipe.model)
    quantized = {
        name: signs_of(parameters[name], limit_of[name], recipe.model.zero_weight)
        if kind == "signs"
        else np.clip(np.rint(parameters[name]), -1, 1)
        for name, kind in kinds.items()
        if kind in ("signs", "int2")
    }
    packed = pack({**parameters, **quantized}, kinds)
    return packed if len(packed) <= LARGEST else None


def packed_bytes(recipe: Recipe) -> int | None:
    """How long `publishable` is of the recipe's networks; None as it is, by the settings alone."""
    kinds = kinds_of(recipe)
    if kinds is None:
        return None
    length = packed_length(_shapes(layers_of(recipe.model, recipe.image_shape)), kinds)
    return length if length <= LARGEST else None


def kinds_of(recipe: Recipe) -> dict[str, Kind] | None:
    """How each parameter is stored that is not "float32"; None if the network's weights are not published.

    That it is too large, `publishable` says.
    """
    model = recipe.model
    if model.architecture in NETWORKS or model.evaluation_weights == "stochastic":
        return None
    layers = layers_of(model, recipe.image_shape)
    if model.evaluation_weights == "binary":
        stored: dict[str, Kind] = dict.fromkeys(_BY_SIGN, "signs")
        if model.weight_limit == 1:  # else what an engine is given would have to be multiplied first
            stored["int2"] = "int2"
        words = zip(layers, layer_weights(model), strict=True)
        if quantized := {layer.weight: stored[word] for layer, word in words if word in stored}:
            return quantized
    if set(evaluation_kinds(layers, model)) != {"real"}:
        return None
    whole: dict[str, Kind] = {}
    return whole if packed_length(_shapes(layers), whole) <= LARGEST else {layer.weight: "float16" for layer in layers}


def rounds(recipe: Recipe) -> bool:
    """Whether what is published are not the evaluated numbers but their next float16: then outcomes may differ."""
    return "float16" in (kinds_of(recipe) or {}).values()


def publishes_quantized(recipe: Recipe) -> bool:
    """Whether the network is evaluated with weights of one or two bits, which every version that has such publishes."""
    return not {"signs", "int2"}.isdisjoint((kinds_of(recipe) or {}).values())


def _shapes(layers: list[Layer]) -> dict[str, tuple[int, ...]]:
    return {name: shape for layer in layers for name, shape in layer.parameters.items()}


def signs_of(weights: np.ndarray, limit: np.float32, zero: str) -> np.ndarray:
    """+1 or -1 as deterministic binarization has it, float32.

    What vanishes beside H in float32 is as zero, for which `zero` says "plus" or "minus".
    """
    beside_one = weights / limit + np.float32(1)
    plus = beside_one > 1 if zero == "minus" else beside_one >= 1
    return np.where(plus, np.float32(1), np.float32(-1))
