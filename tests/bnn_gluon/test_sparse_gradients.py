"""Gradients below a max pooling: NumPy's own, in double precision, and MXNet's where they stand in for them."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from benchmarks.recipe.architecture import Conv, Dense, LayerShape

pytestmark = pytest.mark.usefixtures("mx")  # before what is tested is imported


def gradients_of(x, weights, gradient, padding):
    """The gradients of weights and input by their definition."""
    x, weights, gradient = (values.astype(np.float64) for values in (x, weights, gradient))
    kernel, (height, width) = weights.shape[2], gradient.shape[2:]
    edges = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(x, edges)
    of_weights = np.einsum("nfyx,ncyxab->fcab", gradient, sliding_window_view(padded, (kernel, kernel), axis=(2, 3)))
    of_padded = np.zeros_like(padded)
    for a in range(kernel):
        for b in range(kernel):
            of_padded[:, :, a : a + height, b : b + width] += np.einsum("nfyx,fc->ncyx", gradient, weights[:, :, a, b])
    rows, columns = x.shape[2:]
    return of_weights, of_padded[:, :, padding : padding + rows, padding : padding + columns]


def random_case(n, channels, side, filters, kernel, padding, share, seed):
    rng = np.random.default_rng(seed)
    height, width = (length + 2 * padding - kernel + 1 for length in side)
    x = rng.normal(size=(n, channels, *side)).astype(np.float32)
    weights = rng.normal(size=(filters, channels, kernel, kernel)).astype(np.float32)
    gradient = rng.normal(size=(n, filters, height, width)) * (rng.random((n, filters, height, width)) < share)
    return x, weights, gradient.astype(np.float32), padding


def gradients_with(padding):
    from bnn_gluon.kernels.sparse_gradients import SparseGradients

    return SparseGradients(padding)


def found(x, weights, gradient, padding):
    of_weights, of_x = np.full_like(weights, np.nan), np.full_like(x, np.nan)
    gradients_with(padding).set(x, weights, gradient, of_weights, of_x)
    return of_weights, of_x


@examples(40)
@given(
    n=st.integers(1, 3),
    channels=st.sampled_from([32, 64, 96]),
    side=st.tuples(st.integers(5, 20), st.integers(5, 35)),
    filters=st.sampled_from([1, 7, 31, 33, 64, 65, 130]),
    kernel=st.sampled_from([3, 5]),
    padding=st.integers(0, 2),
    share=st.sampled_from([0.0, 0.01, 0.25, 0.4, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_they_are_numpys(n, channels, side, filters, kernel, padding, share, seed):
    case = random_case(n, channels, side, filters, kernel, padding, share, seed)
    for values, expected in zip(found(*case), gradients_of(*case), strict=True):
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_memory_used_again_for_another_batch_leaves_no_trace():
    small, large = (random_case(n, 32, (8, 9), 40, 3, 1, 0.25, seed=n) for n in (1, 4))
    gradients = gradients_with(padding=1)
    for x, weights, gradient, _ in (large, small, large):
        of_weights, of_x = np.empty_like(weights), np.empty_like(x)
        gradients.set(x, weights, gradient, of_weights, of_x)
        for values, expected in zip((of_weights, of_x), found(x, weights, gradient, 1), strict=True):
            np.testing.assert_array_equal(values, expected)


@pytest.mark.threads
def test_no_bit_depends_on_the_number_of_threads():
    case = random_case(3, 64, (16, 16), 70, 3, 1, 0.25, seed=1)
    by_threads = []
    for threads in (1, numba.get_num_threads()):
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        by_threads.append(found(*case))
        numba.set_num_threads(before)
    for one, several in zip(*by_threads, strict=True):
        np.testing.assert_array_equal(one, several)


def test_what_is_not_a_number_is_not_lost():
    x, weights, gradient, padding = random_case(2, 32, (8, 8), 8, 3, 1, 0.25, seed=1)
    gradient[1, 3, 4, 4] = np.nan
    of_weights, of_x = found(x, weights, gradient, padding)
    assert np.isnan(of_weights[3]).all()
    assert np.isnan(of_x[1, :, 3:6, 3:6]).all()
    assert np.isfinite(of_x[0]).all()


@pytest.mark.parametrize(
    ("layer", "channels", "applies"),
    [
        (Conv(8, 3), 32, True),
        (Conv(8, 5, valid=True), 64, True),
        (Conv(8, 1), 32, False),
        (Conv(8, 7), 32, False),
        (Conv(8, 3), 3, False),
        (Conv(8, 3), 48, False),
        (Dense(8), 32, False),
    ],
)
def test_what_they_are_made_for(layer, channels, applies):
    from bnn_gluon.kernels.sparse_gradients import applies_to

    assert applies_to(LayerShape(layer, (channels, 9, 9), (8, 9, 9))) == applies


NETWORKS = {
    "real activations, every tied maximum": ("binaryconnect-cifar10", [], 2),
    "signs, biases": ("binarynet-cifar10", [], 2),
    "no biases, edges as padding": ("rwth-lenet5-mnist-binary", ["model.padding=edge"], 2),
    "pooled behind the activation": ("rwth-lenet5-mnist-binary", ["model.layer_order=CBAP"], 0),
    "ReLU before the pooling": ("rwth-vgg7-cifar10-binary", ["model.linear_output=batch_norm_relu"], 0),
}


@pytest.mark.parametrize(("name", "overrides", "layers"), NETWORKS.values(), ids=NETWORKS)
def test_a_networks_gradients_are_those_that_mxnet_makes(monkeypatch, name, overrides, layers):
    from bnn_gluon import linear

    architecture = "model.architecture=32C3-40C3-MP2-32C3-33C3-8FC-10FC"
    if layers:
        architecture = "model.architecture=32C3-64C3-MP2-40C3-MP2-8FC-10FC"
    recipe = load_recipe(name, [architecture, *overrides])
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (10, *recipe.image_shape)).astype(np.float32)
    labels = rng.integers(0, 10, 10)
    made: list[object] = []

    class Watched(linear.SparseGradients):
        def set(self, *arguments):
            made.append(self)
            super().set(*arguments)

    def gradients() -> dict[str, np.ndarray]:
        engine = open_engine("gluon", recipe.model, recipe.image_shape, 1)
        engine.train_step(images, labels, 0.0)
        return {name: parameter.grad().asnumpy() for name, parameter in engine._network.parameters.items()}

    monkeypatch.setattr(linear, "SparseGradients", Watched)
    monkeypatch.setattr(linear.table_convolutions, "applies_to", lambda _: False)
    sparse = gradients()
    assert len(made) == layers
    monkeypatch.setattr(linear, "applies_to", lambda _: False)
    dense = gradients()
    for key, value in dense.items():
        if key.startswith("conv") and key.endswith(".bias"):  # batch normalization leaves it rounding errors alone
            continue
        np.testing.assert_allclose(sparse[key], value, rtol=0, atol=2e-5 * np.abs(value).max(), err_msg=key)
