"""Products of signs: NumPy's own, exactly; and no result of the engine depends on how they are computed."""

from __future__ import annotations

import hashlib

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from bnn_gluon.kernels import binary_products, sign_bits

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
@example(n=2, channels=70, side=(19, 20), filters=40, kernel=3, padding=1, seed=0)  # chunks of 12 and 7 rows
@example(n=1, channels=64, side=(2, 300), filters=33, kernel=3, padding=2, seed=0)  # a row longer than a chunk
@example(n=1, channels=3, side=(1, 2), filters=9, kernel=5, padding=2, seed=0)  # taps on both sides are outside
def test_a_convolution_is_numpys(n, channels, side, filters, kernel, padding, seed):
    height, width = (length + 2 * padding - kernel + 1 for length in side)
    if min(height, width) < 1:
        return
    x, weights = signs((n, channels, *side), seed), signs((filters, channels, kernel, kernel), seed + 1)
    product = np.full((n, filters, height, width), np.nan, np.float32)
    assert binary_products.convolution(x, weights, padding, product)
    np.testing.assert_array_equal(product, convolution_of(x, weights, padding))


@given(
    n=st.integers(1, 2),
    channels=st.one_of(st.integers(1, 70), st.sampled_from([96, 97, 128, 129])),
    pixels=st.tuples(st.integers(1, 7), st.integers(1, 7)),  # fewer than a register has lanes, and more
    seed=SEEDS,
)
def test_bits_are_those_that_numpy_packs(n, channels, pixels, seed):
    x = signs((n, channels, *pixels), seed)
    word = np.dtype(np.uint32 if channels <= 32 else np.uint64)
    missing = -channels % (8 * word.itemsize)
    positive = np.pad(np.moveaxis(x > 0, 1, -1), ((0, 0), (0, 0), (0, 0), (0, missing)))
    expected = np.ascontiguousarray(np.packbits(positive, axis=-1, bitorder="little")).view(word)
    found = sign_bits.bits_of(x)
    assert found is not None
    assert found.dtype == word
    np.testing.assert_array_equal(found, expected)


def products() -> list[np.ndarray]:
    """Of some layers: words of 64 and of 32 bits, edges, more than one block of units, and a fully connected layer."""
    found = []
    for channels, filters, columns, kernel, padding in ((130, 80, 17, 3, 1), (20, 70, 8, 5, 2), (32, 9, 5, 3, 0)):
        x, weights = signs((3, channels, 18, columns), 1), signs((filters, channels, kernel, kernel), 2)
        found.append(np.empty((3, filters, *(side + 2 * padding - kernel + 1 for side in x.shape[2:])), np.float32))
        assert binary_products.convolution(x, weights, padding, found[-1])
    found.append(np.empty((7, 150), np.float32))
    assert binary_products.dense(signs((7, 300), 1), signs((150, 300), 2), found[-1])
    return found


@pytest.mark.threads
def test_no_bit_depends_on_the_number_of_threads():
    before, found = numba.get_num_threads(), []
    for threads in (1, before):
        numba.set_num_threads(threads)
        found.append(products())
        numba.set_num_threads(before)
    for one, several in zip(*found, strict=True):
        np.testing.assert_array_equal(one, several)


DIGEST = """
import hashlib
from tests.bnn_gluon.test_binary_products import products
print(hashlib.sha256(b"".join(found.tobytes() for found in products())).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "register"), [("haswell", 32), pytest.param("x86-64", 16, marks=pytest.mark.nightly)]
)
def test_narrower_registers_come_to_the_same_bits(printed_by, processor, register):
    """AVX2, and a processor without it."""
    ours = hashlib.sha256(b"".join(found.tobytes() for found in products())).hexdigest()
    assert printed_by(processor, register, DIGEST).strip() == ours


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
            done.append(product(*arguments) is not False)
            return done[-1]

        return call

    with monkeypatch.context() as patch:
        for product in ("dense_of_bits", "convolution_of_bits"):
            patch.setattr(binary_products, product, watched(getattr(binary_products, product)))
        with_bits = states_and_scores()
    assert len(done) >= (5 + 3) * binary_layers  # of the batches of the epoch and of the scores
    assert all(done)
    done.clear()
    monkeypatch.setattr(sign_bits, "bits_of_rows", lambda _: None)
    monkeypatch.setattr(binary_products, "convolution_of_bits", lambda *_: False)
    monkeypatch.setattr(binary_products, "dense_of_bits", watched(binary_products.dense_of_bits))
    with_floats = states_and_scores()
    assert not done
    assert with_bits.keys() == with_floats.keys()
    for key, value in with_bits.items():
        np.testing.assert_array_equal(value, with_floats[key], err_msg=key)
