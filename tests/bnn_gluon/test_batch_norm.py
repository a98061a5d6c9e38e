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
