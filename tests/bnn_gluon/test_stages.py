"""A convolution's stage: what its bias does, which no pass over the pixels adds."""

from __future__ import annotations

import numpy as np

from benchmarks.engine.draws import draws_of
from benchmarks.engine.layers import layers_of
from benchmarks.recipe import load_recipe


class BiasedStage:
    """A convolution of 3 x 3, pooling, batch normalization and ReLU, whose bias moves the mean."""

    def __init__(self, mx, bias: np.ndarray, weight: np.ndarray, *, every: bool = False) -> None:
        from bnn_gluon.stages import Stage

        recipe = load_recipe(
            "binaryconnect-mnist",
            [
                *("model.architecture=4C3-MP2-10FC", "model.batch_norm=lasagne", "model.batch_norm_alpha=0.1"),
                f"model.max_pool_gradient={'all' if every else 'first'}",
            ],
        )
        layers = layers_of(recipe.model, (weight.shape[1], 8, 8))
        stage = Stage(layers[0], draws_of(layers, recipe.model)[0]._replace(mask=None), recipe.model)
        values = {"conv1.weight": weight, "conv1.bias": bias, "bn1.gamma": np.ones(4), "bn1.beta": np.zeros(4)}
        for name, parameter in stage.parameters.items():
            parameter.initialize()
            parameter.set_data(mx.nd.array(values[name]))
        mx.nd.waitall()
        self.stage, self.bias = stage, stage.parameters["conv1.bias"]
        self.running_mean, self.running_spread = stage.running.values()

    def forward(self, x):
        return self.stage.forward(x, None)


def random_case():
    generator = np.random.default_rng(1)
    weight = np.sign(generator.normal(size=(4, 3, 3, 3)))
    return generator, weight, np.sign(generator.normal(size=(5, 3, 8, 8))), generator.normal(size=4)


def test_a_bias_moves_the_moving_mean_and_nothing_else(mx):
    _, weight, x, bias = random_case()
    plain, biased = BiasedStage(mx, np.zeros(4), weight), BiasedStage(mx, bias, weight)
    given = mx.nd.array(x)
    np.testing.assert_array_equal(plain.forward(given).asnumpy(), biased.forward(given).asnumpy())
    np.testing.assert_allclose(biased.running_mean - plain.running_mean, 0.1 * bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(biased.running_spread, plain.running_spread)


def test_evaluation_adds_the_bias(mx):
    _, weight, x, bias = random_case()
    plain, biased = BiasedStage(mx, np.zeros(4), weight), BiasedStage(mx, bias, weight)
    plain.running_mean[:], biased.running_mean[:] = 0.5, 0.5 + bias
    given = mx.nd.array(x)
    np.testing.assert_allclose(biased.stage.evaluate(given).asnumpy(), plain.stage.evaluate(given).asnumpy(), atol=1e-5)


def test_gradient_of_the_bias_is_nothing_but_rounding(mx):
    generator, weight, x, bias = random_case()
    stage = BiasedStage(mx, bias, weight)
    shape = stage.forward(mx.nd.array(x)).shape
    stage.stage.backward(mx.nd.array(generator.normal(size=shape)))
    assert np.abs(stage.bias.grad().asnumpy()).max() < 1e-5


def test_gradient_of_the_bias_where_every_tied_maximum_gets_the_gradient(mx):
    """The sum over the windows of their gradient times the number of their ties."""
    generator, weight, x, bias = random_case()
    stage = BiasedStage(mx, bias, weight, every=True)
    g = generator.normal(size=stage.forward(mx.nd.array(x)).shape).astype(np.float32)
    stage.stage.backward(mx.nd.array(g))

    sums = mx.nd.Convolution(mx.nd.array(x), mx.nd.array(weight), kernel=(3, 3), pad=(1, 1), num_filter=4, no_bias=True)
    windows = (
        sums.asnumpy().astype(np.float64).reshape(5, 4, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4, 16, 4)
    )
    pooled, axes = windows.max(axis=-1), (0, 2)
    ties = (windows == pooled[..., None]).sum(axis=-1)
    inv_std = 1 / np.sqrt(pooled.var(axis=axes) + 1e-4)
    normalized = (pooled - pooled.mean(axis=axes, keepdims=True)) * inv_std[:, None]
    g = g.reshape(pooled.shape) * (normalized > 0)
    centered = g - g.mean(axis=axes, keepdims=True)
    of_sums = centered - normalized * (g * normalized).mean(axis=axes, keepdims=True)
    expected = (of_sums * ties).sum(axis=axes) * inv_std
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(stage.bias.grad().asnumpy(), expected, rtol=1e-4, atol=1e-5)
