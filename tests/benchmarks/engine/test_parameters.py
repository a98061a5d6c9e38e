"""Names, scales, limits, penalties, initial values and draws that both engines take from benchmarks/engine."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine.draws import draws_of, keep_and_scale
from benchmarks.engine.initial import initial_values
from benchmarks.engine.layers import layers_of, weight_limits
from benchmarks.engine.updates import Penalty, clip_limits, frozen, lr_scales, penalties
from benchmarks.recipe import benchmark_ids, load_recipe
from benchmarks.regress.narrow import narrowed

UNITS = np.load(Path(__file__).parents[2] / "golden" / "G_units.npz")
MNIST = load_recipe("binarynet-torch7-mnist").model
CIFAR10 = load_recipe("binarynet-torch7-cifar10").model


def layers_and_model(benchmark: str, *overrides: str):
    recipe = load_recipe(benchmark, list(overrides))
    return layers_of(recipe.model, recipe.image_shape), recipe.model


# -- scales and limits -------------------------------------------------------------------------------------------------


def scales(text: str, shape: tuple[int, ...]) -> list[np.float32]:
    model = load_recipe("binaryconnect-svhn", [f"model.architecture={text}"]).model
    return list(lr_scales(layers_of(model, shape), model).values())


def test_learning_rate_scales_of_every_layer_of_the_papers():
    published = dict(zip(map(str, UNITS["lrscale/names"]), UNITS["lrscale/values"], strict=True))
    expected = [published[name] for name in ("BinaryConnect mnist 784-2048", "2048-2048", "2048-2048", "2048-10")]
    np.testing.assert_allclose(scales("3x2048FC-10FC", (1, 28, 28)), expected, rtol=1e-6)
    text = "2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-2x1024FC-10FC"
    names = [
        *("conv 3-128", "conv 128-128", "conv 128-256", "conv 256-256", "conv 256-512", "conv 512-512"),
        *("dense 8192-1024", "dense 1024-1024", "dense 1024-10"),
    ]
    np.testing.assert_allclose(scales(text, (3, 32, 32)), [published[name] for name in names], rtol=1e-6)


def test_learning_rate_scales_of_mnist():
    scales = lr_scales(layers_of(MNIST, (1, 28, 28)), MNIST)
    glorot = [np.sqrt((n_in + n_out) / 1.5) for n_in, n_out in ((784, 2048), (2048, 2048), (2048, 2048), (2048, 10))]
    expected = {f"dense{i}.{kind}": scale for i, scale in enumerate(glorot, 1) for kind in ("weight", "bias")}
    expected |= {f"bn{i}.gamma": np.sqrt(n / 1.5) for i, n in enumerate((2048, 2048, 2048, 10), 1)}
    assert scales.keys() == expected.keys()
    for name, scale in scales.items():
        assert scale == pytest.approx(expected[name], rel=1e-6), name


def test_learning_rate_scales_of_the_convolutional_networks_are_powers_of_two():
    scales = lr_scales(layers_of(CIFAR10, (3, 32, 32)), CIFAR10)
    expected = [32, 32, 64, 64, 64, 64, *[64, 32, 32]]
    names = [*(f"conv{i}" for i in range(1, 7)), *(f"dense{i}" for i in range(1, 4))]
    assert scales == {f"{n}.{k}": e for n, e in zip(names, expected, strict=True) for k in ("weight", "bias")}


def test_what_is_clipped():
    weights = {"conv1.weight": 1, "dense1.weight": 1}
    text = "model.architecture=4C3-MP2-10FC"
    assert clip_limits(*layers_and_model("binarynet-torch7-svhn", text)) == weights
    others = [f"{layer}.bias" for layer in ("conv1", "dense1")] + [
        f"bn{i}.{k}" for i in (1, 2) for k in ("gamma", "beta")
    ]
    assert clip_limits(*layers_and_model("binarynet-torch7-cifar10", text)) == weights | dict.fromkeys(others, 1)


def test_real_layers_have_no_limit():
    layers, model = layers_and_model("rwth-vgg7-cifar10-l1nfp")
    assert set(weight_limits(layers, model)) == {layer.weight for layer in layers[1:-1]}
    assert clip_limits(layers, model) == weight_limits(layers, model)


def test_a_frozen_layer_is_not_clipped():
    clipped = clip_limits(*layers_and_model("chawla-mlp-mnist-binary"))
    assert set(clipped) == {f"dense{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")}


# -- penalties and frozen layers ---------------------------------------------------------------------------------------


def test_weight_decay_is_of_all_parameters_and_of_no_running_statistic():
    layers, model = layers_and_model("rwth-lenet5-mnist-float")
    names = {name for layer in layers for name in layer.parameters if ".running_" not in name}
    assert penalties(layers, model) == dict.fromkeys(names, Penalty(1e-4, 0))


def test_the_l2_penalty_is_of_dense_weights():
    layers, model = layers_and_model("memorization-svhn-l2-acting")
    assert penalties(layers, model) == {f"dense{i}.weight": Penalty(2 * model.l2_dense, 0) for i in (1, 2, 3)}


def test_binary_regularization_is_of_weights_that_are_not_real():
    layers, model = layers_and_model("rwth-vgg7-cifar10-reg-1e-5", "model.weights=real-8xdeterministic")
    assert penalties(layers, model) == {layer.weight: Penalty(0, -2e-5) for layer in layers[1:]}


def test_the_output_layer_may_be_left_as_it_is():
    assert frozen(layers_and_model("chawla-mlp-mnist-binary")[0]) == {"dense4.weight", "dense4.bias"}
    assert frozen(layers_and_model("rwth-lenet5-mnist-binary")[0]) == set()


# -- names and initial values ------------------------------------------------------------------------------------------


# Without the widened networks, which are large, and those that are GluonCV's own.
@pytest.mark.parametrize("benchmark", [n for n in benchmark_ids() if "widen" not in n and not n.startswith("gluoncv")])
@pytest.mark.parametrize("width", [8, pytest.param(None, id="as published", marks=pytest.mark.nightly)])
def test_initial_values_have_the_names_and_shapes_of_the_parameters(benchmark, width):
    layers, model = layers_and_model(benchmark)
    if width is not None:
        architecture = narrowed(model.architecture, lambda _: width, lambda _: width)
        layers, model = layers_and_model(benchmark, f"model.architecture={architecture}")
    values = initial_values(layers, model, 1)
    shapes = {name: shape for layer in layers for name, shape in layer.parameters.items()}
    assert {name: value.shape for name, value in values.items()} == shapes
    assert all(value.dtype == np.float32 for value in values.values())


def test_parameters_of_a_network_without_biases_and_affine_output():
    layers, _ = layers_and_model("rwth-lenet5-mnist-binary")
    names = [name for layer in layers for name in layer.parameters]
    assert not [name for name in names if name.endswith(".bias")]
    assert names[-3:] == ["dense2.weight", "bn4.running_mean", "bn4.running_var"]


def test_parameters_without_batch_normalization():
    layers, _ = layers_and_model("chawla-mlp-mnist-float")
    assert list(layers[0].parameters) == ["dense1.weight", "dense1.bias"]


@pytest.mark.parametrize(
    ("benchmark", "variance"),
    [
        ("rwth-lenet5-mnist-binary", lambda shape: 2 / (shape.fan_in + shape.fan_out)),
        ("chawla-cnn-cifar10-float", lambda shape: 2 / shape.fan_in),
        ("chawla-mlp-mnist-float", lambda shape: 1.0),
    ],
)
def test_normal_initial_weights_have_the_published_variance(benchmark, variance):
    layers, model = layers_and_model(benchmark)
    values = initial_values(layers, model, 7)
    for layer in layers:
        weights = values[layer.weight].astype(np.float64).ravel()
        expected = variance(layer.shape)
        assert abs(weights.mean()) < 5 * math.sqrt(expected / weights.size)
        assert abs(weights.var() / expected - 1) < 5 * math.sqrt(2 / weights.size)


@pytest.mark.parametrize(
    ("word", "limit"),
    [
        *(("lasagne", 1.0), ("torch", 1.0), ("glorot_uniform", math.sqrt(6 / (784 + 64)))),
        *(("half_glorot", math.sqrt(1.5 / (784 + 64))), ("torch_default", 1 / 28)),
    ],
)
def test_uniform_initial_weights_reach_their_limit(word, limit):
    binary = ("model.architecture=64FC-10FC", "model.weight_limit=1.0", f"model.initialization={word}")
    weights = initial_values(*layers_and_model("binaryconnect-mnist", *binary), seed=1)["dense1.weight"]
    assert np.abs(weights).max() == pytest.approx(limit, rel=1e-3)
    assert weights.std() == pytest.approx(limit / math.sqrt(3), rel=0.01)


def test_biases_of_pytorchs_layers_are_uniform():
    layers, model = layers_and_model("rwth-lenet5-mnist-float")
    values = initial_values(layers, model, 7)
    for layer in layers:
        limit = 1 / math.sqrt(layer.shape.fan_in)
        assert 0.5 * limit < np.abs(values[layer.bias]).max() <= limit


def test_initial_values_are_torchs():
    model = load_recipe("binarynet-torch7-svhn", ["model.architecture=4C3-MP2-300FC-10FC"]).model
    parameters = initial_values(layers_of(model, (3, 32, 32)), model, 3)
    for name, fan_in in (("conv1", 27), ("dense1", 4 * 16 * 16), ("dense2", 300)):
        weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        assert -1 <= weight.min() < -0.9 < 0.9 < weight.max() <= 1
        assert 0.5 / np.sqrt(fan_in) < np.abs(bias).max() <= 1 / np.sqrt(fan_in)
        assert bias.min() < 0 < bias.max()
    assert np.all(parameters["bn1.gamma"] == 1)
    assert np.all(parameters["bn2.gamma"] == 1)
    assert 0 < parameters["bn3.gamma"].min() < parameters["bn3.gamma"].max() < 1
    assert parameters["bn3.gamma"].std() > 0.1
    assert set(parameters) >= {"bn1.running_inv_std", "bn2.running_inv_std", "bn3.running_var"}
    for name, value in parameters.items():
        if name.endswith((".beta", "running_mean")):
            assert np.all(value == 0), name
        if name.endswith(("inv_std", "running_var")):
            assert np.all(value == 1), name


# -- draws -------------------------------------------------------------------------------------------------------------


def test_inputs_of_equal_shape_share_the_mask_of_a_seed_that_is_fixed():
    layers, model = layers_and_model("chawla-mlp-mnist-float")
    masks = [draws.mask for draws in draws_of(layers, model)]
    assert masks[0] is None
    assert masks[1] == masks[2] == masks[3]


def test_other_masks_are_drawn_for_themselves():
    layers, model = layers_and_model("binaryconnect-paper-mnist-dropout")
    tensors = [draws.mask.tensor for draws in draws_of(layers, model) if draws.mask]
    assert len(tensors) == len(set(tensors)) > 1


def test_masks_of_outputs():
    layers, model = layers_and_model("memorization-svhn-dropout")
    found = [(layer.name, draws.output_mask) for layer, draws in zip(layers, draws_of(layers, model), strict=True)]
    rates = {name: round(1 - float(mask.keep), 6) for name, mask in found if mask}
    expected = {layer.name: layer.output_dropout for layer in layers if layer.output_dropout}
    assert rates == expected != {}


@given(st.floats(0, 0.99))
def test_the_rescaled_mask_has_mean_one(rate):
    keep, scale = keep_and_scale(rate, "rescaled")
    assert keep * scale == pytest.approx(1, rel=1e-6)


def test_the_mask_of_a_normal_threshold_makes_the_mean_grow():
    """n < p for n ~ N(0, 1): at rate .5, 69.1 % are kept and the mean grows by 1.383."""
    keep, scale = keep_and_scale(0.5, "normal_threshold")
    normal = np.random.default_rng(1).normal(size=10**6)
    assert abs(np.mean(normal < 0.5) - keep) < 0.002
    assert keep * scale == pytest.approx(1.3829, abs=1e-4)
