"""The fused batch normalization against the authors' own (tests/golden, G_units) and against float64 NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_gluon.kernels import fused
from bnn_gluon.kernels.ap2 import ap2

UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")
SHAPES = st.tuples(st.integers(2, 9), st.integers(1, 300), st.sampled_from([1, 2, 9, 64]))


def random(shape: tuple[int, ...], seed: int, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * spread + 1).astype(np.float32)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_moments_are_those_of_float64(shape, seed):
    x = random(shape, seed)
    mean, variance = fused.moments(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axis=(0, 2)), rtol=2e-6, atol=1e-6)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_moments_of_whole_numbers_have_an_exact_sum(shape, seed):
    """Pre-activations of binary networks are whole numbers, and whether one equals the mean decides a sign."""
    x = np.round(random(shape, seed, 50))
    mean, _ = fused.moments(x)
    np.testing.assert_array_equal(mean, (x.astype(np.float64).sum(axis=(0, 2)) / (shape[0] * shape[2])).astype("f"))


def activation_and_slope(y: np.ndarray, activation: int, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half, clipped = (y + np.float32(1)) / 2, np.clip(y, -1, 1)
    return {
        fused.NONE: (y, np.ones_like(y)),
        fused.RELU: (np.maximum(y, 0), np.where(y > 0, 1, np.where(y == 0, 0.5, 0))),
        fused.BINARY_TANH: (np.where(half >= 0.5, 1, -1), (half <= 1) & (half >= 0)),
        fused.BINARY_SIGMOID: (half >= 0.5, ((half <= 1) & (half >= 0)) / 2),
        fused.STOCHASTIC_SIGN: (np.sign(np.clip(y, -1, 1) - thresholds), np.abs(y) <= 1),
        fused.HARDTANH: (np.clip(y, -1, 1), np.abs(y) < 1),
        fused.BIREAL: (2 * clipped - clipped * np.abs(clipped), np.maximum(2 - 2 * np.abs(y), 0)),
        fused.INT2: (np.clip(np.rint(y), -1, 1), np.abs(np.rint(y)) <= 1),
    }[activation]


# The others are those of evaluation, or have no derivative; the swish is in test_activations.
CODES = [
    fused.NONE,
    fused.RELU,
    fused.BINARY_TANH,
    fused.BINARY_SIGMOID,
    fused.STOCHASTIC_SIGN,
    fused.HARDTANH,
    fused.BIREAL,
    fused.INT2,
]


@given(SHAPES, st.sampled_from(CODES), st.booleans(), st.integers(0, 2**32 - 1))
def test_forward_and_backward_are_the_formulas(shape, activation, rounded, seed):
    x, dy, scale = random(shape, seed), random(shape, seed + 1), random((shape[1],), seed + 2)
    mean, beta = random((shape[1],), seed + 3), random((shape[1],), seed + 4)
    mean_g, slope = random((shape[1],), seed + 5), random((shape[1],), seed + 6)
    thresholds = random(shape, seed + 7, 0.5) - 1
    columns = [array[:, None] for array in (mean, scale, beta, mean_g, slope)]
    pre = (x - columns[0]) * columns[1] + columns[2]
    expected, derivative = activation_and_slope(pre, activation, thresholds)
    y = np.empty_like(x)
    fused.normalize(x, mean, scale, beta, activation, y, thresholds.ravel())
    np.testing.assert_array_equal(y, expected)
    in_place = x.copy()
    fused.normalize(in_place, mean, scale, beta, activation, in_place, thresholds.ravel())
    np.testing.assert_array_equal(in_place, expected)

    g = dy.copy()
    sum_g, sum_gc = fused.gradient_sums(x, g, mean, scale, beta, activation, rounded)
    np.testing.assert_array_equal(g, (dy * derivative).astype(np.float32))
    second = x - columns[0]
    exact, centered = g.astype(np.float64), (ap2(second) if rounded else second).astype(np.float64)
    size = np.abs(exact).sum(axis=(0, 2)) * 10 + 1
    assert np.all(np.abs(sum_g - exact.sum(axis=(0, 2))) <= 1e-6 * size)
    assert np.all(np.abs(sum_gc - (exact * centered).sum(axis=(0, 2))) <= 1e-5 * size)
    assert np.all(np.abs(fused.channel_sums(g) - exact.sum(axis=(0, 2))) <= 1e-6 * size)

    fused.gradient_of_input(x, g, mean, scale, mean_g, slope, rounded)
    wanted = columns[1] * (exact - columns[3]) - columns[4] * centered
    np.testing.assert_allclose(g, wanted, rtol=1e-4, atol=1e-4)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_rounded_moments_are_those_of_float64(shape, seed):
    x = random(shape, seed)
    mean, variance = fused.moments(x, rounded=True)
    centered = x - mean[:, None]
    expected = (centered.astype(np.float64) * ap2(centered)).mean(axis=(0, 2))
    np.testing.assert_array_equal(mean, fused.moments(x)[0])
    np.testing.assert_allclose(variance, expected, rtol=2e-6, atol=1e-6)


def test_binary_tanh_on_the_edge_cases_of_the_original():
    x = UNITS["special/x"].reshape(-1, 1, 1)
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    y, g = np.empty_like(x), np.ones_like(x)
    fused.normalize(x, zero, one, zero, fused.BINARY_TANH, y)
    np.testing.assert_array_equal(y.ravel(), UNITS["special/binary_tanh_unit"])
    fused.gradient_sums(x, g, zero, one, zero, fused.BINARY_TANH)
    np.testing.assert_array_equal(g.ravel(), UNITS["special/binary_tanh_unit_grad"])


def test_binary_sigmoid_on_the_edge_cases_of_the_original():
    """Its rounding is that of binary_tanh, half away from zero; the slope of hard_sigmoid is 1/2."""
    x = UNITS["special/x"].reshape(-1, 1, 1)
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    y, g = np.empty_like(x), np.ones_like(x)
    fused.normalize(x, zero, one, zero, fused.BINARY_SIGMOID, y)
    np.testing.assert_array_equal(y.ravel(), UNITS["special/hard_sigmoid"] >= 0.5)
    np.testing.assert_array_equal(y.ravel(), (UNITS["special/binary_tanh_unit"] + 1) / 2)
    fused.gradient_sums(x, g, zero, one, zero, fused.BINARY_SIGMOID)
    np.testing.assert_array_equal(g.ravel(), UNITS["special/binary_tanh_unit_grad"] / 2)


def test_relu_has_the_originals_gradient_at_zero():
    """Theano's rectify is (x + |x|) / 2: its gradient at 0 is 1/2."""
    x = UNITS["special/x"].reshape(-1, 1, 1)
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    g = np.ones_like(x)
    fused.gradient_sums(x, g, zero, one, zero, fused.RELU)
    np.testing.assert_array_equal(g.ravel(), UNITS["special/rectify_grad"])


@pytest.mark.threads
@pytest.mark.parametrize("pixels", [1, 64])
def test_results_do_not_depend_on_the_number_of_threads(pixels):
    import numba

    x, dy = random((20, 600, pixels), 1), random((20, 600, pixels), 2)
    zero, one = np.zeros(600, np.float32), np.ones(600, np.float32)
    threads, results = numba.get_num_threads(), []
    try:
        for count in (1, threads):
            numba.set_num_threads(count)
            g = dy.copy()
            results.append([*fused.moments(x), *fused.gradient_sums(x, g, zero, one, zero, fused.RELU), g])
    finally:
        numba.set_num_threads(threads)
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
