"""The updates against Lasagne's and BinaryConnect's own (tests/golden, F_optimisers)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnn_gluon.optimizers import NO_LIMIT, RULES

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "F_optimisers.npz")
UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")
ONE = np.float32(1)
ADAM, SGD = RULES["adam"], RULES["sgd"]


def zeros(n: int = 12) -> np.ndarray:
    return np.zeros(n, np.float32)


@pytest.mark.parametrize("schedule", ["const", "decay"])
def test_adam_is_lasagnes(schedule):
    rates = GOLDEN["lr_decay_seq"] if schedule == "decay" else np.full(30, 1e-3)
    parameter, mean, square = GOLDEN["p0"].copy(), zeros(), zeros()
    tolerance = 2 * np.abs(GOLDEN[f"pinned_f64/adam_{schedule}/param"] - GOLDEN[f"adam_{schedule}/param"]).max()
    for step, (gradient, lr) in enumerate(zip(GOLDEN["grads"], rates, strict=True), 1):
        ADAM.update(parameter, gradient.copy(), (mean, square), ADAM.step_size(float(lr), step))
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
        ADAM.update(weights, gradient.copy(), moments, GOLDEN["W_LR_scale"] * ADAM.step_size(1e-3, step), ONE)
        np.testing.assert_allclose(weights, expected[step - 1], rtol=0, atol=tolerance)


def test_small_steps_are_not_lost():
    """W - s * step as Theano compiles it; the literal W + s * ((W - step) - W) freezes weights late in training."""
    for lr, after in zip(UNITS["canon/lr"], UNITS["canon/W_after_one_step_grad1"], strict=True):
        weights = np.array([UNITS["canon/W_before"]])
        size = UNITS["canon/scale"] * ADAM.step_size(float(lr), 1)
        ADAM.update(weights, np.ones(1, np.float32), (zeros(1), zeros(1)), size, ONE)
        assert weights[0] == pytest.approx(after, abs=6e-8)


def test_gradient_descent():
    weights, gradient = np.array([0.5, -0.9, 0.0], np.float32), np.array([1, 1, -30], np.float32)
    SGD.update(weights, gradient, (), SGD.step_size(0.25, 1), ONE)
    np.testing.assert_array_equal(weights, np.array([0.25, -1, 1], np.float32))
    SGD.update(weights, gradient, (), SGD.step_size(0.25, 1), NO_LIMIT)
    np.testing.assert_array_equal(weights, np.array([0, -1.25, 8.5], np.float32))
