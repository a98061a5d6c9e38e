"""What `bench` feeds an engine with: blocks of steps on random data of a benchmark's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.recipe import CLASSES
from benchmarks.run.protocol import EVALUATION_BATCH

if TYPE_CHECKING:
    from benchmarks.engine import Engine
    from benchmarks.recipe import Recipe

SEED = 1
WARM_UP_STEPS = 2


class Trainer(Protocol):
    """An engine or its baseline: see `Engine.train_epoch`."""

    def train_epoch(
        self, images: NDArray[Any], labels: NDArray[Any], order: NDArray[Any], batch_size: int, lr: float
    ) -> NDArray[Any]: ...


class Blocks:
    """The random data, and the blocks that are timed on it."""

    def __init__(self, recipe: Recipe, steps: int) -> None:
        generator = np.random.Generator(np.random.PCG64(SEED))
        self.steps = steps
        self._batch_size, self._lr = recipe.train.batch_size, recipe.train.lr_start
        # Three times as many images as are trained on, in whole batches: that takes about as long.
        self.evaluation_batches = -(-3 * steps * self._batch_size // EVALUATION_BATCH)
        count = self.evaluation_batches * EVALUATION_BATCH
        self.images = generator.standard_normal((count, *recipe.image_shape), np.float32)
        self._labels = generator.integers(CLASSES, size=count)
        self._order = generator.permutation(count)[: steps * self._batch_size]

    def train(self, engine: Trainer) -> None:
        engine.train_epoch(self.images, self._labels, self._order, self._batch_size, self._lr)

    def warm_up(self, engine: Trainer) -> None:
        order = self._order[: WARM_UP_STEPS * self._batch_size]
        engine.train_epoch(self.images, self._labels, order, self._batch_size, self._lr)

    def evaluate(self, engine: Engine) -> None:
        engine.scores(self.images, EVALUATION_BATCH)
