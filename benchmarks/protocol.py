"""The training protocol: epochs, learning rates, shuffling, and which epoch's test error is the result.

It knows neither files nor frameworks: it drives an engine epoch by epoch and yields what was measured after each, so
that whoever calls it can store the state in between and continue from there.
"""

from __future__ import annotations

import itertools
import math
import operator
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from results.record import Curve, declared_epoch, error_percent

if TYPE_CHECKING:
    from benchmarks.engine import Engine
    from benchmarks.recipe import Recipe, TrainSettings
    from data_prep import Dataset, Split

# Images an engine evaluates at a time. Every evaluation uses the same, so that scores agree to the last bit.
EVALUATION_BATCH = 250


class DivergenceError(Exception):
    """A loss that is no finite number: the run is over, with outcome "diverged"."""


def learning_rates(train: TrainSettings) -> Iterator[float]:
    """The learning rate of each epoch: lr_start, then multiplied after every epoch by a factor.

    "exponential": by (lr_final / lr_start)^(1 / epochs); the last epoch therefore uses lr_final divided by that factor,
    never lr_final. "halving": by 1/2 after every lr_halving_epochs epochs, else by 1. Multiplied step by step in double
    precision, as the originals do. Source: binary_connect.py, train(): LR *= LR_decay; itayhubara/BinaryNet,
    Main_BinaryNet_MNIST.lua: the learning rate is halved if epoch % 20 is 0.
    """
    if train.lr_decay == "exponential":
        assert train.lr_final is not None
        factors = [(train.lr_final / train.lr_start) ** (1 / train.epochs)] * (train.epochs - 1)
    else:
        assert train.lr_halving_epochs is not None
        factors = [1.0 if epoch % train.lr_halving_epochs else 0.5 for epoch in range(1, train.epochs)]
    return itertools.accumulate(factors, operator.mul, initial=train.lr_start)


def shuffled(order: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The order of the coming epoch: the last one shuffled again, new[i] = old[permutation[i]].

    A function of seed and epoch (from 1), so that there is no generator state to save. Source: binary_connect.py,
    shuffle().
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    return np.asarray(order[generator.permutation(len(order))])


def squared_hinge(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images and classes of max(0, 1 - t * y)^2, t = +1 for the image's class and -1 for the others.

    Args:
        scores: float32 (N, classes).
        labels: int (N,).
    """
    targets = np.where(labels[:, None] == np.arange(scores.shape[1]), 1.0, -1.0)
    return float(np.mean(np.maximum(0.0, 1.0 - targets * scores) ** 2))


@dataclass(frozen=True)
class Evaluation:
    """What a network scores on one split: the loss, and which images (N,) it classifies correctly."""

    loss: float
    correct: np.ndarray

    @property
    def wrong(self) -> int:
        return int(np.count_nonzero(~self.correct))


def evaluate(engine: Engine, split: Split) -> Evaluation:
    """Evaluate all images of a split.

    Raises:
        DivergenceError: if the loss is not finite.
    """
    scores = engine.scores(split.images, EVALUATION_BATCH)
    loss = squared_hinge(scores, split.labels)
    if not math.isfinite(loss):
        raise DivergenceError(f"the loss on the {split.name} images is {loss}")
    return Evaluation(loss, scores.argmax(axis=1) == split.labels)


@dataclass
class Progress:
    """How far a run is: all that the protocol must know to go on, besides the engine's own state.

    Attributes:
        order: int64 (train images,), the permutation of the last epoch.
        curve: a column for each measured value, an entry an epoch.
        test_correct: bool (test images,), which test images the network of the declared epoch got right.
        train_seconds, evaluate_seconds: spent so far.
    """

    order: np.ndarray
    curve: dict[str, list[Any]] = field(default_factory=lambda: {column: [] for column in Curve.__struct_fields__})
    test_correct: np.ndarray | None = None
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.curve["epoch"])

    @property
    def declared_epoch(self) -> int:
        """The epoch whose test error is the result: fewest validation errors, ties to the later; 0 before the first."""
        return declared_epoch(self.as_curve())

    def as_curve(self) -> Curve:
        return Curve(**self.curve)


def train(
    engine: Engine,
    recipe: Recipe,
    data: Dataset,
    seed: int,
    progress: Progress,
    on_batch: Callable[[int, float], None] | None = None,
) -> Iterator[None]:
    """Train the epochs that are left, updating `progress`; yields after each.

    The test images are evaluated after every epoch, for the curve; which epoch is declared depends on the validation
    images alone. Errors are compared as counts of images: the original compares means of float32 batch errors,
    where the same count can differ by 1e-7 %.

    Raises:
        DivergenceError: if a loss stops being a finite number. `progress` is then that of the last good epoch.
    """
    for epoch, lr in itertools.islice(enumerate(learning_rates(recipe.train), 1), progress.epoch, None):
        started = time.perf_counter()
        order = shuffled(progress.order, seed, epoch)
        losses = engine.train_epoch(data.train.images, data.train.labels, order, recipe.train.batch_size, lr, on_batch)
        trained = time.perf_counter()
        if not np.isfinite(losses).all():
            raise DivergenceError(f"the training loss is {losses[~np.isfinite(losses)][0]} in epoch {epoch}")
        valid, test = evaluate(engine, data.valid), evaluate(engine, data.test)
        ended = time.perf_counter()
        progress.order = order
        progress.train_seconds += trained - started
        progress.evaluate_seconds += ended - trained
        row = {
            "epoch": epoch,
            "lr": lr,
            "train_loss": float(np.mean(losses, dtype=np.float64)),
            "valid_loss": valid.loss,
            "valid_error": error_percent(valid.wrong, len(valid.correct)),
            "valid_wrong": valid.wrong,
            "test_loss": test.loss,
            "test_error": error_percent(test.wrong, len(test.correct)),
            "test_wrong": test.wrong,
            "images_per_second": len(losses) * recipe.train.batch_size / (trained - started),
            "seconds": ended - started,
        }
        for column, value in row.items():
            progress.curve[column].append(value)
        if progress.declared_epoch == epoch:
            progress.test_correct = test.correct
        yield
