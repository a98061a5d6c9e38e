"""Convolutions of images with few channels: NumPy's, in double precision, and MXNet's where they stand in for it."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from benchmarks.recipe.architecture import Conv, Dense, LayerShape

pytestmark = pytest.mark.usefixtures("mx")  # before what is tested is imported
EPSILON = np.finfo(np.float32).eps


def windows_of(x, kernel, padding):
    """(N, channels, height, width, kernel, kernel), in double precision."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    return sliding_window_view(padded, (kernel, kernel), axis=(2, 3))


def product_of(x, weights, padding):
    return np.einsum("ncyxab,fcab->nfyx", windows_of(x, weights.shape[2], padding), weights)


def gradient_of_weights_of(x, gradient, kernel, padding):
    return np.einsum("nfyx,ncyxab->fcab", gradient, windows_of(x, kernel, padding), optimize=True)


def random_case(n, side, filters, kernel, padding, seed, channels=1):
    """Images and weights, and any values of the shape of their product, whose height and width are `side`."""
    rng = np.random.default_rng(seed)
    rows, columns = (max(1, length + kernel - 1 - 2 * padding) for length in side)
    x = rng.normal(size=(n, channels, rows, columns)).astype(np.float32)
    weights = rng.normal(size=(filters, channels, kernel, kernel)).astype(np.float32)
    height, width = (length + 2 * padding - kernel + 1 for length in (rows, columns))
    return x, weights, rng.normal(size=(n, filters, height, width)).astype(np.float32), padding


def found(x, weights, gradient, padding):
    """The product and the gradient of the weights."""
    from bnn_gluon.kernels import few_channels

    product, of_weights = np.full_like(gradient, np.nan), np.full_like(weights, np.nan)
    few_channels.convolution(x, weights, padding, product)
    few_channels.gradient_of_weights(x, gradient, padding, of_weights)
    return product, of_weights


@given(
    n=st.integers(1, 3),
    side=st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 24, 28, 31, 32, 33, 63, 64, 65, 70])),
    filters=st.integers(1, 9),
    kernel=st.sampled_from([3, 5]),
    padding=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 3),
)
def test_they_are_numpys(n, side, filters, kernel, padding, seed, channels):
    x, weights, gradient, padding = random_case(n, side, filters, kernel, padding, seed, channels)
    product, of_weights = found(x, weights, gradient, padding)
    bound = channels * kernel**2 * EPSILON * product_of(np.abs(x), np.abs(weights), padding)
    assert (np.abs(product - product_of(x, weights, padding)) <= bound).all()
    bound = gradient[:, 0].size * EPSILON * gradient_of_weights_of(np.abs(x), np.abs(gradient), kernel, padding)
    assert (np.abs(of_weights - gradient_of_weights_of(x, gradient, kernel, padding)) <= bound).all()


@pytest.mark.threads
@pytest.mark.parametrize("kernel", [3, 5])
def test_no_bit_depends_on_the_number_of_threads(kernel):
    case = random_case(5, (20, 28), 13, kernel, 1, seed=1, channels=3)
    by_threads, before = [], numba.get_num_threads()
    for threads in (1, before):
        numba.set_num_threads(threads)
        by_threads.append(found(*case))
        numba.set_num_threads(before)
    for one, several in zip(*by_threads, strict=True):
        np.testing.assert_array_equal(one, several)


def test_what_is_not_a_number_is_not_lost_and_stays_where_it_is():
    x, weights, gradient, padding = random_case(2, (12, 17), 5, 3, 1, seed=1)
    x[1, 0, 5, 16] = np.nan  # at the edge, which the next row follows in memory
    product, of_weights = found(x, weights, gradient, padding)
    assert np.isnan(product[1, :, 4:7, 15:]).all()
    assert np.isnan(product).sum() == 5 * 3 * 2
    assert np.isnan(of_weights[:, 0, :, 1:]).all()  # what is under the first column of the kernel ends one pixel before


@pytest.mark.parametrize(
    ("layer", "channels", "applies"),
    [
        (Conv(8, 3), 1, True),
        (Conv(8, 5, valid=True), 1, True),
        (Conv(8, 1), 1, False),
        (Conv(8, 7), 1, False),
        (Conv(8, 3), 3, True),
        (Conv(8, 3), 4, False),
        (Dense(8), 1, False),
    ],
)
def test_what_they_are_made_for(layer, channels, applies):
    from bnn_gluon.kernels.few_channels import applies_to

    assert applies_to(LayerShape(layer, (channels, 9, 9), (8, 9, 9))) == applies


NETWORKS = {
    "no biases": ("rwth-lenet5-mnist-float", [], 1, True),
    "no biases, edges as padding": ("rwth-lenet5-mnist-float", ["model.padding=edge"], 1, False),
    "biases, added behind the pooling": ("binaryconnect-mnist", [], 1, True),
    "biases": ("chawla-cnn-cifar10-float", [], 1, False),
    "three channels": ("binaryconnect-cifar10", [], 3, True),
}


@pytest.mark.parametrize(("name", "overrides", "channels", "gradient_too"), NETWORKS.values(), ids=NETWORKS)
def test_a_networks_scores_and_gradients_are_those_that_mxnet_makes(
    monkeypatch, name, overrides, channels, gradient_too
):
    from bnn_gluon import linear
    from bnn_gluon.kernels import few_channels

    recipe = load_recipe(name, ["model.architecture=6C3-9C5-MP2-8FC-10FC", *overrides])
    rng = np.random.default_rng(1)
    shape = (channels, 28, 28)
    images = rng.uniform(-1, 1, (10, *shape)).astype(np.float32)
    labels = rng.integers(0, 10, 10)
    made: list[str] = []

    def watched(function):
        def call(*arguments):
            made.append(function.__name__)
            function(*arguments)

        return call

    def scores_and_gradients() -> dict[str, np.ndarray]:
        engine = open_engine("gluon", recipe.model, shape, 1)
        engine.train_step(images, labels, 0.0)
        return engine.gradients() | {"scores": engine.scores(images, 4)}

    for function in (few_channels.convolution, few_channels.gradient_of_weights):
        monkeypatch.setattr(few_channels, function.__name__, watched(function))
    ours = scores_and_gradients()
    assert set(made) == {"convolution", *(["gradient_of_weights"] if gradient_too else [])}
    monkeypatch.setattr(linear.few_channels, "applies_to", lambda _: False)
    mxnets = scores_and_gradients()
    assert ours.keys() == mxnets.keys()
    for key, value in mxnets.items():
        if key.startswith("conv") and key.endswith(".bias"):  # batch normalization leaves it rounding errors alone
            continue
        np.testing.assert_allclose(ours[key], value, rtol=0, atol=2e-5 * np.abs(value).max(), err_msg=key)
