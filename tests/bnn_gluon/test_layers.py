"""Batch normalisation against BinaryConnect's own (tests/golden, G_units), and its parts by finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.architecture import layer_shapes, parse_architecture
from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from bnn_gluon.engine import _lr_scales

UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")


@pytest.fixture(scope="module")
def mx():
    open_engine("gluon", load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model, (1, 28, 28), 0)
    import mxnet

    return mxnet


def batch_norm(mx, name: str, training: bool):
    from bnn_gluon.layers import BinaryConnectBatchNorm

    x = UNITS[f"{name}/x"]
    block = BinaryConnectBatchNorm(x.shape[1], x.ndim == 4, 1e-4, training, prefix="bn_")
    block.initialize()
    block.hybridize()
    block.gamma.set_data(mx.nd.array(UNITS[f"{name}/gamma"]))
    block.beta.set_data(mx.nd.array(UNITS[f"{name}/beta"]))
    return block, mx.nd.array(x)


@pytest.mark.parametrize("name", ["bn_bc_2d", "bn_bc_4d"])
def test_training_forward_and_gradients(mx, name):
    block, x = batch_norm(mx, name, training=True)
    x.attach_grad()
    with mx.autograd.record():
        y, mean, std = block(x)
    y.backward(mx.nd.array(UNITS[f"{name}/gy"]))
    np.testing.assert_allclose(y.asnumpy(), UNITS[f"{name}/y"], rtol=1e-4, atol=1e-4)
    for found, expected in (
        (x.grad, "dx"),
        (block.gamma.grad(), "dgamma"),
        (block.beta.grad(), "dbeta"),
    ):
        reference = UNITS[f"{name}/{expected}"]
        tolerance = 1e-5 + 1e-3 * np.abs(reference).max()
        np.testing.assert_allclose(found.asnumpy(), reference, rtol=0, atol=tolerance)
    # The moving averages after one call, from 0 and 1.
    np.testing.assert_allclose(0.15 * mean.asnumpy(), UNITS[f"{name}/run_mean_1"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(0.85 + 0.15 * std.asnumpy(), UNITS[f"{name}/run_std_1"], rtol=1e-5)


@pytest.mark.parametrize("name", ["bn_bc_2d", "bn_bc_4d"])
def test_evaluation_uses_the_moving_averages(mx, name):
    block, x = batch_norm(mx, name, training=False)
    block.running_mean.set_data(mx.nd.array(UNITS[f"{name}/run_mean_3"]))
    block.running_std.set_data(mx.nd.array(UNITS[f"{name}/run_std_3"]))
    np.testing.assert_allclose(block(x).asnumpy(), UNITS[f"{name}/y_eval"], rtol=1e-5, atol=1e-5)


def test_learning_rate_scales_of_every_layer_of_the_papers():
    published = dict(zip(map(str, UNITS["lrscale/names"]), UNITS["lrscale/values"], strict=True))
    model = load_recipe("binaryconnect-mnist").model
    mlp = _lr_scales(layer_shapes(parse_architecture("3x2048FC-10FC"), (1, 28, 28)), model)
    expected = [published[name] for name in ("BinaryConnect mnist 784-2048", "2048-2048", "2048-2048", "2048-10")]
    np.testing.assert_allclose(list(mlp.values()), expected, rtol=1e-6)
    text = "2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-2x1024FC-10FC"
    cnn = _lr_scales(layer_shapes(parse_architecture(text), (3, 32, 32)), model)
    names = [
        *("conv 3-128", "conv 128-128", "conv 128-256", "conv 256-256", "conv 256-512", "conv 512-512"),
        *("dense 8192-1024", "dense 1024-1024", "dense 1024-10"),
    ]
    np.testing.assert_allclose(list(cnn.values()), [published[name] for name in names], rtol=1e-6)
    assert list(cnn) == [*(f"conv{n}.weight" for n in range(1, 7)), *(f"dense{n}.weight" for n in range(1, 4))]
