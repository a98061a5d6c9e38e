"""The training protocol: epochs, learning rates, shuffling, and which epoch's test error is the result.

It knows neither files nor frameworks: it drives an engine epoch by epoch and yields what was measured after each, so
that whoever calls it can store the state in between and continue from there.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from benchmarks.engine.augmentation import draw_crops
from benchmarks.recipe.schedule import learning_rates
from results.record import Curve, columns, declared_epoch, error_percent

if TYPE_CHECKING:
    from benchmarks.engine import Engine
    from benchmarks.recipe import Recipe
    from data_prep import Dataset, Split

# Images an engine evaluates at a time where the recipe leaves it open. Every evaluation uses the same, so that scores
# agree to the last bit.
EVALUATION_BATCH = 250


class DivergenceError(Exception):
    """A loss or a parameter that is no finite number: the run is over, with outcome "diverged"."""


def shuffled(order: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The order of the coming epoch: the last one shuffled again, new[i] = old[permutation[i]].

    A function of seed and epoch (from 1), so that there is no generator state to save. Source: binary_connect.py,
    shuffle().
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    return np.asarray(order[generator.permutation(len(order))])


def next_order(shuffle: str, order: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The order in which the coming epoch takes the training images, int64 (N,), by the recipe's `train.shuffle`.

    "cumulative": the last order shuffled again; "fresh": a permutation of 0..N-1 of this epoch's own; "none": 0..N-1.
    Source of the others: a PyTorch DataLoader with shuffle=True (RWTH-IDS/efficient-binary-neural-networks, main.py);
    akshaychawla/Binary-Neural-Networks, mnist_baseline.py, which takes the batches as they lie.
    """
    if shuffle == "cumulative":
        return shuffled(order, seed, epoch)
    in_order = np.arange(len(order))
    return shuffled(in_order, seed, epoch) if shuffle == "fresh" else in_order


def loss_terms(scores: np.ndarray, labels: np.ndarray, loss: str) -> np.ndarray:
    """Terms whose mean over everything is the loss, float64: (N, classes) for "squared_hinge", else (N,).

    "squared_hinge": max(0, 1 - t * y)^2 of each class, t = +1 for the image's class and -1 for the others;
    "squared_hinge_sum": its sum over the classes; "cross_entropy": -log softmax(y) of the image's class.

    Args:
        scores: y, float32 (N, classes).
        labels: int (N,).
    """
    if loss == "cross_entropy":
        y = scores.astype(np.float64)
        y -= y.max(axis=1, keepdims=True)
        terms: np.ndarray = np.log(np.exp(y).sum(axis=1)) - y[np.arange(len(y)), labels]
        return terms
    targets = np.where(labels[:, None] == np.arange(scores.shape[1]), 1.0, -1.0)
    terms = np.maximum(0.0, 1.0 - targets * scores) ** 2
    return terms.sum(axis=1) if loss == "squared_hinge_sum" else terms


@dataclass(frozen=True)
class Evaluation:
    """What a network scores on one split.

    Attributes:
        loss: of all images.
        correct: bool (N,), which of them it classifies correctly.
        predicted: int (N,), the class with the highest score of each image.
        class_loss: of the images of each class, six digits; None for a class without images.
        class_wrong: how many images of each class it does not classify correctly.
    """

    loss: float
    correct: np.ndarray
    predicted: np.ndarray
    class_loss: list[float | None]
    class_wrong: list[int]

    @property
    def wrong(self) -> int:
        return int(np.count_nonzero(~self.correct))

    @property
    def error(self) -> float:
        """The error in percent."""
        return error_percent(self.wrong, len(self.correct))


def evaluate(engine: Engine, split: Split, recipe: Recipe) -> Evaluation:
    """Evaluate all images of a split, with the recipe's loss.

    Raises:
        DivergenceError: if the loss is not finite.
    """
    scores = engine.scores(split.images, recipe.protocol.evaluation_batch_size or EVALUATION_BATCH)
    terms = loss_terms(scores, split.labels, recipe.model.loss)
    divisor = recipe.train.batch_size if recipe.model.loss_divisor == "batch_size" else 1
    loss = float(np.mean(terms)) / divisor
    if not math.isfinite(loss):
        raise DivergenceError(f"the loss on the {split.name} images is {loss}")
    predicted = scores.argmax(axis=1)
    correct = predicted == split.labels
    members = [split.labels == label for label in range(scores.shape[1])]
    return Evaluation(
        loss,
        correct,
        predicted,
        class_loss=[float(f"{np.mean(terms[of]) / divisor:.6g}") if of.any() else None for of in members],
        class_wrong=[int(np.count_nonzero(~correct[of])) for of in members],
    )


@dataclass
class TrainingState:
    """How far a run is: all that the protocol must know to go on, besides the engine's own state.

    Attributes:
        order: int64 (train images,), the permutation of the last epoch.
        curve: a column for each measured value, an entry an epoch.
        test_correct: bool (test images,), which test images the network of the declared epoch got right.
        train_seconds, evaluate_seconds: spent so far.
    """

    order: np.ndarray
    curve: dict[str, list[Any]] = field(default_factory=lambda: {column: [] for column in columns({})})
    test_correct: np.ndarray | None = None
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.curve["epoch"])

    def declared_epoch(self, recipe: Recipe) -> int:
        """The epoch whose test error is the result, by the recipe's protocol; 0 before the first."""
        return declared_epoch(self.as_curve(), msgspec.to_builtins(recipe.settings))

    def as_curve(self) -> Curve:
        return Curve(**self.curve)


def train(
    engine: Engine,
    recipe: Recipe,
    data: Dataset,
    seed: int,
    progress: TrainingState,
    on_batch: Callable[[int, float], None] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Train the epochs that are left, updating `progress`; yields the parameters after each.

    The test images are evaluated after every epoch, for the curve; which epoch is declared depends on the validation
    images alone, if there are any. Errors are compared as counts of images: the original compares means of float32
    batch errors, where the same count can differ by 1e-7 %.

    Raises:
        DivergenceError: if a loss or a parameter stops being a finite number. `progress` is then that of the last good
            epoch.
    """
    batch_size, keeps = recipe.train.batch_size, recipe.protocol.remainder == "kept"
    if not progress.epoch:
        progress.curve = {column: [] for column in columns(msgspec.to_builtins(recipe.settings))}
    for epoch, lr in itertools.islice(enumerate(learning_rates(recipe.train), 1), progress.epoch, None):
        started = time.perf_counter()
        order = next_order(recipe.train.shuffle, progress.order, seed, epoch)
        # Engines get what is not in every recipe only where a recipe has it.
        options: dict[str, Any] = {"keep_remainder": True} if keeps else {}
        crops = draw_crops(len(order), recipe.data.augmentation, seed, epoch, "train")
        options |= {} if crops is None else {"crops": crops}
        losses = engine.train_epoch(data.train.images, data.train.labels, order, batch_size, lr, on_batch, **options)
        trained = time.perf_counter()
        if not np.isfinite(losses).all():
            raise DivergenceError(f"the training loss is {losses[~np.isfinite(losses)][0]} in epoch {epoch}")
        parameters = engine.parameters()
        _check_finite(parameters, epoch)
        row: dict[str, Any] = {"epoch": epoch, "lr": lr, "train_loss": float(np.mean(losses, dtype=np.float64))}
        if recipe.data.valid_images:
            valid = evaluate(engine, _validation_images(data.valid, recipe, seed, epoch), recipe)
            row |= {"valid_loss": valid.loss, "valid_error": valid.error, "valid_wrong": valid.wrong}
        test = evaluate(engine, data.test, recipe)
        row |= {"test_loss": test.loss, "test_error": test.error, "test_wrong": test.wrong}
        if recipe.protocol.evaluates_training:
            row |= _evaluated_training(evaluate(engine, data.train, recipe), test)
        ended = time.perf_counter()
        trained_images = len(order) if keeps else len(losses) * batch_size
        row |= {"images_per_second": trained_images / (trained - started), "seconds": ended - started}
        progress.order = order
        progress.train_seconds += trained - started
        progress.evaluate_seconds += ended - trained
        for column, value in row.items():
            progress.curve[column].append(value)
        if progress.declared_epoch(recipe) == epoch:
            progress.test_correct = test.correct
        yield parameters


def _check_finite(parameters: Mapping[str, np.ndarray], epoch: int) -> None:
    """A real-valued weight that is NaN has a sign once it is binarized, so losses alone would not show it.

    Raises:
        DivergenceError: a parameter has a value that is not finite.
    """
    for name, value in parameters.items():
        if not np.isfinite(value).all():
            wrong = np.count_nonzero(~np.isfinite(value))
            raise DivergenceError(f"{wrong:,} of {value.size:,} values of {name} are not finite in epoch {epoch}")


def _validation_images(valid: Split, recipe: Recipe, seed: int, epoch: int) -> Split:
    """The validation images of an epoch: themselves, or augmented as the training images are, by a draw of their own.

    Source: RWTH-IDS/efficient-binary-neural-networks, util.py: trainset and valset are parts of the same data set, with
    the same transformations.
    """
    if recipe.data.augmented != "train_valid":
        return valid
    crops = draw_crops(len(valid.labels), recipe.data.augmentation, seed, epoch, valid.name)
    return valid if crops is None else dataclasses.replace(valid, images=crops.apply(valid.images[:]))


def _evaluated_training(train: Evaluation, test: Evaluation) -> dict[str, Any]:
    """The columns of a recipe that evaluates the training images after every epoch."""
    return {
        "train_evaluation_loss": train.loss,
        "train_error": train.error,
        "train_wrong": train.wrong,
        "train_class_loss": train.class_loss,
        "train_class_wrong": train.class_wrong,
        "test_class_loss": test.class_loss,
        "test_class_wrong": test.class_wrong,
    }
