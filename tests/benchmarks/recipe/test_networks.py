"""GluonCV's networks as recipes know them: their size, and what does not go together with them.

tests/bnn_gluon/test_zoo.py compares each with GluonCV's own.
"""

from __future__ import annotations

import functools

import msgspec
import pytest

from benchmarks.errors import RecipeError
from benchmarks.recipe import ModelSettings, benchmark_ids, load_recipe
from benchmarks.recipe.cost import cost
from benchmarks.recipe.layerwise import layer_activations, layer_weights, linear_layers
from benchmarks.recipe.networks import NETWORKS, network
from benchmarks.recipe.settings import setting_text

IDS = [name for name in benchmark_ids() if name.startswith("gluoncv-")]
RESNET20 = "gluoncv-resnet20-cifar10"


def test_every_network_is_a_benchmark():
    assert sorted(load_recipe(name).model.architecture for name in IDS) == sorted(NETWORKS)


def test_size_of_resnet20_by_hand():
    stages = [(16, 16, 32 * 32), (16, 32, 16 * 16), (32, 64, 8 * 8)]  # filters before and in it, pixels
    weights = multiply_adds = 0
    for before, filters, pixels in stages:
        shortcut = before * filters if before != filters else 0
        of_stage = 9 * before * filters + 5 * 9 * filters**2 + shortcut
        weights, multiply_adds = weights + of_stage, multiply_adds + of_stage * pixels
    weights, multiply_adds = weights + 9 * 3 * 16 + 64 * 10, multiply_adds + 9 * 3 * 16 * 32 * 32 + 64 * 10
    channels = 16 + 6 * 16 + 7 * 32 + 7 * 64
    counted = cost(load_recipe(RESNET20))
    parameters = counted.parameters
    assert (parameters.weights, parameters.biases, parameters.gammas) == (weights, 10, channels)
    assert parameters.total == weights + 10 + 2 * channels == 272_474
    assert counted.multiply_adds == multiply_adds == 40_813_184
    assert counted.training_flop_per_image == 6 * multiply_adds - 2 * 9 * 3 * 16 * 32 * 32


def test_cost_of_a_run():
    counted = cost(load_recipe(RESNET20))
    assert counted.training_steps == 200 * 390  # 80 images do not fill a batch
    assert counted.training_images == 200 * 390 * 128
    assert counted.evaluation_images == 200 * 10_000  # no validation images


@pytest.mark.parametrize("name", NETWORKS)
def test_layers(name):
    shapes = network(name).shapes
    shortcuts = sum(shape.layer.kernel == 1 for shape in shapes[:-1])
    # What its authors count: all convolutions of a wide one, else all layers but shortcuts.
    depth = len(shapes) - 1 if "wide" in name else len(shapes) - shortcuts
    assert f"net{depth}_" in name
    assert {shape.output_shape[1] for shape in shapes[:-1]} == {32, 16, 8}
    model = load_recipe(RESNET20, [f"model.architecture={name}"]).model
    assert linear_layers(model) == [shape.layer for shape in shapes]
    assert set(layer_weights(model)) == {"real"}
    assert layer_activations(model) == ["relu"] * (len(shapes) - 1)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (
            "model.weights=deterministic",
            r"model.weights=deterministic: expected real with model.architecture=cifar_res",
        ),
        ("model.activation=sign", r"model.activation=sign: expected relu with model.architecture=cifar_resnet20_v1, a"),
        ("model.loss=squared_hinge", r"expected cross_entropy with"),
        ("model.initialization=he_normal", r"expected lasagne with"),
        ("model.output_batch_norm=null", r"model.output_batch_norm=null: expected none with"),
        ("model.biases=false", r"model.biases=false: expected true with"),
        ("model.trained_layers=all_but_output", r"expected all with"),
        ("data.preprocessing=signed", r"data.preprocessing=signed: expected unit with"),
        ("data.dataset=mnist", r"data.dataset=mnist: expected images of 3 x 32 x 32 with"),
        ("model.architecture=cifar_resnet21_v1", r"'cifar_resnet21_v1' is none of .*: did you mean cifar_resnet20_v1"),
        (
            "protocol.selection=best_validation",
            r"protocol.selection=best_validation: expected last or best_test or first_best_test with d",
        ),
        ("data.split=random", r"data.valid_images=0: expected data.split=published, data.augmented=train and another"),
        ("data.augmented=train_valid", r"data.valid_images=0: expected data.split=published"),
        ("data.dataset=svhn", r"data.valid_images=0: expected .* another data.dataset than svhn with it"),
        ("data.valid_images=-1", r"data.valid_images=-1: expected a whole number, at least 0"),
    ],
)
def test_what_does_not_go_together_is_refused(override, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe(RESNET20, [override])


@functools.cache
def all_models() -> list[ModelSettings]:
    return [load_recipe(name).model for name in benchmark_ids()]


OPEN = {"architecture", "batch_norm_alpha", "batch_norm_epsilon", "momentum", "nesterov", "weight_decay"}


@pytest.mark.parametrize("field", [f.name for f in msgspec.structs.fields(ModelSettings) if f.name not in OPEN])
def test_every_other_setting_of_the_model_is_the_networks_own(field):
    """Its published value may be named; what any other benchmark has instead is refused."""
    published = getattr(load_recipe(RESNET20).model, field)
    others = {getattr(model, field) for model in all_models()} - {published}
    for value in others:
        with pytest.raises(RecipeError):
            load_recipe(RESNET20, [f"model.{field}={setting_text(value)}"])
    if published != 0.0 or field != "weight_limit":  # 0 is said by leaving it out
        assert load_recipe(RESNET20, [f"model.{field}={setting_text(published)}"]).scoring
