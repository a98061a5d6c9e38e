"""Quantizers of weights and activations, and the functions that gradients go through, against float64 NumPy.

The formulas are those of benchmarks/recipe/settings.py; slopes are checked by finite differences of them.
"""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from bnn_gluon import activations, quantize
from bnn_gluon.kernels import fused

ONE, DRAW = np.float32(1), (np.uint32(3), np.uint32(1), np.uint32(7), np.uint32(0))
BETAS = {"hardtanh": None, "identity": None, "bireal": None, "swish": 10.0, "swish of 5": 5.0}
SEEDS = st.integers(0, 2**32 - 1)
few = examples(10)
TINY = np.float32(2.0**-30)


def f(gradient: str, x: np.ndarray) -> np.ndarray:
    """What "sign" and "ternary" act on, float64."""
    x = np.asarray(x, np.float64)
    if gradient == "identity":
        return x
    if gradient in ("hardtanh", "bireal"):
        c = np.clip(x, -1, 1)
        return c if gradient == "hardtanh" else 2 * c - c * np.abs(c)
    b = BETAS[gradient]
    s = 1 / (1 + np.exp(-b * x))
    return 2 * s * (1 + b * x * (1 - s)) - 1


def found(word: str, gradient: str) -> activations.Activation:
    return activations.activation_of(word, gradient.split(maxsplit=1)[0], BETAS[gradient])


def forward(x: np.ndarray, activation: activations.Activation, *, evaluation: bool = False) -> np.ndarray:
    """Of a row of values, without a batch normalization."""
    values, zero, one = x.astype(np.float32).reshape(-1, 1, 1), np.zeros(1, np.float32), np.ones(1, np.float32)
    y = np.empty_like(values)
    code = activation.evaluation if evaluation else activation.forward
    fused.normalize(values, zero, one, zero, code, y, steepness=activation.steepness)
    if activation.ternary:
        activations.ternarize(y)
    return y.ravel()


def slope(x: np.ndarray, activation: activations.Activation) -> np.ndarray:
    """What a gradient of 1 becomes."""
    values, zero, one = x.astype(np.float32).reshape(-1, 1, 1), np.zeros(1, np.float32), np.ones(1, np.float32)
    g = np.ones_like(values)
    fused.gradient_sums(values, g, zero, one, zero, activation.slope, steepness=activation.steepness)
    return g.ravel()


def pre_activations(seed: int, n: int = 500) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


# -- activations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", BETAS)
@few
@given(seed=SEEDS)
def test_the_slope_is_that_of_finite_differences(gradient, seed):
    """Where there is one: not where the function is clipped."""
    x, h = pre_activations(seed).astype(np.float64), 1e-6
    x = x[np.abs(np.abs(x) - 1) > 1e-4]
    quotients = (f(gradient, x + h) - f(gradient, x - h)) / (2 * h)
    np.testing.assert_allclose(slope(x, found("sign", gradient)), quotients, rtol=1e-4, atol=5e-5)
    np.testing.assert_array_equal(slope(x, found("ternary", gradient)), slope(x, found("sign", gradient)))


@pytest.mark.parametrize(
    ("gradient", "expected"), [("hardtanh", [0, 1, 1, 0]), ("identity", [1, 1, 1, 1]), ("bireal", [0, 2, 2, 0])]
)
def test_slopes_at_the_ends_and_at_zero(gradient, expected):
    np.testing.assert_array_equal(slope(np.array([-1, -0.0, 0, 1]), found("sign", gradient)), expected)


def test_the_slope_of_the_swish_is_beta_at_zero_and_vanishes_far_from_it():
    np.testing.assert_array_equal(slope(np.array([-1e4, 0, 1e4]), found("sign", "swish")), [0, 10, 0])


@pytest.mark.parametrize("gradient", BETAS)
@pytest.mark.parametrize("evaluation", [False, True])
@few
@given(seed=SEEDS)
def test_sign_is_that_of_the_function_and_minus_at_zero(gradient, evaluation, seed):
    x = np.concatenate([pre_activations(seed), np.array([0, -0.0, TINY, -TINY, 1e30, -1e30], np.float32)])
    y = forward(x, found("sign", gradient), evaluation=evaluation)
    np.testing.assert_array_equal(y, np.where(x > 0, 1, -1))
    ordinary = np.abs(x) > 1e-3
    np.testing.assert_array_equal(y[ordinary], np.where(f(gradient, np.clip(x, -50, 50)) > 0, 1, -1)[ordinary])


@pytest.mark.parametrize("gradient", BETAS)
@few
@given(seed=SEEDS)
def test_ternary_activations_are_beyond_a_share_of_the_mean_of_all(gradient, seed):
    x = pre_activations(seed)
    exact = f(gradient, x)
    threshold = 0.4 * np.abs(exact).mean()
    expected = np.where(exact > threshold, 1, np.where(exact < -threshold, -1, 0))
    decided = np.abs(np.abs(exact) - threshold) > 1e-5
    np.testing.assert_array_equal(forward(x, found("ternary", gradient))[decided], expected[decided])


def test_two_bits_round_halves_to_even_and_pass_gradients_on_below_three_halves():
    x = np.array([-1.6, -1.5, -1.4, -0.6, -0.5, 0, 0.5, 0.6, 1.4, 1.5, 1.6])
    np.testing.assert_array_equal(forward(x, found("int2", "hardtanh")), [-1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(slope(x, found("int2", "hardtanh")), [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0])


def test_the_threshold_of_activations_is_one_for_all_channels_and_images():
    y = np.array([[[8.0]], [[1.0]], [[-1.0]], [[-8.0]]], np.float32)  # t = .4 * 4.5
    activations.ternarize(y)
    np.testing.assert_array_equal(y.ravel(), [1, 0, 0, -1])


def test_equal_to_the_threshold_is_inside():
    y = np.array([0.4, -0.4, 1.6, -1.6], np.float32)  # mean 1, t = .4
    activations.ternarize(y)
    np.testing.assert_array_equal(y, [0, 0, 1, -1])
    activations.ternarize(zeros := np.zeros(4, np.float32))
    np.testing.assert_array_equal(zeros, 0)


# -- weights -----------------------------------------------------------------------------------------------------------


def quantized(kind: str, weights: np.ndarray, *, zero_weight: str = "plus", limit: float = 1) -> np.ndarray:
    used = np.empty_like(weights)
    quantize.quantize(kind, zero_weight, weights, np.float32(limit), DRAW, used)
    return used


@few
@given(SEEDS, st.sampled_from([0.25, 1.0, 3.0]))
def test_ternary_weights_are_beyond_a_share_of_the_mean(seed, limit):
    weights = pre_activations(seed) * np.float32(limit)
    exact = weights.astype(np.float64)
    threshold = 0.7 * np.abs(exact).mean()
    expected = limit * np.where(exact > threshold, 1, np.where(exact < -threshold, -1, 0))
    decided = np.abs(np.abs(exact) - threshold) > 1e-6 * limit
    np.testing.assert_array_equal(quantized("ternary", weights, limit=limit)[decided], expected[decided])


@few
@given(SEEDS, st.sampled_from([0.25, 1.0, 3.0]))
def test_weights_of_two_bits_are_rounded(seed, limit):
    weights = pre_activations(seed) * np.float32(limit)
    weights[:4] = np.float32(limit) * np.array([-0.5, 0.5, -2.5, 1.5], np.float32)
    expected = limit * np.clip(np.rint(weights.astype(np.float64) / limit), -1, 1)
    np.testing.assert_array_equal(quantized("int2", weights, limit=limit), expected)


@pytest.mark.parametrize("kind", ["ternary", "int2"])
@few
@given(seed=SEEDS)
def test_ternary_weights_stay_what_they_are(kind, seed):
    """So that a network of saved ternary weights is the same."""
    once = quantized(kind, pre_activations(seed))
    np.testing.assert_array_equal(quantized(kind, once), once)


# -- images ------------------------------------------------------------------------------------------------------------

# Of the gray levels 0 to 255: which are -1, 0 and 1, and of 8 bits the integers.
LEVELS = {
    "sign": lambda level: np.where(level >= 128, 1, -1),
    "int2": lambda level: np.where(level <= 63, -1, np.where(level <= 191, 0, 1)),
    "int8": lambda level: np.minimum(np.rint(level * 256 / 255 - 128), 127) / 128,
}


@pytest.mark.parametrize("kind", LEVELS)
def test_gray_levels_are_quantized(mx, kind):
    from bnn_gluon.quantized_images import quantize_images

    level = np.arange(256)
    images = level.astype(np.float32) / np.float32(255)
    used = np.empty_like(images)
    quantize_images(kind, images, used)
    np.testing.assert_array_equal(used, LEVELS[kind](level))


@pytest.mark.parametrize(("zero_weight", "at_zero"), [("plus", 1), ("minus", -1)])
@few
@given(seed=SEEDS)
def test_deterministic_weights_are_signs(zero_weight, at_zero, seed):
    weights = np.concatenate([pre_activations(seed), np.array([0, -0.0, TINY, -TINY], np.float32)])
    used = quantized("deterministic", weights, zero_weight=zero_weight)
    np.testing.assert_array_equal(used[:-4], np.sign(weights[:-4]))
    np.testing.assert_array_equal(used[-4:], at_zero)  # also what vanishes beside 1


def test_stochastic_weights_are_plus_where_the_draw_is_below_the_probability():
    weights = pre_activations(5)
    u = np.random.default_rng(6).uniform(size=weights.size).astype(np.float32)
    used = np.empty_like(weights)
    quantize.compare_with_uniforms(weights, ONE, u, used)
    np.testing.assert_array_equal(used, np.where(u < np.clip((weights + 1) / 2, 0, 1), 1, -1))
