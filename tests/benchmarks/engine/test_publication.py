"""Which weights are published, and that their signs are those that evaluation takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine.layers import layers_of
from benchmarks.engine.publication import packed_bytes, publishable, signs_of
from benchmarks.recipe import Recipe, benchmark_ids, load_recipe
from benchmarks.recipe.networks import NETWORKS
from bnn_gluon.quantize import binarize_deterministic
from results.packed_weights import unpack
from results.weights import LARGEST

SHAPES = {"dense1.weight": (64, 784), "dense2.weight": (64, 64), "dense3.weight": (10, 64)}
SMALL = "model.architecture=2x64FC-10FC"
NEAR_ZERO = st.integers(-64, 64).map(lambda n: n * 2.0**-29) | st.sampled_from([-0.0, -1e-30, 1e-30])


def parameters(names: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, np.ndarray]:
    """Weights of both signs, and a normalization, in no particular order of magnitude."""
    generator = np.random.default_rng(0)
    found = {name: generator.uniform(-1, 1, shape).astype(np.float32) for name, shape in names.items()}
    return found | {"bn1.gamma": generator.standard_normal(64).astype(np.float32)}


def published(recipe: Recipe) -> dict[str, np.ndarray] | None:
    packed = publishable(recipe, parameters())
    return None if packed is None else unpack(packed, "test")


def test_binary_weights_are_published_as_signs_and_the_rest_as_it_is():
    found = published(load_recipe("binarynet-mnist", [SMALL]))
    for name, value in parameters().items():
        np.testing.assert_array_equal(found[name], np.sign(value) if name in SHAPES else value)


def test_stochastic_weights_that_are_evaluated_as_binary_ones():
    recipe = load_recipe("binarynet-mnist", [SMALL, "model.weights=stochastic"])
    assert set(np.unique(published(recipe)["dense1.weight"])) == {-1, 1}


@pytest.mark.parametrize("benchmark_id", ["binaryconnect-mnist", "binaryconnect-cifar10-none"])
def test_large_networks_evaluated_with_real_weights_have_none(benchmark_id):
    recipe = load_recipe(benchmark_id)
    layers = layers_of(recipe.model, recipe.image_shape)
    values = {name: np.zeros(shape, np.float32) for layer in layers for name, shape in layer.parameters.items()}
    assert publishable(recipe, values) is None
    assert packed_bytes(recipe) is None


@pytest.mark.parametrize(("units", "dtype"), [(64, np.float32), (512, np.float16)])
def test_small_networks_evaluated_with_real_weights_have_them_as_numbers(units, dtype):
    """As they are, or, where that would be too large, the weights as float16 and the rest as it is."""
    recipe = load_recipe("binaryconnect-mnist", [f"model.architecture=2x{units}FC-10FC"])
    layers = layers_of(recipe.model, recipe.image_shape)
    generator = np.random.default_rng(0)
    values = {
        name: generator.uniform(-1, 1, shape).astype(np.float32)
        for layer in layers
        for name, shape in layer.parameters.items()
    }
    packed = publishable(recipe, values)
    assert len(packed) == packed_bytes(recipe) <= LARGEST
    for name, value in unpack(packed, "test").items():
        stored = dtype if name.endswith("weight") else np.float32
        np.testing.assert_array_equal(value, values[name].astype(stored))


@pytest.mark.slow
def test_what_is_too_large_is_not_published():
    recipe = load_recipe("binarynet-mnist")
    shapes = {"dense1.weight": (4096, 784), "dense2.weight": (4096, 4096), "dense3.weight": (4096, 4096)}
    large = parameters({**shapes, "dense4.weight": (10, 4096)})
    assert sum(value.size for value in large.values()) / 8 > LARGEST
    assert publishable(recipe, large) is None


def test_a_real_valued_layer_among_binary_ones_is_published_as_it_is():
    recipe = load_recipe("binarynet-mnist", [SMALL, "model.weights=real-deterministic-ternary"])
    found, given_ = published(recipe), parameters()
    np.testing.assert_array_equal(found["dense1.weight"], given_["dense1.weight"])
    np.testing.assert_array_equal(found["dense2.weight"], np.sign(given_["dense2.weight"]))
    np.testing.assert_array_equal(found["dense3.weight"], given_["dense3.weight"])


@given(st.lists(NEAR_ZERO, min_size=1), st.sampled_from([1.0, 0.5, 0.0321]))
def test_signs_are_those_of_the_engine_down_to_the_last_bit(values, limit):
    weights, binary = np.array(values, np.float32), np.empty(len(values), np.float32)
    binarize_deterministic(weights, np.float32(limit), binary)
    np.testing.assert_array_equal(signs_of(weights, np.float32(limit), "plus"), np.sign(binary))


def test_where_zero_is_minus():
    """And what vanishes beside H in float32 is zero."""
    weights = np.array([-1, -1e-9, -0.0, 0.0, 1e-9, 1e-6, 1], np.float32)
    np.testing.assert_array_equal(signs_of(weights, np.float32(1), "minus"), [-1, -1, -1, -1, -1, 1, 1])


@pytest.mark.slow
# Those widened, up to 93 million weights, at night.
@pytest.mark.parametrize(
    "benchmark_id",
    [pytest.param(name, marks=pytest.mark.nightly) if "widen" in name else name for name in benchmark_ids()],
)
def test_every_network_of_the_catalog_publishes_its_weights_or_has_none(benchmark_id):
    recipe = load_recipe(benchmark_id)
    named = recipe.model.architecture in NETWORKS  # real-valued, so it does not matter which layers it has
    layers = [] if named else layers_of(recipe.model, recipe.image_shape)
    values = {layer.weight: np.ones(layer.weight_shape, np.float32) for layer in layers}
    packed = publishable(recipe, values)
    if packed is not None:
        assert len(packed) <= LARGEST
        assert list(unpack(packed, benchmark_id)) == list(values)
