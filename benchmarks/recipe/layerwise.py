"""Settings that may differ from layer to layer, read from one text: "real-7xdeterministic-real".

The one place that engines, costs and checks get them from; a model's settings are taken to be consistent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.recipe.architecture import Conv, Dense, Pool, parse_architecture
from benchmarks.recipe.networks import NETWORKS, network

if TYPE_CHECKING:
    from benchmarks.recipe.settings import ModelSettings

_PART = re.compile(r"(?:(?P<repeat>[1-9]\d{0,3})x)?(?P<word>.+)")

# What each batch normalization learns.
NORM_LEARNED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("binaryconnect", "lasagne", "shift", "torch", "tensor"), ("gamma", "beta")),
    **dict.fromkeys(("torch_no_gamma", "biased_no_gamma"), ("beta",)),
    **dict.fromkeys(("torch_no_affine", "none"), ()),
}


class Dropout(NamedTuple):
    """Dropout rates of one linear layer: of its input, and of its output before batch normalization."""

    input: float
    output: float


def spread(text: str, layers: int) -> list[str]:
    """The word of each of so many layers: "a" is a word for all, "a-2xb" gives a, b, b.

    Raises:
        ValueError: if a word is missing, or the words are for another number of layers.
    """
    words: list[str] = []
    parts = text.split("-")
    for part in parts:
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no word")
        words += [match["word"]] * int(match["repeat"] or 1)
    if len(parts) == 1 and words[0] == parts[0]:
        return words * layers
    if len(words) != layers:
        raise ValueError(f"{len(words)} words for {layers} layers")
    return words


def linear_layers(model: ModelSettings) -> list[Conv | Dense]:
    """The layers that have weights, in order."""
    if model.architecture in NETWORKS:
        return [shape.layer for shape in network(model.architecture).shapes if not isinstance(shape.layer, Pool)]
    return [layer for layer in parse_architecture(model.architecture) if not isinstance(layer, Pool)]


def layer_weights(model: ModelSettings) -> list[str]:
    """How the weights of each linear layer are quantized in training: "deterministic", "real", ..."""
    return spread(model.weights, len(linear_layers(model)))


def layer_activations(model: ModelSettings) -> list[str]:
    """The activation behind each linear layer but the last."""
    return spread(model.activation, len(linear_layers(model)) - 1)


def layer_linear_outputs(model: ModelSettings) -> list[str]:
    """What is done to the output of each linear layer before all else."""
    return [*spread(model.linear_output, len(linear_layers(model)) - 1), "relu" if model.output_relu else "none"]


def layer_hidden_batch_norms(model: ModelSettings) -> list[str]:
    """The batch normalization behind each linear layer but the last, "none" where there is none."""
    return spread(model.batch_norm, len(linear_layers(model)) - 1)


def layer_batch_norms(model: ModelSettings) -> list[str]:
    """The batch normalization behind each linear layer, "none" where there is none."""
    return [*layer_hidden_batch_norms(model), model.output_batch_norm or model.batch_norm]


def layer_dropouts(model: ModelSettings) -> list[Dropout]:
    """The dropout rates of each linear layer."""
    layers = linear_layers(model)
    before = [model.dropout_input, *[model.dropout_hidden] * (len(layers) - 1)]
    dense = [isinstance(layer, Dense) for layer in layers]
    if model.dropout_conv != "0":
        rates = iter(spread(model.dropout_conv, len(dense) - sum(dense)))
        before = [rate if is_dense else float(next(rates)) for is_dense, rate in zip(dense, before, strict=True)]
    if model.dropout_dense:
        before = [model.dropout_dense if is_dense else rate for is_dense, rate in zip(dense, before, strict=True)]
    behind = iter(spread(model.dropout_dense_output, sum(dense)))
    after = [float(next(behind)) if is_dense else 0.0 for is_dense in dense]
    return [Dropout(*rates) for rates in zip(before, after, strict=True)]


def layer_trained(model: ModelSettings) -> list[bool]:
    """Whether the weights and biases of each linear layer are updated."""
    hidden = len(linear_layers(model)) - 1
    return [*[True] * hidden, model.trained_layers == "all"]
