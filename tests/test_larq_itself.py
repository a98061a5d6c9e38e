"""What was recorded of Larq against what it computes today, and the benchmark against its own tutorial's network."""

from __future__ import annotations

import larq_cases as cases
import numpy as np
import pytest

from benchmarks.engine.initial import initial_values
from benchmarks.engine.layers import layers_of
from benchmarks.engine.updates import BETA1, BETA2, EPSILON, rule_of
from benchmarks.recipe import load_recipe

larq_runs = pytest.importorskip("larq_runs")  # without Larq all is skipped
pytestmark = pytest.mark.larq
RECIPE = load_recipe("larq-mnist")
LAYERS = layers_of(RECIPE.model, RECIPE.image_shape)


def test_what_is_recorded_is_what_larq_computes():
    """But after Adam's steps of small gradients, of which float32 does not know the sign."""
    with np.load(cases.GOLDEN) as file:
        recorded = dict(file)
    today = larq_runs.run(int(recorded["seed"])).arrays
    assert set(today) == set(recorded)
    for key, value in today.items():
        if key.startswith("held/"):
            assert np.mean(value == recorded[key]) > 0.99, key
            continue
        held = recorded.get(f"held/{key.removeprefix('after/')}", True)
        assert (np.abs(value - recorded[key]) * held).max() <= 1e-5 * np.abs(recorded[key]).max() + 1e-7, key


@pytest.fixture(scope="module")
def tutorial():
    return larq_runs.tutorial()


def test_the_benchmark_has_the_layers_of_the_tutorials_network(tutorial):
    theirs = {larq_runs.ours(v): larq_runs.to_ours(larq_runs.ours(v), v).shape for v in tutorial.variables}
    assert theirs == {name: shape for layer in LAYERS for name, shape in layer.parameters.items()}
    norms = [layer for layer in tutorial.layers if hasattr(layer, "epsilon")]
    assert [norm.epsilon for norm in norms] == [layer.epsilon for layer in LAYERS]
    assert [1 - norm.momentum for norm in norms] == pytest.approx([layer.alpha for layer in LAYERS])


def test_initial_weights_have_the_same_limits(tutorial):
    """Uniform ones: of so many draws the largest is near the limit."""
    ours = initial_values(LAYERS, RECIPE.model, 1)
    for variable in tutorial.variables:
        name = larq_runs.ours(variable)
        if name.endswith(".weight"):
            theirs = np.abs(variable.numpy()).max()
            assert theirs == pytest.approx(np.abs(ours[name]).max(), rel=0.05), name
        else:
            np.testing.assert_array_equal(ours[name], larq_runs.to_ours(name, variable))


def test_the_optimizer_is_the_one_of_its_word(tutorial):
    optimizer = tutorial.optimizer
    assert rule_of(RECIPE.model).name == "keras_adam"
    assert (float(optimizer.learning_rate), optimizer.beta_1, optimizer.beta_2) == (
        pytest.approx(RECIPE.train.lr_start), BETA1, BETA2,
    )  # fmt: skip
    assert optimizer.epsilon == pytest.approx(10 * EPSILON)
