"""The engines against XNOR-Net-PyTorch's training, step by step (tests/golden/xnornet): the cases, and the comparisons.

tests/golden/record_xnornet.py records them with `xnornet_runs`; each engine's tests run them all with its own way of
opening an engine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.recipe import Recipe, load_recipe

GOLDEN = Path(__file__).parent / "golden" / "xnornet"
# (model, image shape, seed) -> an engine.
Opened = Callable[[Any, tuple[int, ...], int], Any]
LR, TEST_IMAGES = 0.002, 9


class Case(NamedTuple):
    """A benchmark with fewer filters and units.

    Trained are two epochs, of one and of two batches, the last one smaller; behind each are the test images.
    """

    benchmark: str
    architecture: str
    batch: int

    @property
    def images(self) -> int:
        return 3 * self.batch - self.batch // 2

    @property
    def epochs(self) -> tuple[slice, slice]:
        return slice(0, self.batch), slice(self.batch, self.images)

    @property
    def recipe(self) -> Recipe:
        return load_recipe(self.benchmark, [f"model.architecture={self.architecture}"])


NIN = "6C5-5C1-4C1-MP3s2p1-6C5-2x6C1-AP3s2p1-6C3-6C1-10C1-AP8"
CASES = {
    "lenet5": Case("xnornet-lenet5-mnist", "4C5v-MP2-6C5v-MP2-12FC-10FC", batch=12),
    "nin": Case("xnornet-nin-cifar10", NIN, batch=4),
}


class Batches(NamedTuple):
    """Training images in order, and test images."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray


def batches(case: Case) -> Batches:
    """RandomState's stream is the same with every version of NumPy."""
    generator, shape = np.random.RandomState(21), case.recipe.image_shape
    images, test_images = (
        generator.normal(size=(count, *shape)).astype(np.float32) for count in (case.images, TEST_IMAGES)
    )
    return Batches(images, generator.randint(0, 10, case.images), test_images)


def initial(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Parameters before the first step, by our names, float32; scales are not among them.

    Weights go to the limit, so that some are clipped and centering them twice is not the same as once. Gamma, beta and
    the running statistics are drawn: a mistake in them could not be seen at 1 and 0. Of each gamma two values are next
    to the least that is allowed.
    """
    generator = np.random.RandomState(seed)
    ranges = {"weight": (-1, 1), "gamma": (0.01, 1.5), "beta": (-0.3, 0.3), "bias": (-0.3, 0.3)}
    ranges |= {"running_mean": (-0.3, 0.3)}
    drawn = {}
    for name, shape in sorted(shapes.items()):
        low, high = ranges.get(name.split(".")[1], (0.5, 1.5))
        drawn[name] = generator.uniform(low, high, shape).astype(np.float32)
        if name.endswith(".gamma"):
            drawn[name][:2] = 0.0101
    return drawn


class Reference:
    """What the authors' steps gave, by our names, and the recipe's model with as many units."""

    def __init__(self, name: str, opened: Opened) -> None:
        self.case, self._opened = CASES[name], opened
        self.recipe = self.case.recipe
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.arrays = dict(file)
        self.data = batches(self.case)

    def engine(self, parameters: str = "before"):
        """An engine with their parameters before the first step, or after an epoch ("after/1")."""
        engine = self._opened(self.recipe.model, self.recipe.image_shape, 0)
        values = engine.parameters()
        if parameters == "before":
            scales = {name: value for name, value in values.items() if name.endswith(".scale")}
            shapes = {name: value.shape for name, value in values.items() if name not in scales}
            values = initial(shapes, int(self.arrays["seed"])) | scales  # these are made before the first step
        else:
            values |= self.group(parameters)
        engine.load_parameters(values)
        return engine

    def train(self, engine: Any, epoch: int) -> np.ndarray:
        """One epoch; the losses of its steps."""
        order, data = np.arange(self.case.images)[self.case.epochs[epoch - 1]], self.data
        losses: np.ndarray = engine.train_epoch(
            data.images, data.labels, order, self.case.batch, LR, keep_remainder=True
        )
        return losses

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        keys = [key for key in self.arrays if key.startswith(f"{prefix}/")]
        return {key.removeprefix(f"{prefix}/"): self.arrays[key] for key in keys}

    def held(self, name: str) -> np.ndarray:
        """Where float32 knows the gradient in every step: of what is nearly none Adam makes a whole step, too.

        Of weights that are centered, all that their mean is of.
        """
        found = np.ones(self.arrays[f"after/1/{name}"].shape, bool)
        for step in range(1, len(self.arrays["losses"]) + 1):
            gradient = np.abs(self.arrays.get(f"gradient/{step}/{name}", np.ones(1)))
            axes = tuple(range(1, gradient.ndim))
            found &= gradient > (1e-3 * gradient.max(axis=axes, keepdims=True) if axes else 1e-5 * gradient.max())
        is_centered = f"after/1/{name.replace('weight', 'scale')}" in self.arrays and name.endswith(".weight")
        return found & found.all(axis=1, keepdims=True) if is_centered else found


def check_first_step(reference: Reference) -> None:
    """Loss and gradients, those of weights with respect to the binary ones."""
    engine = reference.engine()
    engine.load_parameters(as_binarized(engine.parameters()))
    first = reference.case.epochs[0]
    loss = engine.train_step(reference.data.images[first], reference.data.labels[first], LR)
    assert loss == pytest.approx(float(reference.arrays["losses"][0]), rel=1e-5)
    gradients, expected = engine.gradients(), reference.group("of_used")
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        # In front of a normalization biases have a true gradient of zero, and behind a ReLU one that is nearly so.
        of = name.replace(".bias", ".weight") if name.startswith("conv") else name
        # A sum over 4,096 places, most of which cancel: in NIN's second convolution magnitudes of terms add up to 132,
        # the largest sum is 15. Rounding in the order in which an AVX2 processor adds is 2.2e-5 of that sum.
        assert np.abs(gradient - expected[name]).max() <= 1e-6 + 1e-4 * np.abs(expected[of]).max(), name


def as_binarized(parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As the first step of an epoch finds them: weights that have scales are centered and clipped."""
    found = dict(parameters)
    for name in [name for name in parameters if name.endswith(".scale")]:
        weight = name.replace("scale", "weight")
        centered = parameters[weight] - parameters[weight].mean(axis=1, keepdims=True, dtype=np.float64)
        found[weight] = np.clip(centered, -1, 1).astype(np.float32)
        found[name] = np.abs(found[weight]).reshape(len(centered), -1).mean(axis=1)
    return found


def check_epochs(reference: Reference) -> None:
    """Losses, parameters after each epoch, and scores of the test images."""
    engine, done = reference.engine(), 0
    before = engine.parameters()
    for epoch in (1, 2):
        losses = reference.train(engine, epoch)
        expected = reference.arrays["losses"][done : done + len(losses)]
        assert losses == pytest.approx(expected, rel=2e-5), epoch
        done += len(losses)
        _check_parameters(reference, before, engine.parameters(), epoch)


def _check_parameters(reference: Reference, before: Any, parameters: Any, epoch: int) -> None:
    """Within a thousandth of how far the largest has come; biases that have hardly an effect, within their steps."""
    expected = reference.group(f"after/{epoch}")
    assert set(parameters) == set(expected)
    for name, value in parameters.items():
        way = np.abs(expected[name] - before[name]).max()
        tolerance = 2e-3 * way + 4 * np.spacing(np.float32(np.abs(expected[name]).max()))
        if (name.startswith("conv") and name.endswith(".bias")) or name.endswith(".running_mean"):
            tolerance += 6 * LR
        held = reference.held(name)
        if name.endswith(".scale"):
            sizes = np.abs(parameters[name.replace("scale", "weight")]).reshape(len(value), -1)
            np.testing.assert_allclose(value, sizes.mean(axis=1, dtype=np.float64), rtol=1e-6, err_msg=name)
        else:
            assert np.abs(value - expected[name])[held].max() <= tolerance, (name, epoch)
            assert held.mean() > 0.4 or value.ndim == 1, name


def check_evaluation(reference: Reference) -> None:
    """With their parameters after each epoch."""
    for epoch in (1, 2):
        engine = reference.engine(f"after/{epoch}")
        scores, expected = engine.scores(reference.data.test_images, TEST_IMAGES), reference.arrays[f"scores/{epoch}"]
        assert np.abs(scores - expected).max() <= 2e-5 * np.abs(expected).max()
