"""reproduce: data -> engine -> protocol -> record -> verdict, in a folder from which any interruption is resumed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.engine import Engine, compile_option, open_engine
from benchmarks.engine.publication import publishable, rounds
from benchmarks.errors import RunError
from benchmarks.machine.facts import peak_memory_mib, usable_cores
from benchmarks.machine.self_test import check_arithmetic
from benchmarks.recipe import Recipe, recipe_from_settings
from benchmarks.recipe.settings import flatten, named_settings, setting_text
from benchmarks.run.data import digests, load_data, other_data
from benchmarks.run.digest import weights_digest
from benchmarks.run.epochs import epoch_ends, rows_of
from benchmarks.run.folder import RunFolder, read_sealed_record
from benchmarks.run.protocol import DivergenceError, TrainingState, evaluate, train
from benchmarks.run.provenance import changed_files, check_unchanged, code_at_start
from benchmarks.run.published_curve import compare_curves, published_curve
from benchmarks.run.published_file import content_of
from benchmarks.run.recording import make_record
from benchmarks.run.reporting import Outcome, Reporter
from benchmarks.run.sittings import changes_since, engine_as_json, new_sitting
from benchmarks.run.state import Checkpoint, Manifest, SittingLog
from benchmarks.run.tensorboard_log import TensorBoardLog
from benchmarks.verdict import judge_run
from data_prep import Dataset
from results.errors import RegistryFileError
from results.packed_weights import unpack
from results.record import Record, checks
from results.registry import add as add_to_registry
from results.registry import registered_path
from results.registry import write as write_to_registry
from results.views.plots import learning_curve
from results.views.reference import ReferenceCurve

# A checkpoint is written after an epoch if writing the last one took at most this share of the time since then: a run
# is slowed down by no more. A small network writes in milliseconds, and stores every epoch that takes a second. A large
# one (450 MB beside epochs of seconds) stores once a minute, whatever its share: a kill loses a minute, or one epoch.
LARGEST_SHARE = 0.05
LONGEST = 60.0  # seconds
# How often the present sitting's time is written down within epochs: as much of it may be missing after a kill.
SITTING_SECONDS = 10.0


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
            settings=named_settings(recipe.settings, recipe.stated),
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
    folder.notify = reporter.note
    with folder.lock(), _going_on_after_storage_errors(folder):
        return _Run(folder, recipe, data, opened, seed, registry, reporter).carry_on(None)


def resume(
    folder: RunFolder, *, data_root: Path, registry: Path, reporter: Reporter, allow_change: bool = False
) -> Outcome:
    """Continue an interrupted run from its last stored epoch, with settings, seed, threads and precision as it began.

    One that is over is not trained again: its record is what there is, and is registered if the registry lacks it.

    Args:
        allow_change: go on though the code, the engine's versions, or what it computes on, are not those of the last
            sitting. The record tells it of every sitting.

    Raises:
        as `reproduce`; also RunError if the data are no longer those that the run began with, or if something changed.
    """
    folder.notify = reporter.note
    with folder.lock(), _going_on_after_storage_errors(folder):
        folder.sweep()
        if (record := folder.record()) is not None:
            return _recorded(folder, record, registry)
        checkpoint = folder.load_checkpoint()
        threads = _threads(folder, allow_change)
        recipe, data, engine, manifest = reopen(folder, data_root, threads)
        check_unchanged()
        if checkpoint is not None and checkpoint.sittings and not allow_change:
            _refuse_changes(folder, checkpoint.sittings[-1], engine)
        return _Run(folder, recipe, data, engine, manifest.seed, registry, reporter).carry_on(checkpoint)


@contextlib.contextmanager
def _going_on_after_storage_errors(folder: RunFolder) -> Iterator[None]:
    """A full disk ends a sitting, not the run."""
    try:
        yield
    except RegistryFileError as error:
        raise RunError(f"{error}, then go on with `python cli.py resume {folder.name}`") from error


def _refuse_changes(folder: RunFolder, before: SittingLog, engine: Engine) -> None:
    """Raises RunError if another code, version or machine would go on with a run."""
    if changes := changes_since(before, engine_as_json(engine.describe()), code_at_start()):
        raise RunError(
            f"run {folder.name} would go on with other {', '.join(changes)}: to allow it, and have its record tell it,"
            f" `python cli.py resume {folder.name} --allow-change`"
        )


def _recorded(folder: RunFolder, record: Record, registry: Path) -> Outcome:
    """The outcome of a run that is over, by its record."""
    manifest = folder.manifest()
    recipe = recipe_from_settings(manifest.benchmark, manifest.settings, manifest.overrides)
    folder.tidy(record)
    registered = None
    if record.recipe.scoring and (registered := registered_path(record, registry)) is None:
        weights = None
        if record.published_weights:
            assert record.results is not None
            weights = publishable(recipe, load_recorded_weights(folder, record, record.results.declared.epoch))
        registered = add_to_registry(folder.record_path.read_bytes(), registry, weights, content_of)
    published = published_curve(recipe)
    return Outcome(folder, record, registered, compare_curves(record.curve, published) if published else None)


def load_recorded_weights(folder: RunFolder, record: Record, epoch: int) -> dict[str, np.ndarray]:
    """The parameters of the epoch that a run's record declares.

    Raises:
        RunError: they cannot be read, or are not those that the record names.
    """
    parameters = folder.load_weights(epoch)
    if (found := weights_digest(parameters)) != record.weights_sha256:
        raise RunError(
            f"the weights of run {folder.name} are not those of its record: expected SHA-256 {record.weights_sha256},"
            f" found {found}"
        )
    return parameters


def _threads(folder: RunFolder, allow_change: bool) -> int:
    """As many as the run began with; fewer, where there are not so many cores, if that is allowed: bits depend on it.

    Raises:
        RunError: there are fewer, and it is not.
    """
    threads, cores = folder.manifest().threads, usable_cores()
    if threads > cores and not allow_change:
        raise RunError(
            f"run {folder.name} computes with {threads} threads, and here are {cores} cores: to go on with so many, and"
            f" have its record tell it, `python cli.py resume {folder.name} --allow-change`"
        )
    return min(threads, cores)


def reopen(folder: RunFolder, data_root: Path, threads: int) -> tuple[Recipe, Dataset, Engine, Manifest]:
    """What a run began with: recipe, data, a fresh engine with so many threads, manifest.

    Raises:
        RunError: the data are no longer those that the run began with.
    """
    manifest = folder.manifest()
    recipe = recipe_from_settings(manifest.benchmark, manifest.settings, manifest.overrides)
    data = load_data(recipe, data_root, manifest.seed)
    if digests(data) != manifest.data:
        reason = other_data(recipe, manifest.seed, manifest.data, digests(data))
        raise RunError(f"run {folder.name} began with other data: {reason}")
    engine = open_engine(
        manifest.engine,
        recipe.model,
        recipe.image_shape,
        manifest.seed,
        manifest.device,
        threads,
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
        self._unsaved: tuple[int, dict[str, np.ndarray]] | None = None  # the declared epoch and its parameters
        self._board: TensorBoardLog | None = None
        self._started = time.perf_counter()
        self._stored, self._storing, self._noted = self._started, 0.0, self._started

    def carry_on(self, checkpoint: Checkpoint | None) -> Outcome:
        """Train what is left, then write the record."""
        sittings = self.folder.sittings(checkpoint)
        if checkpoint is None:
            progress = TrainingState(order=np.arange(len(self.data.train.labels)))
            checkpoint = Checkpoint(engine={}, progress=progress, sittings=sittings, peak_memory_mib=0.0)
        else:
            self.engine.load_state(checkpoint.engine)
            checkpoint.sittings = sittings
        outcome = "finished"
        try:
            if checkpoint.progress.epoch < self.recipe.train.epochs:
                outcome = self._train(checkpoint)
        finally:
            self._plot(checkpoint.progress)
        weights, unpublished = self._published_weights(checkpoint) if outcome == "finished" else (None, "")
        if (
            checkpoint.sittings[-1].engine is None
        ):  # a run that an earlier version trained to its end, and did not record
            checkpoint.sittings[-1].engine = engine_as_json(self.engine.describe())
        record = make_record(self.recipe, self.data, self.seed, self.folder, checkpoint, outcome, weights, unpublished)
        self.folder.save_record(record)
        if self._board is not None:
            verdict = judge_run(record, self.recipe.target)
            self._board.say("verdict", f"{verdict.word}: {verdict.explanation}")
        registered = write_to_registry(record, self.registry, weights, content_of) if self.recipe.scoring else None
        comparison = compare_curves(record.curve, self.published_curve) if self.published_curve else None
        return Outcome(self.folder, record, registered, comparison)

    def _train(self, checkpoint: Checkpoint) -> str:
        progress = checkpoint.progress
        past = list(zip(epoch_ends(checkpoint), rows_of(progress), strict=True))
        code = code_at_start()
        if code.diff_sha256 is not None:
            self.folder.save_code(code.diff_sha256, changed_files(code))
        checkpoint.sittings.append(new_sitting(progress.epoch + 1, self.engine.describe(), code))
        self._note_sitting(checkpoint)
        reference = self._reference_curve()
        self.reporter.run_started(self.folder, self.recipe, self.engine.describe(), progress.epoch, reference)
        texts = self._as_texts()
        self._board = board = TensorBoardLog(self.folder.path / "tensorboard", past, texts, self.reporter.note)

        def batch_done(batches: int, loss: float) -> None:
            self.reporter.batch_done(batches, loss)
            if time.perf_counter() - self._noted >= SITTING_SECONDS:
                self._note_sitting(checkpoint)

        try:
            for parameters in train(self.engine, self.recipe, self.data, self.seed, progress, batch_done):
                self._epoch_ended(checkpoint, parameters)
                row = {column: values[-1] for column, values in progress.curve.items()}
                board.add(row)
                self.reporter.epoch_done(row, progress.declared_epoch(self.recipe))
        except DivergenceError as error:
            self._save_weights()
            self.reporter.diverged(str(error))
            return "diverged"
        finally:
            self._note_sitting(checkpoint)
        return "finished"

    def _as_texts(self) -> dict[str, str]:
        """What the TensorBoard log says of the run, as Markdown."""
        recipe, target = self.recipe, self.recipe.target
        settings = "\n".join(f"| {key} | {setting_text(value)} |" for key, value in flatten(recipe.settings).items())
        aim = "no published target" if target is None else f"{target.test_error} % test error; {target.source}"
        scores = "scores" if recipe.scoring else "does not score: its settings are not the published ones"
        return {"settings": f"| setting | value |\n|---|---|\n{settings}", "target": f"{aim}; this run {scores}"}

    def _note_sitting(self, checkpoint: Checkpoint) -> None:
        """So that a sitting is counted, with its time, whatever ends it."""
        self._noted = time.perf_counter()
        checkpoint.sittings[-1].seconds = self._noted - self._started
        self.folder.save_sittings(checkpoint.sittings)

    def _reference_curve(self) -> ReferenceCurve:
        """The curve that the registry, the other runs in the runs folder and the authors' published curve make.

        Of the records there, those without problems: what is wrong with the others is `verify`'s business, and nothing
        in them may end this run.
        """
        paths = [*self.registry.glob(f"{self.recipe.id}/*.json"), *self.folder.path.parent.glob("*/record.json")]
        records = []
        for path in paths:
            with contextlib.suppress(Exception):
                record = read_sealed_record(path)
                if not checks.problems(record):
                    records.append(record)
        valid_images = len(self.data.valid.labels)
        return ReferenceCurve(records, self.recipe.digest, self.published_curve or (), valid_images)

    def _epoch_ended(self, checkpoint: Checkpoint, parameters: dict[str, np.ndarray]) -> None:
        """Keep the parameters if they are now the declared ones; store, if it is time.

        Raises:
            EngineError: a library that was loaded in the meantime has set the processor otherwise; nothing is kept.
        """
        check_arithmetic()
        progress, sitting, now = checkpoint.progress, checkpoint.sittings[-1], time.perf_counter()
        sitting.last_epoch, sitting.seconds = progress.epoch, now - self._started
        checkpoint.peak_memory_mib = max(checkpoint.peak_memory_mib, peak_memory_mib())
        if progress.declared_epoch(self.recipe) == progress.epoch:
            self._unsaved = progress.epoch, parameters
        since = now - self._stored
        is_last = progress.epoch == self.recipe.train.epochs
        if is_last or since >= LONGEST or self._storing <= LARGEST_SHARE * since:
            self._store(checkpoint)

    def _store(self, checkpoint: Checkpoint) -> None:
        """Weights first, then the checkpoint that declares them: a kill in between loses nothing."""
        began = time.perf_counter()
        self._save_weights()
        checkpoint.engine = self.engine.state()
        self.folder.save_checkpoint(checkpoint)
        self._stored = time.perf_counter()
        self._storing = self._stored - began

    def _save_weights(self) -> None:
        """Write the declared epoch's parameters, unless they are there."""
        if self._unsaved is not None:
            self.folder.save_weights(*self._unsaved)
            self._unsaved = None

    def _plot(self, progress: TrainingState) -> None:
        if progress.epoch:
            target = self.recipe.target.percent if self.recipe.target is not None and self.recipe.scoring else None
            path, declared = self.folder.path / "learning-curve.png", progress.declared_epoch(self.recipe)
            learning_curve(progress.as_curve(), declared, path, self.recipe.title, target, self.published_curve)

    def _published_weights(self, checkpoint: Checkpoint) -> tuple[bytes | None, str]:
        """The declared network's weights as they are published with the record of a scoring run, if they are.

        If the recipe has such weights and they are not published: also why, as the record tells it. They are not before
        the network made of them has got the very same test images right.

        Raises:
            RunError: it has not, though the same engine and machine evaluated the declared epoch, and no number was
                rounded.
        """
        recipe, progress = self.recipe, checkpoint.progress
        if not recipe.scoring:
            return None, ""
        epoch = progress.declared_epoch(recipe)
        packed = publishable(recipe, self.folder.load_weights(epoch))
        if packed is None:
            return None, ""
        self.engine.load_parameters(unpack(packed, self.folder.name))
        again = evaluate(self.engine, self.data.test, recipe)
        assert progress.test_correct is not None
        differing = np.count_nonzero(again.correct != progress.test_correct)
        if not differing:
            return packed, ""
        published = "published as float16" if rounds(recipe) else "published"
        found = (
            f"{differing} of {len(again.correct):,} test images come out otherwise with the weights to be {published}"
            f" than in epoch {epoch} (error {again.error:.3f} %, was {progress.curve['test_error'][epoch - 1]:.3f} %)"
        )
        evaluated_by = next(s.engine for s in checkpoint.sittings if s.first_epoch <= epoch <= s.last_epoch)
        on_the_same = evaluated_by == engine_as_json(self.engine.describe())
        if on_the_same and not rounds(recipe):
            raise RunError(
                f"run {self.folder.name}: {found}, on the same engine and machine: nothing is recorded;"
                f" `python cli.py doctor` examines them, `python cli.py resume {self.folder.name}` tries again"
            )
        reason = found if on_the_same else f"{found}, by another machine or other versions"
        self.reporter.note(f"the weights are not published: {reason}")
        return None, reason
