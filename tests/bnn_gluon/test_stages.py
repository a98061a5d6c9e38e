"""Training stage by stage gives what MXNet's autograd gives for the whole network."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from bnn_gluon.engine import _named_parameters

SMALL = "model.architecture=2x4C3-MP2-8C3-MP2-16FC-10FC"
MODELS = {
    "binaryconnect": ("binaryconnect-mnist", SMALL),
    "binarynet": ("binarynet-mnist", SMALL),
    "all ties": ("binarynet-mnist", SMALL, "model.max_pool_gradient=all"),
    "torch7": ("binarynet-torch7-mnist", SMALL),
}


@pytest.mark.parametrize("name", MODELS)
def test_loss_gradients_and_statistics(name):
    benchmark, *overrides = MODELS[name]
    recipe = load_recipe(benchmark, overrides)
    engine = open_engine("gluon", recipe.model, recipe.image_shape, seed=3)
    import mxnet as mx

    from bnn_gluon.network import Network

    generator = np.random.default_rng(1)
    images = generator.normal(size=(20, *recipe.image_shape)).astype(np.float32)
    targets, draws = engine._targets(generator.integers(0, 10, 20)), engine._draw_inputs(20)
    network = whole_network(engine, recipe, Network)
    with mx.autograd.record():
        scores, *statistics = network(*(mx.nd.array(array, dtype="float32") for array in (images, *draws)))
        loss = mx.nd.mean(mx.nd.square(mx.nd.relu(1 - mx.nd.array(targets) * scores)))
    loss.backward()
    expected = {key: parameter.grad().asnumpy() for key, parameter in _named_parameters(network).items()}

    measured_loss, measured_statistics = engine._training.step(images, targets, draws)
    assert measured_loss == pytest.approx(float(loss.asscalar()), rel=1e-5)
    for found, value in zip(measured_statistics, statistics, strict=True):
        np.testing.assert_allclose(found, value.asnumpy().ravel(), rtol=1e-4, atol=1e-5)
    for key, parameter in engine._training_parameters.items():
        tolerance = 1e-4 * np.abs(expected[key]).max() + 1e-6
        assert np.abs(parameter.grad().asnumpy() - expected[key]).max() <= tolerance, key


def whole_network(engine, recipe, network_class):
    """A network of its own with the engine's parameters, binary weights included."""
    from benchmarks.architecture import layer_shapes, parse_architecture

    shapes = layer_shapes(parse_architecture(recipe.model.architecture), recipe.image_shape)
    network = network_class(shapes, recipe.model, training=True)
    network.initialize()
    network.hybridize()
    for key, parameter in _named_parameters(network).items():
        parameter.set_data(engine._training_parameters[key].data())
    return network
