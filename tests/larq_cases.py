"""The engines against Larq, step by step (tests/golden/larq): the case, and the comparisons.

tests/larq_runs.py computes it with Larq and TensorFlow; each engine's tests run it with its own way of opening
an engine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.recipe import load_recipe

GOLDEN = Path(__file__).parent / "golden" / "larq" / "mnist.npz"
# (model, image shape, seed) -> an engine.
Opened = Callable[[Any, tuple[int, ...], int], Any]
# The tutorial's network with fewer filters and units. An epoch has three batches, the last one smaller.
FILTERS, UNITS = (6, 8, 8), 12
ARCHITECTURE = "6C3v-MP2-8C3v-MP2-8C3v-12FC-10FC"
IMAGES, TEST_IMAGES, BATCH, LR = 21, 9, 8, 0.02
RECIPE = load_recipe("larq-mnist", [f"model.architecture={ARCHITECTURE}"])


class Batches(NamedTuple):
    """Training images, float32 (N, 1, 28, 28), in order, and test images."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray


def batches() -> Batches:
    """RandomState's stream is the same with every version of NumPy."""
    generator = np.random.RandomState(22)
    images, test_images = (
        generator.normal(size=(count, *RECIPE.image_shape)).astype(np.float32) for count in (IMAGES, TEST_IMAGES)
    )
    return Batches(images, generator.randint(0, 10, IMAGES), test_images)


def initial(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Parameters before the first step, by our names, float32.

    Weights go to the limit, so that some are clipped. Beta and the running statistics are drawn: a mistake in them
    could not be seen at 0 and 1.
    """
    generator = np.random.RandomState(seed)
    ranges = {"weight": (-1, 1), "beta": (-0.3, 0.3), "running_mean": (-0.3, 0.3)}
    drawn = {}
    for name, shape in sorted(shapes.items()):
        low, high = ranges.get(name.split(".")[1], (0.5, 1.5))
        drawn[name] = generator.uniform(low, high, shape).astype(np.float32)
    return drawn


class Reference:
    """What Larq computed, by our names."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        with np.load(GOLDEN) as file:
            self.arrays = dict(file)
        self.data = batches()

    def engine(self, parameters: str = "before") -> Any:
        """An engine with their parameters before the first step, or after the last."""
        engine = self._opened(RECIPE.model, RECIPE.image_shape, 0)
        shapes = {name: value.shape for name, value in engine.parameters().items()}
        before = initial(shapes, int(self.arrays["seed"]))
        engine.load_parameters(before if parameters == "before" else self.group(parameters))
        return engine

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        keys = [key for key in self.arrays if key.startswith(f"{prefix}/")]
        return {key.removeprefix(f"{prefix}/"): self.arrays[key] for key in keys}


def check_first_step(reference: Reference) -> None:
    """Loss and gradients."""
    engine, data = reference.engine(), reference.data
    loss = engine.train_step(data.images[:BATCH], data.labels[:BATCH], LR)
    assert loss == pytest.approx(float(reference.arrays["losses"][0]), rel=1e-5)
    gradients, expected = engine.gradients(), reference.group("gradient")
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        assert np.abs(gradient - expected[name]).max() <= 1e-4 * np.abs(expected[name]).max(), name


def check_epoch(reference: Reference) -> None:
    """Losses, and parameters after the last step: within a thousandth of how far the largest has come.

    But those of small gradients, of which float32 does not know the sign: Adam makes whole steps of them.
    """
    engine, data = reference.engine(), reference.data
    before, expected = engine.parameters(), reference.group("after")
    losses = engine.train_epoch(data.images, data.labels, np.arange(IMAGES), BATCH, LR, keep_remainder=True)
    assert losses == pytest.approx(reference.arrays["losses"], rel=2e-5)
    assert set(before) == set(expected)
    for name, value in engine.parameters().items():
        way, held = np.abs(expected[name] - before[name]).max(), reference.arrays.get(f"held/{name}", True)
        last_place = np.spacing(np.float32(np.abs(expected[name]).max()))
        assert (np.abs(value - expected[name]) * held).max() <= 1e-3 * way + 4 * last_place, name
        assert np.mean(held) > 0.8, name


def check_evaluation(reference: Reference) -> None:
    """Of images that were not trained on, with their parameters after the last step."""
    scores = reference.engine("after").scores(reference.data.test_images, TEST_IMAGES)
    assert np.abs(scores - reference.arrays["scores"]).max() <= 1e-5 * np.abs(reference.arrays["scores"]).max()
