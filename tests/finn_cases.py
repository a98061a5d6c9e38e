"""The engines against Brevitas, step by step (tests/golden/finn): the cases, and the comparisons.

tests/golden/record_finn.py records them with `brevitas_runs`; each engine's tests run them all with its own way of
opening an engine, and `tox -e brevitas` runs Brevitas itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.recipe import Recipe, load_recipe

GOLDEN = Path(__file__).parent / "golden" / "finn"
# (model, image shape, seed) -> an engine.
Opened = Callable[[Any, tuple[int, ...], int], Any]
STEPS, BATCH, LR = 3, 12, 0.02


class Case(NamedTuple):
    """A benchmark with fewer units.

    Attributes:
        bits: of weights, activations and inputs, as the .ini file of the benchmark has them.
        widths: of the hidden layers.
        architecture: the same network in our notation.
        gammas: the range that they are drawn from. Large ones where a unit would be clipped by nothing in a batch: its
            beta has no gradient then, and Adam makes steps of rounding errors.
    """

    benchmark: str
    bits: tuple[int, int, int]
    widths: tuple[int, ...]
    architecture: str
    gammas: tuple[float, float] = (0.5, 1.5)

    @property
    def recipe(self) -> Recipe:
        return load_recipe(self.benchmark, [f"model.architecture={self.architecture}"])


def _fc(name: str, *bits: int) -> Case:
    return Case(f"finn-tfc-mnist-{name}", (bits[0], bits[1], bits[2]), (8, 8, 8), "3x8FC-10FC")


def _cnv(name: str, *bits: int) -> Case:
    gammas = (1.5, 2.5) if bits[1] == 2 else (0.5, 1.5)
    architecture = "2x4C3v-MP2-2x6C3v-MP2-2x8C3v-2x12FC-10FC"
    return Case(f"finn-cnv-cifar10-{name}", (bits[0], bits[1], 8), (4, 4, 6, 6, 8, 8, 12, 12), architecture, gammas)


CASES = {
    **{"fc-1w1a": _fc("1w1a", 1, 1, 1), "fc-1w2a": _fc("1w2a", 1, 2, 2), "fc-2w2a": _fc("2w2a", 2, 2, 2)},
    **{"cnv-1w1a": _cnv("1w1a", 1, 1), "cnv-1w2a": _cnv("1w2a", 1, 2), "cnv-2w2a": _cnv("2w2a", 2, 2)},
}


class Batches(NamedTuple):
    """For each step a batch, and one more to evaluate; images float32 in the gray levels of a file."""

    images: np.ndarray
    labels: np.ndarray


def batches(recipe: Recipe) -> Batches:
    """The same for every case of a data set. RandomState's stream is the same with every version of NumPy."""
    generator = np.random.RandomState(20)
    shape = (STEPS + 1, BATCH, *recipe.image_shape)
    images = generator.randint(0, 256, shape).astype(np.float32) / np.float32(255)
    return Batches(images, generator.randint(0, 10, shape[:2]))


def initial(shapes: dict[str, tuple[int, ...]], gammas: tuple[float, float], seed: int) -> dict[str, np.ndarray]:
    """Parameters before the first step, by our names, float32.

    Gamma, beta and the running statistics are drawn: a mistake in them could not be seen at 1 and 0.
    """
    generator = np.random.RandomState(seed)
    ranges = {"weight": (-1, 1), "gamma": gammas, "beta": (-0.3, 0.3), "running_mean": (-0.3, 0.3)}
    drawn = {}
    for name, shape in shapes.items():
        low, high = ranges.get(name.split(".")[1], (0.5, 1.5))
        drawn[name] = generator.uniform(low, high, shape).astype(np.float32)
    return drawn


class Reference:
    """What Brevitas computed, by our names, and the recipe's model with as many units."""

    def __init__(self, name: str, opened: Opened, arrays: dict[str, np.ndarray] | None = None) -> None:
        """`arrays`: of a run of Brevitas, by default those of the golden file."""
        self._case, self._opened = CASES[name], opened
        self.recipe = self._case.recipe
        if arrays is None:
            with np.load(GOLDEN / f"{name}.npz") as file:
                arrays = dict(file)
        self.arrays = arrays
        self.images, self.labels = batches(self.recipe)

    def engine(self, parameters: str = "before"):
        """An engine with their parameters before the first step, or after the last."""
        engine = self._opened(self.recipe.model, self.recipe.image_shape, 0)
        shapes = {name: value.shape for name, value in engine.parameters().items()}
        before = initial(shapes, self._case.gammas, int(self.arrays["seed"]))
        engine.load_parameters(before if parameters == "before" else self.group(parameters))
        return engine

    def step(self, engine: Any, number: int) -> float:
        loss: float = engine.train_step(self.images[number - 1], self.labels[number - 1], LR)
        return loss

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        keys = [key for key in self.arrays if key.startswith(f"{prefix}/")]
        return {key.split("/")[1]: self.arrays[key] for key in keys}


def check_first_loss_and_gradients(reference: Reference) -> None:
    engine = reference.engine()
    assert reference.step(engine, 1) == pytest.approx(float(reference.arrays["losses"][0]), rel=1e-5)
    gradients, expected = engine.gradients(), reference.group("gradient")
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        tolerance = 1e-7 + 1e-4 * np.abs(expected[name]).max()
        assert np.abs(gradient - expected[name]).max() <= tolerance, name


def check_three_steps(reference: Reference) -> None:
    """Losses, and parameters after the last step: within a thousandth of how far the largest has come."""
    engine = reference.engine()
    before, expected = engine.parameters(), reference.group("after")
    for number in range(1, STEPS + 1):
        assert reference.step(engine, number) == pytest.approx(reference.arrays["losses"][number - 1], rel=1e-5), number
    assert set(before) == set(expected)
    for name, value in engine.parameters().items():
        way = np.abs(expected[name] - before[name]).max()
        last_place = np.spacing(np.float32(np.abs(expected[name]).max()))
        assert np.abs(value - expected[name]).max() <= 1e-3 * way + 2 * last_place, name


def check_evaluation(reference: Reference) -> None:
    """Of a batch that was not trained on, with their parameters after the last step."""
    scores, expected = reference.engine("after").scores(reference.images[STEPS], BATCH), reference.arrays["scores"]
    assert np.abs(scores - expected).max() <= 1e-5 * np.abs(expected).max()
