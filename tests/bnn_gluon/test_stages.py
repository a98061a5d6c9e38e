"""A convolution's stage: what its bias does, which no pass over the pixels adds."""

from __future__ import annotations

import numpy as np

from benchmarks.recipe.architecture import Conv, LayerShape


def stage_of(mx, bias: np.ndarray, weight: np.ndarray, *, every: bool = False):
    from bnn_gluon.activations import Activation
    from bnn_gluon.batch_norm import BATCH_NORMS
    from bnn_gluon.kernels.fused import RELU
    from bnn_gluon.linear import Linear
    from bnn_gluon.stages import Normalization, Pool, Stage

    filters, channels = weight.shape[:2]
    linear = Linear(LayerShape(Conv(filters, 3), (channels, 8, 8), (filters, 8, 8)), add_bias=False)
    norm = Normalization(BATCH_NORMS["lasagne"], np.float32(1e-4), np.float32(0.1))
    stage = Stage(linear, Pool(2, every), norm, Activation(RELU, RELU, RELU), filters, add_bias=True)
    for parameter, value in ((linear.weight, weight), (stage.bias, bias), (stage.gamma, None), (stage.beta, None)):
        parameter.initialize(mx.init.One() if parameter is stage.gamma else mx.init.Zero())
        if value is not None:
            parameter.set_data(mx.nd.array(value))
    mx.nd.waitall()
    return stage


def random_case():
    generator = np.random.default_rng(1)
    weight = np.sign(generator.normal(size=(4, 3, 3, 3)))
    return generator, weight, np.sign(generator.normal(size=(5, 3, 8, 8))), generator.normal(size=4)


def test_a_bias_moves_the_moving_mean_and_nothing_else(mx):
    _, weight, x, bias = random_case()
    plain, biased = stage_of(mx, np.zeros(4), weight), stage_of(mx, bias, weight)
    given = mx.nd.array(x)
    np.testing.assert_array_equal(plain.forward(given).asnumpy(), biased.forward(given).asnumpy())
    np.testing.assert_allclose(biased.running_mean - plain.running_mean, 0.1 * bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(biased.running_spread, plain.running_spread)


def test_evaluation_adds_the_bias(mx):
    _, weight, x, bias = random_case()
    plain, biased = stage_of(mx, np.zeros(4), weight), stage_of(mx, bias, weight)
    plain.running_mean[:], biased.running_mean[:] = 0.5, 0.5 + bias
    given = mx.nd.array(x)
    np.testing.assert_allclose(biased.evaluate(given).asnumpy(), plain.evaluate(given).asnumpy(), atol=1e-5)


def test_gradient_of_the_bias_is_nothing_but_rounding(mx):
    generator, weight, x, bias = random_case()
    stage = stage_of(mx, bias, weight)
    shape = stage.forward(mx.nd.array(x)).shape
    stage.backward(mx.nd.array(generator.normal(size=shape)))
    assert np.abs(stage.bias.grad().asnumpy()).max() < 1e-5


def test_gradient_of_the_bias_where_every_tied_maximum_gets_the_gradient(mx):
    """The sum over the windows of their gradient times the number of their ties."""
    generator, weight, x, bias = random_case()
    stage = stage_of(mx, bias, weight, every=True)
    g = generator.normal(size=stage.forward(mx.nd.array(x)).shape).astype(np.float32)
    stage.backward(mx.nd.array(g))

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
