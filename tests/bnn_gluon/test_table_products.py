"""Products with a binary operand, from tables: NumPy's own, in double precision, and MXNet's that they replace."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from bnn_gluon.kernels import choice

pytestmark = pytest.mark.usefixtures("mx")  # before what is tested is imported
ROUNDINGS = 2.0**-22  # two of the largest value: all that there is in short sums
SIZES = st.one_of(st.integers(1, 130), st.integers(131, 700))


def signs(shape: tuple[int, int], seed: int, scale: float = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.5, -scale, scale).astype(np.float32)


def normal(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def product_of(real, matrix, *, transposed=False, by_row=False):
    """Of tables: real (lines, rows), by_row (rows, lines), times the matrix (rows, sums), transposed (sums, rows)."""
    from bnn_gluon.kernels.table_products import TableProduct

    tables = TableProduct()
    assert (tables.pack_transposed if transposed else tables.pack)(matrix)
    lines, sums = real.shape[1 if by_row else 0], matrix.shape[0 if transposed else 1]
    product = np.full((lines, sums), np.nan, np.float32)
    tables.multiply(real, product, by_row=by_row)
    return product


def ternary_product_of(real, matrix):
    """Of tables: real (rows, lines), matrix (rows, sums)."""
    from bnn_gluon.kernels.ternary_products import TernaryProduct

    tables, product = TernaryProduct(), np.full((real.shape[1], matrix.shape[1]), np.nan, np.float32)
    assert tables.pack(matrix)
    tables.multiply(real, product)
    return product


def ternary(shape: tuple[int, int], seed: int, scale: float = 1) -> np.ndarray:
    """With a zero and another value at places that every sample has: the first."""
    matrix = signs(shape, seed, scale) * (np.random.default_rng(seed).random(shape) < 0.5)
    matrix[0, 0] = scale
    return matrix


@examples(30)
@given(SIZES, SIZES, st.integers(1, 70), st.sampled_from([1, 0.125, 0.3]), st.integers(0, 2**32 - 1))
def test_every_form_of_the_product_is_as_exact_as_mxnets(mx, rows, sums, lines, scale, seed):
    real, matrix = normal((lines, rows), seed), signs((rows, sums), seed + 1, scale)
    exact = real.astype(np.float64) @ matrix
    mxnets = mx.nd.FullyConnected(
        mx.nd.array(real), mx.nd.array(matrix.T.copy()), num_hidden=sums, no_bias=True
    ).asnumpy()
    found = product_of(real, matrix)
    size = np.sqrt(rows) * scale
    error, mxnets_error = (np.sqrt(np.mean((values - exact) ** 2)) / size for values in (found, mxnets))
    assert error <= max(1.1 * mxnets_error, ROUNDINGS)
    for other in (
        product_of(real, matrix.T.copy(), transposed=True),
        product_of(real.T.copy(), matrix, by_row=True),
    ):
        np.testing.assert_array_equal(other, found)


@examples(30)
@given(SIZES, SIZES, st.integers(1, 70), st.sampled_from([1, 2, 1.25, 0.3]), st.integers(0, 2**32 - 1))
def test_a_product_with_zeros_is_as_exact_as_mxnets(mx, rows, sums, lines, scale, seed):
    real, matrix = normal((rows, lines), seed), ternary((rows, sums), seed + 1, scale)
    exact = real.T.astype(np.float64) @ matrix
    mxnets = mx.nd.dot(mx.nd.array(real), mx.nd.array(matrix), transpose_a=True).asnumpy()
    found = ternary_product_of(real, matrix)
    error, mxnets_error = (np.sqrt(np.mean((x - exact) ** 2)) / np.sqrt(rows) / scale for x in (found, mxnets))
    assert error <= max(1.1 * mxnets_error, ROUNDINGS)


def test_what_is_not_finite_is_not_lost_where_zeros_multiply_it():
    matrix, real = ternary((50, 37), 1), normal((50, 20), 2)
    real[5, 3], real[49, 4], real[0, 7], real[10, 9], real[20, 9] = np.nan, np.inf, -np.inf, np.inf, np.inf
    real[:, 11], real[:, 12] = -0.0, np.float32(1e-42)
    with np.errstate(invalid="ignore"):
        expected, found = real.T.astype(np.float64) @ matrix, ternary_product_of(real, matrix)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    np.testing.assert_array_equal(found[[4, 7, 12]], expected[[4, 7, 12]])  # of denormals: exact sums
    assert not np.signbit(found[11]).any()


@pytest.mark.parametrize("place", [(0, 0), (20, 7), (69, 299)])
@pytest.mark.parametrize("value", [0.5, -2.0, np.nan, np.inf])
def test_a_product_with_zeros_sees_other_values_wherever_they_are(place, value):
    from bnn_gluon.kernels.ternary_products import TernaryProduct

    matrix = ternary((70, 300), 1)
    matrix[place] = value
    assert not TernaryProduct().pack(matrix)


@pytest.mark.parametrize("seed", range(3))
def test_the_sums_do_not_depend_on_how_they_are_shared_out(seed):
    from bnn_gluon.kernels import table_products

    real, matrix = normal((50, 100), seed), signs((100, 333), seed)
    whole, product = product_of(real, matrix), np.empty((50, 333), np.float32)
    tables = table_products.TableProduct()
    tables.pack(matrix)
    for pieces in range(1, 6):
        table_products._multiply(real, False, tables._codes(), 100, np.float32(1), pieces, product)
        np.testing.assert_array_equal(product, whole)


def test_values_that_are_not_finite_stay_where_they_are():
    rows, sums = 100, 50
    matrix, real = signs((rows, sums), 1), normal((20, rows), 2)
    real[3, 5], real[4, 99], real[7, 0], real[9, 10], real[9, 20] = np.nan, np.inf, -np.inf, np.inf, np.inf
    real[11], real[12] = -0.0, np.float32(1e-42)
    with np.errstate(invalid="ignore"):
        expected = real.astype(np.float64) @ matrix
        found = product_of(real, matrix)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(found[4], expected[4])
    np.testing.assert_array_equal(found[7], expected[7])
    np.testing.assert_array_equal(np.isinf(found[9]), np.isinf(expected[9]))
    np.testing.assert_array_equal(found[12], expected[12])  # denormals: exact sums
    assert not np.signbit(found[11]).any()  # sums begin at +0


@pytest.mark.parametrize("place", [(0, 0), (36, 7), (69, 69)])
@pytest.mark.parametrize("value", [0.0, 0.5, -2.0, np.nan, np.inf])
def test_other_values_are_seen_wherever_they_are(place, value):
    from bnn_gluon.kernels.table_products import TableProduct

    matrix = signs((70, 70), 1)
    matrix[place] = value
    tables = TableProduct()
    assert not tables.pack(matrix)
    assert not tables.pack_transposed(matrix)


HASHED = """
import hashlib
import numpy as np
from bnn_gluon.kernels.table_products import TableProduct
from bnn_gluon.kernels.ternary_products import TernaryProduct

rng = np.random.default_rng(5)
matrix = np.where(rng.random((90, 41)) < 0.5, -1, 1).astype(np.float32)
real, product = rng.normal(size=(33, 90)).astype(np.float32), np.empty((33, 41), np.float32)
tables = TableProduct()
tables.pack(matrix)
tables.multiply(real, product)
assert np.abs(product - real.astype(np.float64) @ matrix).max() < 1e-4
print(hashlib.sha256(product.tobytes()).hexdigest())
matrix[rng.random(matrix.shape) < 0.5] = 0
tables = TernaryProduct()
tables.pack(matrix)
tables.multiply(np.ascontiguousarray(real.T), product)
assert np.abs(product - real.astype(np.float64) @ matrix).max() < 1e-4
print(hashlib.sha256(product.tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "register"), [("haswell", 32), pytest.param("x86-64", 16, marks=pytest.mark.nightly)]
)
def test_narrower_registers_come_to_the_same_bits(printed_by, processor, register):
    """AVX2, and a processor without it."""
    rng = np.random.default_rng(5)
    matrix = np.where(rng.random((90, 41)) < 0.5, -1, 1).astype(np.float32)
    real = rng.normal(size=(33, 90)).astype(np.float32)
    here = [product_of(real, matrix)]
    matrix[rng.random(matrix.shape) < 0.5] = 0
    here.append(ternary_product_of(real.T.copy(), matrix))
    assert printed_by(processor, register, HASHED).split() == [hashlib.sha256(x.tobytes()).hexdigest() for x in here]


NETWORKS = {
    "binary weights": ("binaryconnect-mnist", ["model.architecture=70FC-80FC-10FC"]),
    "binary activations": ("chawla-mlp-mnist-binary", ["model.architecture=70FC-80FC-10FC"]),
    "dropped out": ("binarynet-mnist", ["model.architecture=70FC-80FC-10FC"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_to_the_same_with_tables_and_with_mxnet_alone(monkeypatch, name):
    from bnn_gluon.kernels import dense_tables

    made = []

    def noted(multiply):
        return lambda *arguments, **kinds: made.append(multiply(*arguments, **kinds))

    for pays, product in (("pays", dense_tables.TableProduct), ("pays_if_ternary", dense_tables.TernaryProduct)):
        monkeypatch.setattr(dense_tables, pays, lambda lines, rows, sums: True)
        monkeypatch.setattr(product, "multiply", noted(product.multiply))
    recipe = load_recipe(*NETWORKS[name])
    rng = np.random.default_rng(1)
    images, labels = rng.uniform(-1, 1, (20, 1, 9, 9)).astype(np.float32), rng.integers(0, 10, 20)

    def results(kernels: str) -> dict[str, np.ndarray]:
        monkeypatch.setenv(choice.VARIABLE, kernels)
        engine = open_engine("gluon", recipe.model, (1, 9, 9), 1)
        assert (choice.TABLES in engine.describe()["features"]) == (kernels == choice.COMPILED)
        scores = engine.scores(images, 20)
        loss = engine.train_step(images, labels, 0.0)
        return engine.gradients() | {"scores": scores, "loss": np.array(loss)}

    compiled = results(choice.COMPILED)
    assert len(made) >= 4
    for key, value in results(choice.MXNET).items():
        tolerance = 1e-6 + 1e-4 * np.abs(value).max()
        np.testing.assert_allclose(compiled[key], value, rtol=0, atol=tolerance, err_msg=key)
