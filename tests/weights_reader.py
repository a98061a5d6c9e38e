"""The functions of docs/weights.md, `read` and `scores`, as the page has them; and small networks for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from docs_blocks import ROOT, blocks

from benchmarks.engine.layers import layers_of
from benchmarks.engine.publication import publishable
from benchmarks.recipe import Recipe, load_recipe
from benchmarks.run.published_file import network_of
from results.packed_weights import unpack
from results.weights_file import to_safetensors

(BLOCK,) = (block for block in blocks(ROOT / "docs" / "weights.md") if block.language == "python")


def reader(name: str = "reader") -> dict[str, Any]:
    """What the page's code defines, carried out as a module of this name; as "__main__" with all that it does."""
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(BLOCK.text, BLOCK.page, "exec"), namespace)  # noqa: S102
    return namespace


# Together they have each batch normalization, activation, order of layers, padding, biases, and what is behind a layer.
CASES = {
    "chawla-mlp-mnist-binary": "2x32FC-10FC",
    "rwth-lenet5-mnist-binary": "8C5-MP2-8C5v-MP2-16FC-10FC",
    "rwth-lenet5-mnist-xnor": "8C5-MP2-8C5v-MP2-16FC-10FC",
    "rwth-vgg7-cifar10-binary": "8C3-8C3-MP2-8C3-8C3-MP2-8C3-8C3-MP2-16FC-10FC",
    "binaryconnect-cifar10": "4C3-MP2-4C3-MP2-16FC-10FC",
    "binarynet-cifar10": "8C3-MP2-8C3-MP2-16FC-10FC",
    "lab-mnist": "2x32FC-10FC",
    "larq-mnist": "8C3v-MP2-8C3v-MP2-8C3v-32FC-10FC",
    "xnornet-lenet5-mnist": "16C5v-MP2-16C5v-MP2-64FC-10FC",
    "xnornet-nin-cifar10": "32C5-32C1-32C1-MP3s2p1-32C5-2x32C1-AP3s2p1-32C3-32C1-10C1-AP8",
    "finn-tfc-mnist-1w1a": "3x32FC-10FC",
    "finn-tfc-mnist-1w2a": "3x32FC-10FC",
    "finn-tfc-mnist-2w2a": "3x32FC-10FC",
    "binarynet-torch7-cifar10": "8C3-MP2-8C3-MP2-16FC-10FC",
}
CHANGED = {
    "binarynet-cifar10": ["model.activation=binary_sigmoid"],
    "rwth-lenet5-mnist-binary": ["model.padding=edge"],
    "finn-tfc-mnist-2w2a": ["model.input_quantization=int8"],
}


def case(name: str) -> Recipe:
    return load_recipe(name, [f"model.architecture={CASES[name]}", *CHANGED.get(name, [])])


def parameters_of(recipe: Recipe) -> dict[str, np.ndarray]:
    """Weights of both signs, positive spreads, and everything else around 0."""
    generator = np.random.default_rng(0)
    values = {}
    for layer in layers_of(recipe.model, recipe.image_shape):
        for name, shape in layer.parameters.items():
            drawn = generator.standard_normal(shape)
            positive = name.endswith(("_std", "_var", ".scale"))
            values[name] = (np.abs(drawn) + 0.5 if positive else drawn).astype(np.float32)
    return values


def file_of(recipe: Recipe) -> tuple[bytes, dict[str, np.ndarray]]:
    """A file of published weights, and the parameters in it."""
    packed = publishable(recipe, parameters_of(recipe))
    assert packed is not None
    derived, network = network_of(recipe, packed)
    about = {"benchmark": recipe.id, "image_shape": str(list(recipe.image_shape)), **network}
    return to_safetensors(packed, derived, about), unpack(packed, recipe.id)
