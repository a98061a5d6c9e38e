"""The updates against Lasagne's and BinaryConnect's own (tests/golden, F_optimisers), and PyTorch's formulas."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engine.updates import RULES, update_of
from benchmarks.recipe import load_recipe
from bnn_gluon.update import NO_LIMIT, UPDATES, Update, add_penalty

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "F_optimisers.npz")
UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")
ONE = np.float32(1)
ADAM, SGD = UPDATES["adam"], UPDATES["sgd"]


def adam_size(lr: float, step: int) -> np.float32:
    (size,) = RULES["adam"].sizes(lr, step)
    return size


def zeros(n: int = 12) -> np.ndarray:
    return np.zeros(n, np.float32)


@pytest.mark.parametrize("schedule", ["const", "decay"])
def test_adam_is_lasagnes(schedule):
    rates = GOLDEN["lr_decay_seq"] if schedule == "decay" else np.full(30, 1e-3)
    parameter, mean, square = GOLDEN["p0"].copy(), zeros(), zeros()
    tolerance = 2 * np.abs(GOLDEN[f"pinned_f64/adam_{schedule}/param"] - GOLDEN[f"adam_{schedule}/param"]).max()
    for step, (gradient, lr) in enumerate(zip(GOLDEN["grads"], rates, strict=True), 1):
        ADAM(parameter, gradient.copy(), mean, square, NO_LIMIT, adam_size(float(lr), step))
        np.testing.assert_allclose(parameter, GOLDEN[f"adam_{schedule}/param"][step - 1], rtol=0, atol=tolerance)
        # Gradients of both signs cancel in the mean: its rounding is that of the largest of them.
        mean_error = np.abs(mean - GOLDEN[f"adam_{schedule}/m"][step - 1])
        assert np.all(mean_error <= 1e-6 * np.abs(GOLDEN["grads"]).max(axis=0))
        np.testing.assert_allclose(square, GOLDEN[f"adam_{schedule}/v"][step - 1], rtol=1e-6, atol=1e-20)


def test_scaled_and_clipped_adam_is_binaryconnects():
    weights, moments = GOLDEN["p0"].copy(), (zeros(), zeros())
    expected = GOLDEN["adam_scaled_clipped/param"]
    tolerance = 2 * np.abs(GOLDEN["pinned_f64/adam_scaled_clipped/param"] - expected).max()
    for step, gradient in enumerate(GOLDEN["grads"], 1):
        ADAM(weights, gradient.copy(), *moments, ONE, GOLDEN["W_LR_scale"] * adam_size(1e-3, step))
        np.testing.assert_allclose(weights, expected[step - 1], rtol=0, atol=tolerance)


def test_small_steps_are_not_lost():
    """W - s * step as Theano compiles it; the literal W + s * ((W - step) - W) freezes weights late in training."""
    for lr, after in zip(UNITS["canon/lr"], UNITS["canon/W_after_one_step_grad1"], strict=True):
        weights = np.array([UNITS["canon/W_before"]])
        size = UNITS["canon/scale"] * adam_size(float(lr), 1)
        ADAM(weights, np.ones(1, np.float32), zeros(1), zeros(1), ONE, size)
        assert weights[0] == pytest.approx(after, abs=6e-8)


def test_gradient_descent():
    weights, gradient = np.array([0.5, -0.9, 0.0], np.float32), np.array([1, 1, -30], np.float32)
    SGD(weights, gradient, ONE, np.float32(0.25))
    np.testing.assert_array_equal(weights, np.array([0.25, -1, 1], np.float32))
    SGD(weights, gradient, NO_LIMIT, np.float32(0.25))
    np.testing.assert_array_equal(weights, np.array([0, -1.25, 8.5], np.float32))


# -- PyTorch's, against float64 formulas of its documentation ----------------------------------------------------------


def gradients_and_start(steps: int = 20) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(8)
    return generator.normal(size=(steps, 12)).astype(np.float32), generator.normal(size=12).astype(np.float32)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov):
    gradients, start = gradients_and_start()
    update = functools.partial(UPDATES["momentum"], 0.9, nesterov)
    parameter, kept = start.copy(), zeros()
    expected, velocity = start.astype(np.float64), np.zeros(12)
    for gradient in gradients:
        update(parameter, gradient.copy(), kept, NO_LIMIT, np.float32(0.01))
        velocity = 0.9 * velocity + gradient
        expected -= 0.01 * (gradient + 0.9 * velocity if nesterov else velocity)
        np.testing.assert_allclose(parameter, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(kept, velocity, rtol=1e-5, atol=1e-5)


def test_adam_as_published_adds_epsilon_to_the_corrected_root():
    gradients, start = gradients_and_start()
    gradients *= 1e-7  # as small as epsilon, where Lasagne's form differs
    parameter, moments = start.copy(), (zeros(), zeros())
    expected, mean, square = start.astype(np.float64), np.zeros(12), np.zeros(12)
    for step, gradient in enumerate(gradients, 1):
        sizes = RULES["torch_adam"].sizes(0.01, step)
        UPDATES["torch_adam"](parameter, gradient.copy(), *moments, NO_LIMIT, *sizes)
        wide = gradient.astype(np.float64)
        mean, square = 0.9 * mean + 0.1 * wide, 0.999 * square + 0.001 * wide**2
        expected -= 0.01 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(parameter, expected, rtol=0, atol=2e-6)
    assert np.abs(expected - start).max() > 0.01


def test_a_penalty_is_added_to_the_gradient():
    gradient, parameter, quantized = (np.array(v, np.float32) for v in ([1, 2], [0.5, -0.25], [1, -1]))
    add_penalty(gradient, parameter, quantized, np.float32(0.5), np.float32(-2))
    np.testing.assert_array_equal(gradient, np.array([1 + 0.25 - 2, 2 - 0.125 + 2], np.float32))


def updated(update: Update, moments: int, sizes: int) -> float:
    """1 after the update by a gradient of 1, with so many moments, of 0.5, and so many sizes, of 0.25."""
    parameter, *kept = np.ones(1, np.float32), *(np.full(1, 0.5, np.float32) for _ in range(moments))
    update(parameter, np.ones(1, np.float32), *kept, NO_LIMIT, *[np.float32(0.25)] * sizes)
    return float(parameter[0])


def test_which_update_a_recipe_has():
    momentum_update = update_of(load_recipe("rwth-lenet5-mnist-binary").model, UPDATES)
    assert updated(momentum_update, 1, 1) == pytest.approx(1 - 0.25 * (0.99 * 0.5 + 1))
    assert update_of(load_recipe("chawla-mlp-mnist-float").model, UPDATES) is UPDATES["sgd"]
    assert update_of(load_recipe("rwth-vgg7-cifar10-binary").model, UPDATES) is UPDATES["torch_adam"]
