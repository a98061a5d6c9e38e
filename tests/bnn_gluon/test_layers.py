"""Batch normalisation against BinaryConnect's own (tests/golden, G_units), and its parts by finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.architecture import MaxPool, layer_shapes, parse_architecture
from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from bnn_gluon.engine import _lr_scales

UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")


@pytest.fixture(scope="module")
def mx():
    open_engine("gluon", load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model, (1, 28, 28), 0)
    import mxnet

    return mxnet


# Golden arrays, kind, alpha of the moving averages and what is averaged beside the mean.
CASES = [
    ("bn_bc_2d", "binaryconnect", 0.15, "std"),
    ("bn_bc_4d", "binaryconnect", 0.15, "std"),
    ("bn_lasagne_2d", "lasagne", 0.1, "inv_std"),
    ("bn_lasagne_4d", "lasagne", 0.1, "inv_std"),
]


def batch_norm(mx, name: str, kind: str, training: bool):
    from bnn_gluon.layers import BATCH_NORMS

    x = UNITS[f"{name}/x"]
    block = BATCH_NORMS[kind](x.shape[1], x.ndim == 4, 1e-4, training, prefix="bn_")
    block.initialize()
    block.hybridize()
    for parameter in ("gamma", "beta"):
        value = UNITS[f"{name}/{parameter}"]
        getattr(block, parameter).set_data(mx.nd.array(value.reshape(block.gamma.shape)))
    return block, mx.nd.array(x)


@pytest.mark.parametrize(("name", "kind", "alpha", "spread"), CASES)
def test_training_forward_and_gradients(mx, name, kind, alpha, spread):
    block, x = batch_norm(mx, name, kind, training=True)
    x.attach_grad()
    with mx.autograd.record():
        y, mean, batch_spread = block(x)
    y.backward(mx.nd.array(UNITS[f"{name}/gy"]))
    np.testing.assert_allclose(y.asnumpy(), UNITS[f"{name}/y"], rtol=1e-4, atol=1e-4)
    for found, expected in (
        (x.grad, "dx"),
        (block.gamma.grad(), "dgamma"),
        (block.beta.grad(), "dbeta"),
    ):
        reference = UNITS[f"{name}/{expected}"]
        tolerance = 1e-5 + 1e-3 * np.abs(reference).max()
        np.testing.assert_allclose(found.asnumpy().ravel(), reference.ravel(), rtol=0, atol=tolerance)
    # The moving averages after one call, from 0 and 1.
    for batch_value, start, average in ((mean, 0, "mean"), (batch_spread, 1, spread)):
        after = (1 - alpha) * start + alpha * batch_value.asnumpy().ravel()
        np.testing.assert_allclose(after, UNITS[f"{name}/run_{average}_1"].ravel(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "kind", "alpha", "spread"), CASES)
def test_evaluation_uses_the_moving_averages(mx, name, kind, alpha, spread):
    block, x = batch_norm(mx, name, kind, training=False)
    for parameter, average in ((block.running_mean, "mean"), (block.running_spread, spread)):
        parameter.set_data(mx.nd.array(UNITS[f"{name}/run_{average}_3"].reshape(parameter.shape)))
    np.testing.assert_allclose(block(x).asnumpy(), UNITS[f"{name}/y_eval"], rtol=1e-5, atol=1e-5)


def test_binary_tanh_on_the_edge_cases_of_the_original(mx):
    from bnn_gluon.layers import binary_tanh

    x = mx.nd.array(UNITS["special/x"])
    x.attach_grad()
    with mx.autograd.record():
        y = binary_tanh(mx.nd, x)
    y.backward()
    np.testing.assert_array_equal(y.asnumpy(), UNITS["special/binary_tanh_unit"])
    np.testing.assert_array_equal(x.grad.asnumpy(), UNITS["special/binary_tanh_unit_grad"])


def test_binary_sigmoid_on_the_edge_cases_of_the_original(mx):
    """Its rounding is that of binary_tanh, half away from zero; the slope of hard_sigmoid is 1/2."""
    from bnn_gluon.layers import binary_sigmoid

    x = mx.nd.array(UNITS["special/x"])
    x.attach_grad()
    with mx.autograd.record():
        y = binary_sigmoid(mx.nd, x)
    y.backward()
    np.testing.assert_array_equal(y.asnumpy(), UNITS["special/hard_sigmoid"] >= 0.5)
    np.testing.assert_array_equal(y.asnumpy(), (UNITS["special/binary_tanh_unit"] + 1) / 2)
    np.testing.assert_array_equal(x.grad.asnumpy(), UNITS["special/binary_tanh_unit_grad"] / 2)


def test_a_convolution_of_signs_has_sums_that_tie_whatever_the_bias(mx):
    """The sums are whole numbers: equal ones stay equal with a bias added, so that pooling finds the same ties."""
    from bnn_gluon.layers import Convolution

    generator = np.random.default_rng(1)
    block = Convolution(16, 3, padding=1, in_channels=32)
    block.initialize()
    signs = np.sign(generator.normal(size=(16, 32, 3, 3)))
    bias = generator.normal(size=16).astype(np.float32)
    block.weight.set_data(mx.nd.array(signs))
    x = mx.nd.array(np.sign(generator.normal(size=(4, 32, 8, 8))))
    sums = block(x).asnumpy()
    block.bias.set_data(mx.nd.array(bias))
    np.testing.assert_array_equal(sums, np.round(sums))
    np.testing.assert_array_equal(block(x).asnumpy(), sums + bias[:, None, None])


def scales(text: str, shape: tuple[int, ...]) -> list[np.float32]:
    linear = [s for s in layer_shapes(parse_architecture(text), shape) if not isinstance(s.layer, MaxPool)]
    return list(_lr_scales(linear, load_recipe("binaryconnect-mnist").model).values())


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
