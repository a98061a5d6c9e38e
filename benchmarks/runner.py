"""reproduce: data -> engine -> protocol -> record -> verdict, in a folder from which any interruption is resumed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from benchmarks.engine import Engine, compile_option, open_engine
from benchmarks.errors import RunError
from benchmarks.machine import peak_memory_mib, usable_cores
from benchmarks.protocol import DivergenceError, Progress, evaluate, train
from benchmarks.provenance import check_unchanged, code_at_start
from benchmarks.publication import publishable
from benchmarks.published_curve import CurveComparison, compare_curves, published_curve
from benchmarks.recipe import CLASSES, Recipe, apply_overrides, recipe_from_settings
from benchmarks.run_folder import Checkpoint, Manifest, RunFolder, SittingLog, weights_digest
from benchmarks.verdict import judge_run
from data_prep import Dataset, Split, load
from data_prep.memorization import memorized
from results import record as schema
from results.errors import RegistryError
from results.files import write_atomically
from results.plots import learning_curve
from results.record import Record
from results.reference import ReferenceCurve
from results.registry import read as read_record
from results.registry import write as write_to_registry
from results.weights import described, unpack

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class Reporter(Protocol):
    """Who is told how a run goes."""

    def run_started(
        self, folder: RunFolder, recipe: Recipe, engine: dict[str, Any], epochs_done: int, reference: ReferenceCurve
    ) -> None:
        """Data and engine are ready; `epochs_done` is above 0 if the run goes on; `reference` is of earlier runs."""

    def batch_done(self, batches: int, loss: float) -> None:
        """So many batches of the present epoch are done."""

    def epoch_done(self, row: dict[str, Any], declared_epoch: int) -> None:
        """One entry of the curve, and which epoch would be declared now."""

    def diverged(self, message: str) -> None:
        """The run is over because a loss is no finite number."""


@dataclass(frozen=True)
class Outcome:
    """A run's record, where it was registered if it was, and how its curve lies to the authors' if they publish it."""

    folder: RunFolder
    record: Record
    registered: Path | None
    comparison: CurveComparison | None = None


def reproduce(
    recipe: Recipe,
    *,
    data_root: Path,
    runs_root: Path,
    registry: Path,
    seed: int,
    engine: str,
    device: str,
    threads: int | None,
    reporter: Reporter,
    precision: str = "float32",
    compile: str = "auto",
) -> Outcome:
    """Start a run and carry it to its end.

    Raises:
        DataError, EngineError, RunError, RegistryError: each with one line that says what mends it.
    """
    data = load_data(recipe, data_root, seed)
    threads = threads or usable_cores()
    opened = open_engine(engine, recipe.model, recipe.image_shape, seed, device, threads, precision, compile)
    check_unchanged()  # now that all of it is loaded, and before there is a folder
    folder = RunFolder.create(
        runs_root,
        Manifest(
            benchmark=recipe.id,
            settings=msgspec.to_builtins(recipe.settings),
            overrides=recipe.overrides,
            seed=seed,
            engine=engine,
            device=device,
            threads=threads,
            data=digests(data),
            precision=precision,
            compile=compile_option(opened),
        ),
    )
    with folder.lock():
        return _Run(folder, recipe, data, opened, seed, registry, reporter).carry_on(None)


def resume(folder: RunFolder, *, data_root: Path, registry: Path, reporter: Reporter) -> Outcome:
    """Continue an interrupted run from its last whole epoch, with settings, seed, threads and precision as it began.

    One that has diverged is not trained again: its record is what there is.

    Raises:
        as `reproduce`; also RunError if the data are no longer those that the run began with.
    """
    with folder.lock():
        if folder.record_path.exists() and (record := read_record(folder.record_path)).outcome == "diverged":
            registered = write_to_registry(record, registry, None) if record.recipe.scoring else None
            return Outcome(folder, record, registered)
        recipe, data, engine, manifest = reopen(folder, data_root)
        check_unchanged()
        return _Run(folder, recipe, data, engine, manifest.seed, registry, reporter).carry_on(folder.load_checkpoint())


def load_data(recipe: Recipe, root: Path, seed: int) -> Dataset:
    """The recipe's data; what of them is drawn at random is a function of the run's seed."""
    settings = recipe.data
    data = load(
        settings.dataset,
        root,
        settings.preprocessing,
        settings.train_images,
        settings.valid_images,
        split_seed=seed if settings.split == "random" else None,
        subset=settings.subset,
    )
    return memorized(data, settings.labels, settings.inputs, seed)


def digests(data: Dataset) -> dict[str, str]:
    """The digest of each split."""
    return {split.name: split.digest for split in (data.train, data.valid, data.test)}


def reopen(
    folder: RunFolder, data_root: Path, evaluation_weights: str | None = None
) -> tuple[Recipe, Dataset, Engine, Manifest]:
    """What a run began with: recipe, data, a fresh engine, manifest; with other evaluation weights if they are named.

    Raises:
        RunError: the data are no longer those that the run began with.
        RecipeError: the network has no such evaluation weights.
    """
    manifest = folder.manifest()
    recipe = recipe_from_settings(manifest.benchmark, manifest.settings, manifest.overrides)
    if evaluation_weights is not None:
        recipe = apply_overrides(recipe, [(f"model.evaluation_weights={evaluation_weights}", "--weights")])
    data = load_data(recipe, data_root, manifest.seed)
    if digests(data) != manifest.data:
        raise RunError(
            f"run {folder.name} began with other data: expected digests {manifest.data}, found {digests(data)}"
        )
    engine = open_engine(
        manifest.engine,
        recipe.model,
        recipe.image_shape,
        manifest.seed,
        manifest.device,
        manifest.threads,
        manifest.precision,
        manifest.compile,
    )
    return recipe, data, engine, manifest


class _Run:
    """One sitting of a run."""

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        data: Dataset,
        engine: Engine,
        seed: int,
        registry: Path,
        reporter: Reporter,
    ) -> None:
        self.folder, self.recipe, self.data, self.engine = folder, recipe, data, engine
        self.seed, self.registry, self.reporter = seed, registry, reporter
        self.published_curve = published_curve(recipe)

    def carry_on(self, checkpoint: Checkpoint | None) -> Outcome:
        """Train what is left, then write the record."""
        if checkpoint is None:
            progress = Progress(order=np.arange(len(self.data.train.labels)))
            checkpoint = Checkpoint(engine={}, progress=progress, sittings=[], peak_memory_mib=0.0)
        else:
            self.engine.load_state(checkpoint.engine)
        outcome = "finished"
        if checkpoint.progress.epoch < self.recipe.train.epochs:
            outcome = self._train(checkpoint)
        weights = self._published_weights(checkpoint.progress) if outcome == "finished" else None
        record = self._record(checkpoint, outcome, weights)
        write_atomically(self.folder.record_path, schema.to_bytes(record))
        registered = write_to_registry(record, self.registry, weights) if self.recipe.scoring else None
        self._plot(checkpoint.progress)
        comparison = compare_curves(record.curve, self.published_curve) if self.published_curve else None
        return Outcome(self.folder, record, registered, comparison)

    def _train(self, checkpoint: Checkpoint) -> str:
        progress = checkpoint.progress
        started = time.perf_counter()
        checkpoint.sittings.append(_new_sitting(progress.epoch + 1))
        reference = self._reference_curve()
        self.reporter.run_started(self.folder, self.recipe, self.engine.describe(), progress.epoch, reference)
        board = _tensorboard(self.folder.path / "tensorboard", progress.epoch + 1)
        try:
            for _ in train(self.engine, self.recipe, self.data, self.seed, progress, self.reporter.batch_done):
                self._store(checkpoint, time.perf_counter() - started)
                row = {column: values[-1] for column, values in progress.curve.items()}
                _log(board, row)
                self.reporter.epoch_done(row, progress.declared_epoch(self.recipe))
        except DivergenceError as error:
            checkpoint.sittings[-1].seconds = time.perf_counter() - started
            self.reporter.diverged(str(error))
            return "diverged"
        finally:
            board.close()
            self._plot(progress)
        return "finished"

    def _reference_curve(self) -> ReferenceCurve:
        """From the registry, the other runs in the runs folder and the authors' published curve.

        What cannot be read there is `verify`'s business.
        """
        paths = [*self.registry.glob(f"{self.recipe.id}/*.json"), *self.folder.path.parent.glob("*/record.json")]
        records = []
        for path in paths:
            with contextlib.suppress(RegistryError):
                records.append(read_record(path))
        valid_images = len(self.data.valid.labels)
        return ReferenceCurve(records, self.recipe.digest, self.published_curve or (), valid_images)

    def _store(self, checkpoint: Checkpoint, seconds: float) -> None:
        """Weights first, then the checkpoint that declares them: a kill in between loses nothing."""
        progress, sitting = checkpoint.progress, checkpoint.sittings[-1]
        sitting.last_epoch, sitting.seconds = progress.epoch, seconds
        checkpoint.engine = self.engine.state()
        checkpoint.peak_memory_mib = max(checkpoint.peak_memory_mib, peak_memory_mib())
        declared = progress.declared_epoch(self.recipe)
        if declared == progress.epoch:
            self.folder.save_weights(progress.epoch, self.engine.parameters())
        self.folder.save_checkpoint(checkpoint)
        self.folder.remove_weights_except(declared)

    def _plot(self, progress: Progress) -> None:
        if progress.epoch:
            target = self.recipe.target.percent if self.recipe.target is not None and self.recipe.scoring else None
            path, declared = self.folder.path / "learning-curve.png", progress.declared_epoch(self.recipe)
            learning_curve(progress.as_curve(), declared, path, self.recipe.title, target, self.published_curve)

    def _published_weights(self, progress: Progress) -> bytes | None:
        """The declared network's weights as they are published with the record of a scoring run, if they are.

        Not before the network made of them has got the very same test images right.
        """
        recipe = self.recipe
        if not recipe.scoring:
            return None
        packed = publishable(recipe, self.folder.load_weights(progress.declared_epoch(recipe)))
        if packed is None:
            return None
        self.engine.load_parameters(unpack(packed, self.folder.name))
        again = evaluate(self.engine, self.data.test, recipe)
        assert progress.test_correct is not None
        return packed if np.array_equal(again.correct, progress.test_correct) else None

    def _record(self, checkpoint: Checkpoint, outcome: str, weights: bytes | None) -> Record:
        progress, recipe = checkpoint.progress, self.recipe
        curve, settings = progress.as_curve(), msgspec.to_builtins(recipe.settings)
        test_correct = None if progress.test_correct is None else schema.pack_bits(progress.test_correct)
        results = schema.summarize(curve, len(self.data.test.labels), test_correct, settings)
        declared = progress.declared_epoch(recipe)
        content = {
            "benchmark": recipe.id,
            "paper": recipe.paper.name,
            "recipe": {
                "digest": recipe.digest,
                "settings": settings,
                "scoring": recipe.scoring,
                "differences": recipe.differences,
            },
            "target": self._target(),
            "engine": self.engine.describe(),
            "sittings": checkpoint.sittings,
            "data": {split.name: self._split(split) for split in (self.data.train, self.data.valid, self.data.test)},
            "seeds": schema.seeds_of(settings, self.seed),
            "curve": curve,
            "results": results,
            "test_correct": test_correct,
            "weights_sha256": weights_digest(self.folder.load_weights(declared)) if declared else None,
            "times": {
                "train_seconds": progress.train_seconds,
                "evaluate_seconds": progress.evaluate_seconds,
                "total_seconds": sum(sitting.seconds for sitting in checkpoint.sittings),
            },
            "peak_memory_mib": checkpoint.peak_memory_mib,
            "restarts": len(checkpoint.sittings) - 1,
            "outcome": outcome,
            "verdict": judge_run(recipe, results, outcome),
        }
        if weights is not None:
            content["published_weights"] = described(weights)
        return schema.seal(msgspec.convert(msgspec.to_builtins(content), Record))

    def _counted_images(self) -> int:
        return schema.counted_images(msgspec.to_builtins(self.recipe.settings), len(self.data.test.labels))

    def _target(self) -> dict[str, Any]:
        target = self.recipe.target
        return {
            "test_error": None if target is None else target.percent,
            "decimals": 2 if target is None else target.decimals,
            "test_images": self._counted_images(),
            "source": "" if target is None else target.source,
            "kind": "read" if target is None else target.provenance,
        }

    def _split(self, split: Split) -> dict[str, Any]:
        facts = {
            "dataset": self.data.name,
            "preprocessing": self.data.preprocessing,
            "images": len(split.labels),
            "digest": split.digest,
        }
        if self.recipe.protocol.evaluates_training and split is not self.data.valid:
            facts["class_images"] = np.bincount(split.labels, minlength=CLASSES).tolist()
        return facts


def _new_sitting(first_epoch: int) -> SittingLog:
    code = code_at_start()
    return SittingLog(
        commit=code.commit,
        dirty=code.dirty,
        diff_sha256=code.diff_sha256,
        first_epoch=first_epoch,
        last_epoch=first_epoch - 1,
        seconds=0.0,
        started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _tensorboard(folder: Path, first_epoch: int) -> SummaryWriter:
    """A writer that continues at `first_epoch`, dropping what an interrupted sitting may have logged beyond it."""
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_epoch)


def _log(board: SummaryWriter, row: dict[str, Any]) -> None:
    for column, value in row.items():
        name = column.replace("_", "/", 1)
        if isinstance(value, list):  # by class
            for label, of_class in enumerate(value):
                if of_class is not None:
                    board.add_scalar(f"{name}/{label}", of_class, row["epoch"])
        elif column != "epoch":
            board.add_scalar(name, value, row["epoch"])
    board.flush()
