"""The fused updates against Lasagne's and BinaryConnect's own (tests/golden, F_optimisers)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bnn_gluon import optimizers, quantize

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "F_optimisers.npz")
UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")
ONE = np.float32(1)


def zeros(n: int = 12) -> np.ndarray:
    return np.zeros(n, np.float32)


@pytest.mark.parametrize("schedule", ["const", "decay"])
def test_adam_is_lasagnes(schedule):
    rates = GOLDEN["lr_decay_seq"] if schedule == "decay" else np.full(30, 1e-3)
    parameter, mean, square = GOLDEN["p0"].copy(), zeros(), zeros()
    tolerance = 2 * np.abs(GOLDEN[f"pinned_f64/adam_{schedule}/param"] - GOLDEN[f"adam_{schedule}/param"]).max()
    for step, (gradient, lr) in enumerate(zip(GOLDEN["grads"], rates, strict=True), 1):
        optimizers.adam(parameter, gradient.copy(), mean, square, optimizers.adam_step_size(float(lr), step))
        np.testing.assert_allclose(parameter, GOLDEN[f"adam_{schedule}/param"][step - 1], rtol=0, atol=tolerance)
        # Gradients of both signs cancel in the mean: its rounding is that of the largest of them.
        mean_error = np.abs(mean - GOLDEN[f"adam_{schedule}/m"][step - 1])
        assert np.all(mean_error <= 1e-6 * np.abs(GOLDEN["grads"]).max(axis=0))
        np.testing.assert_allclose(square, GOLDEN[f"adam_{schedule}/v"][step - 1], rtol=1e-6, atol=1e-20)


def test_scaled_and_clipped_adam_is_binaryconnects():
    weights, mean, square, binary = GOLDEN["p0"].copy(), zeros(), zeros(), zeros()
    expected = GOLDEN["adam_scaled_clipped/param"]
    tolerance = 2 * np.abs(GOLDEN["pinned_f64/adam_scaled_clipped/param"] - expected).max()
    for step, gradient in enumerate(GOLDEN["grads"], 1):
        size = GOLDEN["W_LR_scale"] * optimizers.adam_step_size(1e-3, step)
        optimizers.adam_clip_binarize_deterministic(weights, gradient.copy(), mean, square, size, ONE, binary)
        np.testing.assert_allclose(weights, expected[step - 1], rtol=0, atol=tolerance)
        np.testing.assert_array_equal(binary, np.where(weights >= 0, 1, -1))


def test_small_steps_are_not_lost():
    """W - s * step as Theano compiles it; the literal W + s * ((W - step) - W) freezes weights late in training."""
    for lr, after in zip(UNITS["canon/lr"], UNITS["canon/W_after_one_step_grad1"], strict=True):
        weights, binary = np.array([UNITS["canon/W_before"]]), zeros(1)
        gradient, size = np.ones(1, np.float32), UNITS["canon/scale"] * optimizers.adam_step_size(float(lr), 1)
        optimizers.adam_clip_binarize_deterministic(weights, gradient, zeros(1), zeros(1), size, ONE, binary)
        assert weights[0] == pytest.approx(after, abs=6e-8)


unit_floats = st.floats(-1, 1, width=32)


@given(arrays(np.float32, st.integers(1, 300), elements=unit_floats), st.integers(0, 2**32 - 1), st.booleans())
def test_the_fused_pass_is_the_separate_passes(weights, step, stochastic):
    """One pass gives what Adam, clipping and binarising one after the other give, to the bit."""
    gradient = np.roll(weights, 1) * np.float32(3)
    words = (np.uint32(2), np.uint32(step), np.uint32(11), np.uint32(0))
    fused, separate, size = weights.copy(), weights.copy(), np.float32(0.7)
    moments = [zeros(weights.size) for _ in range(4)]
    fused_binary, binary = zeros(weights.size), zeros(weights.size)
    optimizers.adam(separate, gradient, *moments[2:], size)
    separate = np.clip(separate, -1, 1)
    if stochastic:
        optimizers.adam_clip_binarize_stochastic(fused, gradient, *moments[:2], size, ONE, *words, fused_binary)
        quantize.binarize_stochastic(separate, ONE, *words, binary)
    else:
        optimizers.adam_clip_binarize_deterministic(fused, gradient, *moments[:2], size, ONE, fused_binary)
        quantize.binarize_deterministic(separate, ONE, binary)
    np.testing.assert_array_equal(fused, separate)
    np.testing.assert_array_equal(fused_binary, binary)
