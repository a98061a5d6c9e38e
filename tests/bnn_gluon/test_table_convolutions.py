"""Convolutions from tables of signed sums: against float64, beside MXNet's, for all values of float32."""

from __future__ import annotations

import hashlib
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from benchmarks.recipe.architecture import Conv, Dense, LayerShape
from bnn_gluon.kernels import table_convolutions as tables
from bnn_gluon.kernels.convolution_codes import codes_of_bits, codes_of_input, codes_of_turned_weights, codes_of_weights
from bnn_gluon.kernels.sign_bits import bits_of
from bnn_gluon.kernels.tables import GROUPS, ROWS, groups_of

# Images, channels, filters, rows, columns, kernel, padding: channels and filters in units of 16, as layers have them.
CASES = st.tuples(
    st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.integers(1, 17),
    st.sampled_from([1, 2, 3, 5]), st.integers(0, 4),
).filter(lambda case: case[6] < case[5] <= min(case[3], case[4]) + 2 * case[6])  # fmt: skip


def signs(generator: np.random.Generator, shape: tuple[int, ...], scale: float = 1) -> np.ndarray:
    return generator.choice([-np.float32(scale), np.float32(scale)], shape)


def windows(x: np.ndarray, kernel: int, padding: int) -> np.ndarray:
    """(N, channels, height, width, kernel, kernel) of x, in float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))


def convolution(x: np.ndarray, weights: np.ndarray, padding: int) -> np.ndarray:
    seen = windows(x, weights.shape[-1], padding)
    return np.einsum("nchwij,fcij->nfhw", seen, weights.astype(np.float64), optimize=True)


def by_tables(x: np.ndarray, weights: np.ndarray, padding: int) -> np.ndarray:
    kernel = weights.shape[-1]
    sides = (side + 2 * padding - kernel + 1 for side in x.shape[2:])
    product = np.full((len(x), len(weights), *sides), np.nan, np.float32)
    codes = codes_of_weights(weights)
    assert codes is not None
    tables.convolution(x, codes, kernel, padding, product)
    return product


def input_gradient_by_tables(weights: np.ndarray, g: np.ndarray, x: np.ndarray, padding: int) -> np.ndarray:
    kernel, of_x = weights.shape[-1], np.full_like(x, np.nan)
    codes = codes_of_turned_weights(weights)
    assert codes is not None
    tables.convolution(g, codes, kernel, kernel - 1 - padding, of_x)
    return of_x


def weight_gradient_by_tables(x: np.ndarray, g: np.ndarray, kernel: int, padding: int) -> np.ndarray:
    of_weights = np.full((g.shape[1], x.shape[1], kernel, kernel), np.nan, np.float32)
    codes = codes_of_input(x)
    assert codes is not None
    tables.gradient_of_weights(g, codes, padding, x, of_weights)
    return of_weights


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found - exact).max() / max(np.abs(exact).max(), 1e-30))


class ByMxnet:
    """The layer by MXNet's operators."""

    def __init__(self, mx: Any) -> None:
        self._mx = mx

    def __call__(self, x: np.ndarray, weights: np.ndarray, padding: int, g: np.ndarray) -> tuple[np.ndarray, ...]:
        """Product, gradient of the input, gradient of the weights; g is that of the product."""
        nd, kernel = self._mx.nd, weights.shape[-1]
        given = nd.array(x), nd.array(weights)
        for array in given:
            array.attach_grad()
        with self._mx.autograd.record():
            product = nd.Convolution(
                *given, kernel=(kernel, kernel), pad=(padding, padding), num_filter=len(weights), no_bias=True
            )
        product.backward(nd.array(g))
        return product.asnumpy(), *(array.grad.asnumpy() for array in given)


@pytest.fixture(scope="module")
def by_mxnet(mx) -> ByMxnet:
    return ByMxnet(mx)


@settings(max_examples=25)
@given(CASES, st.sampled_from([1, 0.1]), st.integers(0, 2**32 - 1))
def test_errors_are_not_larger_than_mxnets(by_mxnet, case, scale, seed):
    n, channels, filters, rows, columns, kernel, padding = case
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, 16 * channels, rows, columns)).astype(np.float32)
    a = signs(generator, x.shape, scale)
    weights = signs(generator, (16 * filters, 16 * channels, kernel, kernel), scale)
    exact = convolution(x, weights, padding)
    g = generator.normal(size=exact.shape).astype(np.float32)
    turned = weights[:, :, ::-1, ::-1].swapaxes(0, 1)
    product, of_x, _ = by_mxnet(x, weights, padding, g)
    _, _, of_weights = by_mxnet(a, weights, padding, g)
    for found, mxnets, expected in (
        (by_tables(x, weights, padding), product, exact),
        (input_gradient_by_tables(weights, g, x, padding), of_x, convolution(g, turned, kernel - 1 - padding)),
        (
            weight_gradient_by_tables(a, g, kernel, padding),
            of_weights,
            np.einsum("nchwij,nfhw->fcij", windows(a, kernel, padding), g.astype(np.float64), optimize=True),
        ),
    ):
        # A few roundings of the largest value are allowed in any case: of few summands, MXNet's sum may be exact.
        assert relative_error(found, expected) <= max(relative_error(mxnets, expected), 4 * 2.0**-23)


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_what_is_not_finite_is_at_the_same_places_as_mxnets_and_zero_has_its_sign(by_mxnet, seed):
    generator = np.random.default_rng(seed)
    weights, a = signs(generator, (16, 32, 3, 3)), signs(generator, (9, 32, 5, 9))
    special = np.array([0, -0.0, 1e-45, -1e-42, 1, -2, np.inf, -np.inf, np.nan], np.float32)
    often = [0.3, 0.3, 0.1, 0.1, 0.1, 0.0985, 0.0005, 0.0005, 0.0005]
    x, g = generator.choice(special, a.shape, p=often), generator.choice(special, (9, 16, 5, 9), p=often)
    product, of_x, _ = by_mxnet(x, weights, 1, g)
    _, _, of_weights = by_mxnet(a, weights, 1, g)
    with np.errstate(invalid="ignore"):
        found = (
            by_tables(x, weights, 1),
            input_gradient_by_tables(weights, g, x, 1),
            weight_gradient_by_tables(a, g, 3, 1),
        )
    for values, expected in zip(found, (product, of_x, of_weights), strict=True):
        np.testing.assert_array_equal(np.isfinite(values), np.isfinite(expected))
        odd = ~np.isfinite(expected)
        np.testing.assert_array_equal(values[odd], expected[odd])
        np.testing.assert_allclose(values[~odd], expected[~odd], rtol=0, atol=2e-5)
    nothing = np.full_like(x, -0.0)
    assert not np.signbit(by_tables(nothing, weights, 1)).any()
    assert not np.signbit(by_mxnet(nothing, weights, 1, g)[0]).any()


@settings(max_examples=25)
@given(CASES, st.integers(0, 2**32 - 1))
def test_an_input_that_is_there_as_bits_has_the_same_codes(case, seed):
    n, channels, _, rows, columns, _, _ = case
    x = signs(np.random.default_rng(seed), (n, 16 * channels, rows, columns))
    bits, codes = bits_of(x), codes_of_input(x)
    assert bits is not None
    assert codes is not None
    found = codes_of_bits(bits, 16 * channels)
    np.testing.assert_array_equal(of_images(found.values, x), of_images(codes.values, x))
    assert found.scale == codes.scale == 1


def of_images(codes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Codes without the bits that stand for images that are not there."""
    n, channels, rows, columns = x.shape
    present, begin = [], 0
    while begin < groups_of(n):
        together = min(GROUPS, groups_of(n) - begin)
        masks = [
            sum(64 << i for i in range(ROWS) if begin * ROWS + i * together + group < n) for group in range(together)
        ]
        present.append(np.tile(np.array(masks, np.uint16), rows * columns * channels))
        begin += together
    return codes & np.concatenate(present)


def test_other_values_than_two_opposite_ones_are_not_taken_for_signs():
    generator = np.random.default_rng(1)
    for shape in ((32, 32, 3, 3), (7, 16, 9, 9)):
        for value in (0.0, 0.5, np.nan, np.inf):
            values = signs(generator, shape)
            values.reshape(-1)[generator.integers(values.size)] = value
            for codes_of in (
                codes_of_weights,
                codes_of_turned_weights,
                codes_of_input,
            ):
                assert codes_of(values) is None


NETWORKS = {
    "binary weights": ("binaryconnect-cifar10", [], [{"x"}, {"x"}]),
    "binary input too": ("binarynet-cifar10", [], [{"x", "weight"}, {"x", "weight"}]),
    "edges as padding": ("rwth-lenet5-mnist-binary", ["model.padding=edge"], [{"x", "weight"}, {"x", "weight"}]),
    "real weights": ("binaryconnect-cifar10-none", [], [set(), set()]),
}


@pytest.mark.parametrize(("name", "overrides", "by_layer"), NETWORKS.values(), ids=NETWORKS)
def test_a_networks_gradients_are_those_that_mxnet_makes(monkeypatch, name, overrides, by_layer):
    from bnn_gluon.linear import Linear

    recipe = load_recipe(name, ["model.architecture=64C3-64C3-MP2-64C3-9FC-10FC", *overrides])
    rng = np.random.default_rng(1)
    images, labels = rng.uniform(-1, 1, (18, 1, 12, 12)).astype(np.float32), rng.integers(0, 10, 18)
    found: list[set[str]] = []
    set_by_tables = Linear._set_by_tables

    def watched(linear: Linear, gradient: Any) -> set[str]:
        made = set_by_tables(linear, gradient)
        if isinstance(linear._tables, tables.ConvolutionTables):
            assert linear._bound_gradients == linear._arguments(linear._padded)[1].keys() - made
            found.append({name.removeprefix(linear._block.prefix) for name in made})
        return made

    def results(kernels: str) -> dict[str, np.ndarray]:
        monkeypatch.setenv("BNN_KERNELS", kernels)
        engine = open_engine("gluon", recipe.model, images.shape[1:], 1)
        scores = engine.scores(images, 18)
        engine.train_step(images, labels, 0.0)
        return engine.gradients() | {"scores": scores}

    monkeypatch.setattr(Linear, "_set_by_tables", watched)
    by_tables, mxnets = results("compiled"), results("mxnet")
    assert found == by_layer
    for key, value in mxnets.items():
        # Biases that a batch normalization takes off have gradients that are nothing but rounding errors.
        tolerance = 1e-6 + 1e-4 * np.abs(value).max()
        np.testing.assert_allclose(by_tables[key], value, rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "applies"),
    [(64, 128, 3, True), (64, 64, 5, True), (32, 64, 5, False), (64, 72, 3, False), (64, 64, 1, False)],
)
def test_what_they_are_made_for(channels, filters, kernel, applies):
    shape = LayerShape(Conv(filters, kernel), (channels, 9, 9), (filters, 9, 9))
    assert tables.applies_to(shape) == applies
    assert not tables.applies_to(LayerShape(Dense(64), (64, 9, 9), (64,)))


def test_few_images_and_many_threads_are_left_to_mxnet(monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    assert tables.pays_for_product(50, 32, 3)
    assert tables.pays_for_weights(50, 128)
    assert not tables.pays_for_product(1, 8, 3)
    assert not tables.pays_for_weights(2, 128)
    monkeypatch.setattr(numba, "get_num_threads", lambda: 64)
    assert not tables.pays_for_product(50, 32, 3)
    assert not tables.pays_for_weights(50, 128)


def products(n: int, channels: int, filters: int, side: int, kernel: int) -> list[np.ndarray]:
    """All three of one layer, from random numbers that are always the same."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(n, channels, side, side)).astype(np.float32)
    weights, a = signs(generator, (filters, channels, kernel, kernel)), signs(generator, x.shape)
    product = by_tables(x, weights, kernel // 2)
    return [
        product,
        input_gradient_by_tables(weights, product, x, kernel // 2),
        weight_gradient_by_tables(a, product, kernel, kernel // 2),
    ]


@pytest.mark.threads
def test_no_bit_depends_on_the_number_of_threads():
    before, found = numba.get_num_threads(), []
    for threads in (1, before):
        numba.set_num_threads(threads)
        found.append(products(21, 64, 48, 12, 3))
        numba.set_num_threads(before)
    for one, several in zip(*found, strict=True):
        np.testing.assert_array_equal(one, several)


def test_no_bit_depends_on_the_other_images():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(50, 16, 8, 8)).astype(np.float32)
    weights = signs(generator, (16, 16, 3, 3))
    together = by_tables(x, weights, 1)
    np.testing.assert_array_equal(
        np.concatenate([by_tables(x[i : i + 7], weights, 1) for i in range(0, 50, 7)]), together
    )


DIGEST = """
import hashlib
from tests.bnn_gluon.test_table_convolutions import products
print(hashlib.sha256(b"".join(found.tobytes() for found in products(9, 32, 32, 8, 3))).hexdigest())
"""


@pytest.mark.slow
def test_no_bit_depends_on_the_width_of_registers(printed_by):
    ours = hashlib.sha256(b"".join(found.tobytes() for found in products(9, 32, 32, 8, 3))).hexdigest()
    assert printed_by("haswell", 32, DIGEST).strip() == ours  # AVX2
    assert printed_by("x86-64", 16, DIGEST).strip() == ours  # SSE2 alone
