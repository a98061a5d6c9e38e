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

from benchmarks.engine import Engine, open_engine
from benchmarks.errors import RunError
from benchmarks.machine import peak_memory_mib, usable_cores
from benchmarks.protocol import DivergenceError, Progress, evaluate, train
from benchmarks.provenance import code_version
from benchmarks.recipe import Recipe, recipe_from_settings
from benchmarks.run_folder import Checkpoint, Manifest, RunFolder, SittingLog, weights_digest
from benchmarks.verdict import judge_run
from data_prep import Dataset, load
from results import record as schema
from results.errors import RegistryError
from results.files import write_atomically
from results.plots import learning_curve
from results.record import Record
from results.reference import ReferenceCurve
from results.registry import read as read_record
from results.registry import write as write_to_registry

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
    """A run's record, and where it was registered if it was."""

    folder: RunFolder
    record: Record
    registered: Path | None


@dataclass(frozen=True)
class Evaluated:
    """A test error measured again from the saved weights, beside the recorded one; errors in percent."""

    run: str
    epoch: int
    test_error: float
    test_wrong: int
    test_images: int
    recorded_error: float
    same_images_right: bool

    @property
    def agrees(self) -> bool:
        """Whether the very same images are classified correctly as when the run was recorded."""
        return self.same_images_right and self.test_error == self.recorded_error


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
) -> Outcome:
    """Start a run and carry it to its end.

    Raises:
        DataError, EngineError, RunError, RegistryError: each with one line that says what mends it.
    """
    data = _load_data(recipe, data_root)
    threads = threads or usable_cores()
    opened = open_engine(engine, recipe.model, recipe.image_shape, seed, device, threads)
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
            data=_digests(data),
        ),
    )
    with folder.lock():
        return _Run(folder, recipe, data, opened, seed, registry, reporter).carry_on(None)


def resume(folder: RunFolder, *, data_root: Path, registry: Path, reporter: Reporter) -> Outcome:
    """Continue an interrupted run from its last whole epoch, with the settings, seed and threads it began with.

    Raises:
        as `reproduce`; also RunError if the data are no longer those that the run began with.
    """
    with folder.lock():
        recipe, data, engine, manifest = _reopen(folder, data_root)
        return _Run(folder, recipe, data, engine, manifest.seed, registry, reporter).carry_on(folder.load_checkpoint())


def evaluate_run(folder: RunFolder, *, data_root: Path) -> Evaluated:
    """Measure a run's test error again, from its saved weights and the data; also of a run that is not over yet.

    Raises:
        as `resume`; also RunError before the first whole epoch.
    """
    _, data, engine, _ = _reopen(folder, data_root)
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"run {folder.name} has no whole epoch yet: `python cli.py resume {folder.name}` goes on with it"
        )
    epoch = checkpoint.progress.declared_epoch
    engine.load_parameters(folder.load_weights(epoch))
    measured = evaluate(engine, data.test)
    if folder.record_path.exists():
        record = read_record(folder.record_path)
        assert record.results is not None
        assert record.test_correct is not None
        recorded = record.results.declared.test_error
        correct = schema.unpack_bits(record.test_correct, len(data.test.labels))
    else:
        assert checkpoint.progress.test_correct is not None
        recorded, correct = checkpoint.progress.curve["test_error"][epoch - 1], checkpoint.progress.test_correct
    return Evaluated(
        run=folder.name,
        epoch=epoch,
        test_error=schema.error_percent(measured.wrong, len(measured.correct)),
        test_wrong=measured.wrong,
        test_images=len(measured.correct),
        recorded_error=recorded,
        same_images_right=np.array_equal(correct, measured.correct),
    )


def _load_data(recipe: Recipe, root: Path) -> Dataset:
    return load(
        recipe.data.dataset, root, recipe.data.preprocessing, recipe.data.train_images, recipe.data.valid_images
    )


def _digests(data: Dataset) -> dict[str, str]:
    return {split.name: split.digest for split in (data.train, data.valid, data.test)}


def _reopen(folder: RunFolder, data_root: Path) -> tuple[Recipe, Dataset, Engine, Manifest]:
    manifest = folder.manifest()
    recipe = recipe_from_settings(manifest.benchmark, manifest.settings, manifest.overrides)
    data = _load_data(recipe, data_root)
    if _digests(data) != manifest.data:
        raise RunError(
            f"run {folder.name} began with other data: expected digests {manifest.data}, found {_digests(data)}"
        )
    engine = open_engine(
        manifest.engine, recipe.model, recipe.image_shape, manifest.seed, manifest.device, manifest.threads
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
        record = self._record(checkpoint, outcome)
        write_atomically(self.folder.record_path, schema.to_bytes(record))
        registered = write_to_registry(record, self.registry) if self.recipe.scoring else None
        self._plot(checkpoint.progress)
        return Outcome(self.folder, record, registered)

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
                self.reporter.epoch_done(row, progress.declared_epoch)
        except DivergenceError as error:
            checkpoint.sittings[-1].seconds = time.perf_counter() - started
            self.reporter.diverged(str(error))
            return "diverged"
        finally:
            board.close()
            self._plot(progress)
        return "finished"

    def _reference_curve(self) -> ReferenceCurve:
        """From the registry and the other runs in the runs folder; what cannot be read there is `verify`'s business."""
        paths = [*self.registry.glob(f"{self.recipe.id}/*.json"), *self.folder.path.parent.glob("*/record.json")]
        records = []
        for path in paths:
            with contextlib.suppress(RegistryError):
                records.append(read_record(path))
        return ReferenceCurve(records, self.recipe.digest)

    def _store(self, checkpoint: Checkpoint, seconds: float) -> None:
        """Weights first, then the checkpoint that declares them: a kill in between loses nothing."""
        progress, sitting = checkpoint.progress, checkpoint.sittings[-1]
        sitting.last_epoch, sitting.seconds = progress.epoch, seconds
        checkpoint.engine = self.engine.state()
        checkpoint.peak_memory_mib = max(checkpoint.peak_memory_mib, peak_memory_mib())
        if progress.declared_epoch == progress.epoch:
            self.folder.save_weights(progress.epoch, self.engine.parameters())
        self.folder.save_checkpoint(checkpoint)
        self.folder.remove_weights_except(progress.declared_epoch)

    def _plot(self, progress: Progress) -> None:
        if progress.epoch:
            target = self.recipe.target.percent if self.recipe.target is not None and self.recipe.scoring else None
            learning_curve(progress.as_curve(), self.folder.path / "learning-curve.png", self.recipe.title, target)

    def _record(self, checkpoint: Checkpoint, outcome: str) -> Record:
        progress, recipe = checkpoint.progress, self.recipe
        curve = progress.as_curve()
        test_correct = None if progress.test_correct is None else schema.pack_bits(progress.test_correct)
        results = schema.summarize(curve, len(self.data.test.labels), test_correct, self._counted_images())
        declared = progress.declared_epoch
        content = {
            "benchmark": recipe.id,
            "paper": recipe.paper.name,
            "recipe": {
                "digest": recipe.digest,
                "settings": msgspec.to_builtins(recipe.settings),
                "scoring": recipe.scoring,
                "differences": recipe.differences,
            },
            "target": self._target(),
            "engine": self.engine.describe(),
            "sittings": checkpoint.sittings,
            "data": {split.name: self._split(split) for split in (self.data.train, self.data.valid, self.data.test)},
            "seeds": {"run": self.seed},
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
            "verdict": judge_run(recipe, results),
        }
        return schema.seal(msgspec.convert(msgspec.to_builtins(content), Record))

    def _counted_images(self) -> int:
        return schema.counted_images(msgspec.to_builtins(self.recipe.settings), len(self.data.test.labels))

    def _target(self) -> dict[str, Any]:
        target = self.recipe.target
        return {
            "test_error": None if target is None else target.percent,
            "decimals": 0 if target is None else target.decimals,
            "test_images": self._counted_images(),
            "source": "" if target is None else target.source,
            "kind": "read" if target is None else target.provenance,
        }

    def _split(self, split: Any) -> dict[str, Any]:
        return {
            "dataset": self.data.name,
            "preprocessing": self.data.preprocessing,
            "images": len(split.labels),
            "digest": split.digest,
        }


def _new_sitting(first_epoch: int) -> SittingLog:
    code = code_version()
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
        if column != "epoch":
            board.add_scalar(column.replace("_", "/", 1), value, row["epoch"])
    board.flush()
