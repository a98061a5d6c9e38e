"""Measuring again, from stored weights: of a run in its folder, or of a record with published weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET

from benchmarks.engine import open_engine
from benchmarks.errors import RunError
from benchmarks.protocol import Evaluation, evaluate
from benchmarks.recipe import Recipe, benchmark_ids, recipe_from_settings
from benchmarks.run_folder import RunFolder
from benchmarks.runner import digests, load_data, load_recorded_weights, reopen
from data_prep import Split
from results import record as schema
from results import registry as records
from results.record import Record
from results.weights import read as read_weights


@dataclass(frozen=True)
class Evaluated:
    """An error measured again, beside the recorded one where the same was recorded; errors in percent.

    Attributes:
        run: a run, or the record whose weights were published.
        epoch: the declared epoch, whose weights these are.
        split: "test" or "train".
        weights: "binary", "real" or "stochastic".
        recorded_error: None if nothing was recorded to compare with.
        same_images_right: whether the very same images are classified correctly as when the run was recorded.
    """

    run: str
    epoch: int
    split: str
    weights: str
    loss: float
    error: float
    wrong: int
    images: int
    recorded_error: float | None = None
    same_images_right: bool | None = None

    @property
    def agrees(self) -> bool:
        """Whether it is as recorded, as far as it was recorded."""
        return self.recorded_error is None or (bool(self.same_images_right) and self.error == self.recorded_error)

    @property
    def kind(self) -> str:
        return {"train": "training", "test": "test"}[self.split]

    @property
    def comparison(self) -> str:
        """What the record says of it, in words."""
        if self.recorded_error is None:
            return "nothing is recorded to compare it with"
        return "as recorded, image by image" if self.agrees else f"recorded: {self.recorded_error:.3f} %: differs"

    def as_json(self) -> dict[str, Any]:
        """For programs: "test_error", "test_wrong", ..., or "train_error", ..."""
        facts = vars(self)
        named = {f"{self.split}_{name}": facts[name] for name in ("error", "wrong", "images", "loss")}
        rest = {name: facts[name] for name in ("run", "epoch", "split", "weights")}
        return rest | named | {"recorded_error": self.recorded_error, "same_images_right": self.same_images_right}


def evaluate_run(
    folder: RunFolder, *, data_root: Path, first: int | None = None, weights: str | None = None
) -> Evaluated:
    """Measure a run's test error again, from its saved weights and the data; also of a run that is not over yet.

    Args:
        first: evaluate so many training images instead, the first ones, with the labels that the run trained on.
        weights: evaluate with other weights than the recipe's: "binary" or "real".

    Raises:
        RunError: before the first stored epoch, if the data are no longer those that the run began with, or if there
            are fewer training images.
        RecipeError: the network has no such weights.
        DataError, EngineError: as `runner.resume`.

    Source of `first` and `weights`: hockeybro12/BinaryNetGeneralizationExperiments@73ed87d,
    SVHN/svhn_evaluation_random_labels.py, which evaluates 7,000 training images with the signs of the weights.
    """
    recipe, data, engine, manifest = reopen(folder, data_root, weights)
    epoch, recorded, parameters = _declared(folder, recipe)
    engine.load_parameters(parameters)
    used = recipe.model.evaluation_weights
    if first is not None:
        measured = evaluate(engine, _first(data.train, first), recipe)
        return _evaluated(folder.name, epoch, "train", used, measured)
    measured = evaluate(engine, data.test, recipe)
    if used != manifest.settings["model"]["evaluation_weights"]:
        return _evaluated(folder.name, epoch, "test", used, measured)
    return _evaluated(folder.name, epoch, "test", used, measured, *recorded)


def evaluate_published(
    path: Path, *, registry: Path, data_root: Path, engine: str | None, device: str | None, threads: int | None
) -> Evaluated:
    """Measure the test error of a record from the weights published with it, on the recorded engine or another one.

    Args:
        path: of the record.

    Raises:
        RegistryError: the record has no published weights, or they are damaged.
        RunError: the test images are not those of the record.
        DataError, EngineError: as `runner.reproduce`.
    """
    record = records.read(path)
    parameters = read_weights(record, registry)
    recipe = recipe_from_settings(record.benchmark, record.recipe.settings, {})
    data = load_data(recipe, data_root, record.seed)
    if data.test.digest != record.data.test.digest:
        raise RunError(
            f"record {record.id} was measured on other test images: expected digest {record.data.test.digest}, found"
            f" {digests(data)['test']}"
        )
    as_recorded = engine is None and device is None
    opened = open_engine(
        engine or record.engine.name,
        recipe.model,
        recipe.image_shape,
        record.seed,
        device or record.engine.device,
        threads,
        precision=record.engine.precision if as_recorded else "float32",
    )
    opened.load_parameters(parameters)
    measured = evaluate(opened, data.test, recipe)
    name, epoch, error, correct = f"{record.benchmark}/{record.id}", *_of_record(record)
    return _evaluated(name, epoch, "test", recipe.model.evaluation_weights, measured, error, correct)


def find_published(registry: Path, text: str) -> Path:
    """The record with published weights that a user means: a record's file, the beginning of its id, or a benchmark.

    Raises:
        RegistryError: there is no such record.
        RunError: none of the benchmark's records has published weights, or several have.
    """
    of_benchmark = [
        path
        for path, record in records.read_all(registry, lambda _: None)  # what is wrong there, `verify` says
        if record.benchmark == text and record.published_weights is not UNSET
    ]
    if len(of_benchmark) == 1:
        return of_benchmark[0]
    if of_benchmark:
        names = ", ".join(path.stem for path in of_benchmark)
        raise RunError(f"{len(of_benchmark)} records of {text} have published weights: name one of {names}")
    if text in benchmark_ids():
        raise RunError(
            f"no record of {text} under {registry} has published weights: `python cli.py reproduce {text}` makes one"
            " where evaluation needs the signs of the weights alone"
        )
    return records.find(registry, text)


def _first(train: Split, count: int) -> Split:
    if count > len(train.labels):
        raise RunError(f"the run has {len(train.labels):,} training images: asked for the first {count:,}")
    return Split(train.name, train.images[:count], train.labels[:count], "")


def _declared(folder: RunFolder, recipe: Recipe) -> tuple[int, tuple[float, np.ndarray], dict[str, np.ndarray]]:
    """The declared epoch of the record, or of the run so far; its test error, which images were right; its weights."""
    record = folder.record()
    if record is not None and record.results is not None:
        epoch, error, correct = _of_record(record)
        return epoch, (error, correct), load_recorded_weights(folder, record, epoch)
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"run {folder.name} has no stored epoch yet: `python cli.py resume {folder.name}` goes on with it"
        )
    progress = checkpoint.progress
    epoch = progress.declared_epoch(recipe)
    assert progress.test_correct is not None
    return epoch, (progress.curve["test_error"][epoch - 1], progress.test_correct), folder.load_weights(epoch)


def _of_record(record: Record) -> tuple[int, float, np.ndarray]:
    """Declared epoch, its test error, and which test images were right."""
    assert record.results is not None
    assert record.test_correct is not None
    point = record.results.declared
    return point.epoch, point.test_error, schema.unpack_bits(record.test_correct, point.test_images)


def _evaluated(
    run: str,
    epoch: int,
    split: str,
    weights: str,
    measured: Evaluation,
    recorded_error: float | None = None,
    correct: np.ndarray | None = None,
) -> Evaluated:
    return Evaluated(
        run=run,
        epoch=epoch,
        split=split,
        weights=weights,
        loss=measured.loss,
        error=measured.error,
        wrong=measured.wrong,
        images=len(measured.correct),
        recorded_error=recorded_error,
        same_images_right=None if correct is None else np.array_equal(correct, measured.correct),
    )
