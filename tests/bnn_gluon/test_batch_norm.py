"""Batch normalization against BinaryConnect's own (tests/golden, G_units)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")


# Golden arrays, kind, alpha of the moving averages and what is averaged beside the mean.
CASES = [
    ("bn_bc_2d", "binaryconnect", 0.15, "std"),
    ("bn_bc_4d", "binaryconnect", 0.15, "std"),
    ("bn_lasagne_2d", "lasagne", 0.1, "inv_std"),
    ("bn_lasagne_4d", "lasagne", 0.1, "inv_std"),
]


@pytest.mark.parametrize(("name", "kind", "alpha", "spread"), CASES)
def test_training_forward_gradients_and_moving_averages(normalized, name, kind, alpha, spread):
    golden = {key.removeprefix(f"{name}/"): UNITS[key] for key in UNITS.files if key.startswith(f"{name}/")}
    norm = normalized(kind, golden["gamma"], golden["beta"], 1e-4, alpha)
    y, *gradients = norm.train(golden["x"], golden["gy"])
    np.testing.assert_allclose(y, golden["y"], rtol=1e-4, atol=1e-4)
    for found, expected in zip(gradients, ("dx", "dgamma", "dbeta"), strict=True):
        tolerance = 1e-5 + 1e-3 * np.abs(golden[expected]).max()
        np.testing.assert_allclose(found.ravel(), golden[expected].ravel(), rtol=0, atol=tolerance)
    for average, expected in ((norm.stage.running_mean, "mean"), (norm.stage.running_spread, spread)):
        np.testing.assert_allclose(average, golden[f"run_{expected}_1"].ravel(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "kind", "alpha", "spread"), CASES)
def test_evaluation_uses_the_moving_averages(normalized, name, kind, alpha, spread):
    norm = normalized(kind, UNITS[f"{name}/gamma"], UNITS[f"{name}/beta"], 1e-4, alpha)
    y = norm.evaluate(UNITS[f"{name}/x"], UNITS[f"{name}/run_mean_3"], UNITS[f"{name}/run_{spread}_3"])
    np.testing.assert_allclose(y, UNITS[f"{name}/y_eval"], rtol=1e-5, atol=1e-5)


def test_a_last_batch_of_one_image_has_no_variance(normalized):
    norm = normalized("torch", np.ones(3, np.float32), np.zeros(3, np.float32), 1e-5, 0.1)
    y, *_ = norm.train(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32))
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_allclose(norm.stage.running_spread, 0.9, rtol=1e-6)


def test_one_normalization_of_the_whole_tensor_has_the_gradients_of_finite_differences(whole):
    """Of sum(y g), in float64; the formula is that of Brevitas' tensor_norm.py."""
    generator = np.random.default_rng(1)
    x, g = (generator.normal(size=(7, 10)) for _ in range(2))
    gamma, beta, epsilon = np.array([0.7]), np.array([0.3]), 1e-4

    def y_of(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        return gamma * (x - x.mean()) / np.sqrt(x.var() + epsilon) + beta

    norm = whole(gamma.astype(np.float32), beta.astype(np.float32), epsilon, 0.1)
    y, *gradients = norm.train(x.astype(np.float32), g.astype(np.float32))
    np.testing.assert_allclose(y, y_of(x, gamma, beta), atol=1e-6)
    given = [x, gamma, beta]
    for position, found in enumerate(gradients):
        quotients = np.empty(given[position].shape)
        for index in np.ndindex(quotients.shape):
            moved = [value.copy() for value in given]
            moved[position][index] += 1e-6
            quotients[index] = ((y_of(*moved) - y_of(*given)) * g).sum() / 1e-6
        np.testing.assert_allclose(found, quotients, atol=1e-4)
    np.testing.assert_allclose(norm.stage.running_mean, [0.1 * x.mean()], atol=1e-7)
    np.testing.assert_allclose(norm.stage.running_spread, [0.9 + 0.1 * x.var(ddof=1)], rtol=1e-6)
    evaluated = norm.evaluate(x.astype(np.float32), np.array([0.2]), np.array([1.5]))
    np.testing.assert_allclose(evaluated, 0.7 * (x - 0.2) / np.sqrt(1.5 + epsilon) + 0.3, atol=1e-6)
