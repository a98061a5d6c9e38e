"""Which weights are published with a record: those of networks that are evaluated with binary weights, as signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.engine.layers import layers_of, weight_limits
from benchmarks.recipe.layerwise import layer_weights
from benchmarks.recipe.words import WORDS
from results.weights import LARGEST, pack, packed_length

if TYPE_CHECKING:
    from benchmarks.recipe import Recipe

# Weights of which evaluation with binary weights sees the sign alone; of "ternary" and "real" ones it sees more.
_BY_SIGN = [word.name for word in WORDS["model.weights"] if word.by_sign]


def publishable(recipe: Recipe, parameters: Mapping[str, np.ndarray]) -> bytes | None:
    """The content of the file of weights, see results/weights.py; None if the recipe's network has none.

    It has none if evaluation needs real-valued weights of a binarized layer, or if the file would be larger than
    LARGEST bytes.

    Args:
        parameters: of the declared network, as an engine gives them.
    """
    model = recipe.model
    if model.evaluation_weights != "binary":
        return None
    layers = layers_of(model, recipe.image_shape)
    named = {layer.weight: word for layer, word in zip(layers, layer_weights(model), strict=True)}
    limit_of = weight_limits(layers, model)
    signs = {
        name: signs_of(parameters[name], limit_of[name], model.zero_weight) for name in named if named[name] in _BY_SIGN
    }
    packed = pack({**parameters, **signs}, signs)
    return packed if signs and len(packed) <= LARGEST else None


def packed_bytes(recipe: Recipe) -> int | None:
    """How long the file of weights of the recipe's networks is; None as `publishable`, by the settings alone."""
    model = recipe.model
    if model.evaluation_weights != "binary":
        return None
    signs, values = {}, {}
    for layer, word in zip(layers_of(model, recipe.image_shape), layer_weights(model), strict=True):
        for name, shape in layer.parameters.items():
            values[name] = shape
            if name == layer.weight and word in _BY_SIGN:
                signs[name] = shape
    length = packed_length(values, signs)
    return length if signs and length <= LARGEST else None


def signs_of(weights: np.ndarray, limit: np.float32, zero: str) -> np.ndarray:
    """+1 or -1 as deterministic binarization has it, float32.

    What vanishes beside H in float32 is as zero, for which `zero` says "plus" or "minus".
    """
    beside_one = weights / limit + np.float32(1)
    plus = beside_one > 1 if zero == "minus" else beside_one >= 1
    return np.where(plus, np.float32(1), np.float32(-1))
