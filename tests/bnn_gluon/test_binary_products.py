"""Products of signs: NumPy's own, exactly; and no result of the engine depends on how they are computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from bnn_gluon.kernels import binary_products

SEEDS = st.integers(0, 2**32 - 1)
OTHERS = st.sampled_from([0.0, -0.0, 0.5, -2.0, np.nextafter(np.float32(1), np.float32(2)), np.nan, np.inf])


def signs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), shape)


def convolution_of(x: np.ndarray, weights: np.ndarray, padding: int) -> np.ndarray:
    kernel = weights.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    return np.einsum("ncyxab,fcab->nfyx", windows, weights, dtype=np.float64)


@given(
    n=st.integers(1, 4),
    inputs=st.integers(1, 200),
    units=st.one_of(st.integers(1, 20), st.integers(60, 140)),
    seed=SEEDS,
)
def test_a_dense_product_is_numpys(n, inputs, units, seed):
    x, weights = signs((n, inputs), seed), signs((units, inputs), seed + 1)
    product = np.full((n, units), np.nan, np.float32)
    assert binary_products.dense(x, weights, product)
    np.testing.assert_array_equal(product, x @ weights.T)


@given(
    n=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 31, 32, 33, 63, 64, 65, 130]),  # a word has 32 bits up to 32, else 64
    side=st.tuples(st.integers(1, 7), st.integers(1, 19)),
    filters=st.sampled_from([1, 2, 7, 8, 9, 16, 17, 33, 65, 130]),
    kernel=st.sampled_from([1, 2, 3, 5]),
    padding=st.integers(0, 3),
    seed=SEEDS,
)
def test_a_convolution_is_numpys(n, channels, side, filters, kernel, padding, seed):
    height, width = (length + 2 * padding - kernel + 1 for length in side)
    if min(height, width) < 1:
        return
    x, weights = signs((n, channels, *side), seed), signs((filters, channels, kernel, kernel), seed + 1)
    product = np.full((n, filters, height, width), np.nan, np.float32)
    assert binary_products.convolution(x, weights, padding, product)
    np.testing.assert_array_equal(product, convolution_of(x, weights, padding))


@given(other=OTHERS, position=st.integers(0, 2 * 70 * 9 - 1), of_weights=st.booleans(), seed=SEEDS)
def test_any_other_value_is_seen_and_nothing_is_done(other, position, of_weights, seed):
    x, weights = signs((2, 70, 3, 3), seed), signs((2, 70, 3, 3), seed + 1)
    (weights if of_weights else x).reshape(-1)[position] = other
    untouched = np.full((2, 2, 3, 3), 7, np.float32)
    assert not binary_products.convolution(x, weights, 1, untouched)
    assert not binary_products.dense(x.reshape(2, -1), weights.reshape(2, -1), untouched[:, :, 0, 0])
    assert (untouched == 7).all()


BINARY = {
    "biases, zeros as padding": ("binarynet-cifar10", ["model.architecture=4C3-4C3-MP2-8FC-10FC"], 3),
    "no biases, edges as padding": (
        "rwth-lenet5-mnist-binary",
        ["model.architecture=4C3-MP2-6C3v-8FC-10FC", "model.padding=edge"],
        3,
    ),
}


PRODUCTS = ("dense", "convolution_of_bits")


@pytest.mark.parametrize(("name", "overrides", "binary_layers"), BINARY.values(), ids=BINARY)
def test_no_bit_of_a_binary_network_depends_on_them(monkeypatch, name, overrides, binary_layers):
    recipe = load_recipe(name, overrides)
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (50, *recipe.image_shape)).astype(np.float32)
    labels = rng.integers(0, 10, 50)
    done: list[bool] = []

    def states_and_scores() -> dict[str, np.ndarray]:
        engine = open_engine("gluon", recipe.model, recipe.image_shape, 1)
        engine.train_epoch(images, labels, np.arange(50), 10, 1e-2, keep_remainder=True)
        return engine.state() | {"scores": engine.scores(images, 20)}

    def watched(product):
        def call(*arguments):
            done.append(product(*arguments))
            return done[-1]

        return call

    with monkeypatch.context() as patch:
        for product in PRODUCTS:
            patch.setattr(binary_products, product, watched(getattr(binary_products, product)))
        with_bits = states_and_scores()
    assert len(done) >= (5 + 3) * binary_layers  # of the batches of the epoch and of the scores
    assert all(done)
    for product in PRODUCTS:
        monkeypatch.setattr(binary_products, product, lambda *_: False)
    with_floats = states_and_scores()
    assert with_bits.keys() == with_floats.keys()
    for key, value in with_bits.items():
        np.testing.assert_array_equal(value, with_floats[key], err_msg=key)
