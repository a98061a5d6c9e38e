"""Measuring again, from stored weights: of a run in its folder, or of a record with published weights.

What is measured is compared with what was recorded, image by image. Where the recorded engine, device, versions and
threads compute it from data of the same digest, every image must come out as it did. Anything else, another processor
too, adds up in another order, and a difference in the last bit decides an image whose two highest scores are nearly
equal, or the sign of an activation that is nearly 0. There, up to `accepted_images` may come out otherwise: 1 in 1,000,
ten of MNIST's 10,000, a change of the error of at most .1 points, which is far below the binomial standard error of a
few percent; and two at least, where 1 in 1,000 is none. Weights that are not the recorded ones, or images prepared
otherwise, change hundreds. What was accepted is always said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET, to_builtins

from benchmarks.engine import Engine, choose, installed_engines, open_engine
from benchmarks.errors import EngineError, RunError
from benchmarks.machine.facts import nvidia_gpus, usable_cores
from benchmarks.recipe import Recipe, apply_overrides, benchmark_ids, recipe_from_settings
from benchmarks.run.data import begin_anew, digests, is_computed_on_the_machine, load_data, other_data
from benchmarks.run.evaluated import Evaluated, Recorded, differences
from benchmarks.run.folder import RunFolder
from benchmarks.run.protocol import Evaluation, evaluate
from benchmarks.run.provenance import code_at_start
from benchmarks.run.runner import load_recorded_weights
from data_prep import DataError, Dataset, Split
from results import record as schema
from results import registry as records
from results.entries import Entry
from results.record import Record
from results.record.utc import now
from results.reevaluations import Reevaluation
from results.weights import LARGEST
from results.weights import read as read_weights

# How often to read again what a training process was replacing, and how long to wait in between.
ATTEMPTS, PAUSE_SECONDS = 20, 0.05
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What a user wants to compute with; None: as recorded where this machine can, else what it has."""

    engine: str | None = None
    device: str | None = None
    threads: int | None = None


def evaluate_run(
    folder: RunFolder,
    *,
    data_root: Path,
    first: int | None = None,
    weights: str | None = None,
    asked: Asked | None = None,
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
    manifest = folder.manifest()
    recipe = recipe_from_settings(manifest.benchmark, manifest.settings, manifest.overrides)
    if weights is not None:
        recipe = apply_overrides(recipe, [(f"model.evaluation_weights={weights}", "--weights")])
    recorded, parameters = _declared(folder, recipe)
    data = load_data(recipe, data_root, manifest.seed)
    otherwise = _check_data(
        f"run {folder.name} began with other data", recipe, manifest.seed, manifest.data, data, folder.notify
    )
    began = {name: getattr(manifest, name) for name in ("device", "threads", "precision", "compile")}
    engine = _open(recipe, manifest.seed, began | {"name": manifest.engine}, asked or Asked(), folder.notify)
    engine.load_parameters(parameters)
    if first is not None:
        split = _first(data.train, first)
        return _evaluated(folder.name, recorded.epoch, split, recipe, engine, evaluate(engine, split, recipe))
    measured = evaluate(engine, data.test, recipe)
    is_recorded = recipe.model.evaluation_weights == manifest.settings["model"]["evaluation_weights"]
    return _evaluated(
        folder.name, recorded.epoch, data.test, recipe, engine, measured, recorded if is_recorded else None, otherwise
    )


def evaluate_published(
    path: Path,
    *,
    registry: Path,
    data_root: Path,
    asked: Asked | None = None,
    notify: Notify,
) -> Evaluated:
    """Measure the test error of a record from the weights published with it, on the recorded engine or another one.

    Args:
        path: of the record.
        notify: is told, in one line each, what is not as it was recorded.

    Raises:
        RegistryError: the record has no published weights, or they are damaged.
        RunError: the test images are not those of the record.
        DataError, EngineError: as `runner.reproduce`.
    """
    record = records.read(path)
    parameters = read_weights(record, registry)
    recipe = recipe_from_settings(record.benchmark, record.recipe.named_settings, {})
    data = load_data(recipe, data_root, record.seed)
    complaint = f"record {record.id} was measured on other test images"
    otherwise = _check_data(complaint, recipe, record.seed, {"test": record.data.test.digest}, data, notify)
    recorded = _of_record(record)
    began = to_builtins(record.engine) | {"compile": "on" if "torch.compile" in record.engine.features else "off"}
    engine = _open(recipe, record.seed, began, asked or Asked(), notify)
    engine.load_parameters(parameters)
    measured = evaluate(engine, data.test, recipe)
    name = f"{record.benchmark}/{record.id}"
    return _evaluated(name, recorded.epoch, data.test, recipe, engine, measured, recorded, otherwise)


class Reevaluated(NamedTuple):
    """A record, a line on it, what is wrong with it, and the measurement, if there was one to compare."""

    entry: Entry
    line: str
    problem: records.Problem | None = None
    measured: Reevaluation | None = None


def reevaluate(entries: Iterable[Entry], *, registry: Path, data_root: Path) -> Iterator[Reevaluated]:
    """Measure every record with published weights again: a line on each record, and a problem where it comes otherwise.

    On the recorded engine and machine the very same images must be right; elsewhere so many may differ as `evaluate`
    accepts.

    Raises:
        DataError: data that a record needs are not prepared.
    """
    for entry in entries:
        name, path = f"{entry.benchmark}/{entry.id}", registry / entry.benchmark / f"{entry.id}.json"
        if entry.published_weights is UNSET:
            yield Reevaluated(entry, f"{name}: not re-evaluated: no weights are published")
            continue
        try:
            found = evaluate_published(path, registry=registry, data_root=data_root, notify=lambda _: None)
        except (DataError, EngineError):
            raise
        except Exception as error:  # whatever stands in weights that somebody made
            message = f"cannot be re-evaluated: {error}"
            yield Reevaluated(entry, f"{name}: {message}", records.Problem(path, "published_weights", message))
            continue
        line = f"{name}: re-evaluated: {found.error:.3f} %, {found.comparison}"
        message = f"has {found.wrong} of {found.images:,} test images wrong when re-evaluated: {found.comparison}"
        yield Reevaluated(
            entry, line, None if found.agrees else records.Problem(path, "test_correct", message), _kept(entry, found)
        )


def _kept(entry: Entry, found: Evaluated) -> Reevaluation | None:
    """What is worth keeping of a measurement; None of one that was not compared."""
    if found.differing_images is None:
        return None
    return Reevaluation(
        record=entry.id,
        wrong=found.wrong,
        images=found.images,
        differing=found.differing_images,
        engine=str(found.computed_by["name"]),
        device=str(found.computed_by["device_name"]),
        time=now(),
        commit=code_at_start().commit,
    )


def published_of(registry: Path, benchmark: str) -> list[Path]:
    """The records of a benchmark that have published weights, that of the earliest run first."""
    found = [
        (record.sittings[0].started, path)
        for path, record in records.read_all(registry, lambda _: None)  # what is wrong there, `verify` says
        if record.benchmark == benchmark and record.published_weights is not UNSET
    ]
    return [path for _, path in sorted(found)]


def find_published(registry: Path, text: str) -> Path:
    """The record with published weights that a user means: a record's file, the beginning of its id, or a benchmark.

    Raises:
        RegistryError: there is no such record.
        RunError: none of the benchmark's records has published weights, or several have.
    """
    of_benchmark = published_of(registry, text)
    if len(of_benchmark) == 1:
        return of_benchmark[0]
    if of_benchmark:
        names = ", ".join(path.stem for path in of_benchmark)
        raise RunError(f"{len(of_benchmark)} records of {text} have published weights: name one of {names}")
    if text in benchmark_ids():
        raise RunError(
            f"no record of {text} under {registry} has published weights: `python cli.py reproduce {text}` makes one,"
            f" if the network needs no more than {LARGEST:,} bytes"
        )
    return records.find(registry, text)


def _first(train: Split, count: int) -> Split:
    if count > len(train.labels):
        raise RunError(f"the run has {len(train.labels):,} training images: asked for the first {count:,}")
    return Split(train.name, train.images[:count], train.labels[:count], "")


def _check_data(
    complaint: str, recipe: Recipe, seed: int, expected: Mapping[str, str], data: Dataset, notify: Notify
) -> list[str]:
    """What is other about the data, in a phrase; refused unless it is what another machine makes of the same images.

    That they are of the same published images and settings, data_prep has proved.
    """
    found = digests(data)
    splits = [name for name in expected if expected[name] != found[name]]
    if not splits:
        return []
    if not is_computed_on_the_machine(recipe):
        raise RunError(f"{complaint}: {other_data(recipe, seed, expected, found)}")
    notify(
        f"note: {complaint}: {recipe.data.preprocessing} was computed by another machine or version, from the same"
        f" images with the same settings; the digest of {', '.join(splits)} is another"
    )
    return ["data prepared by another machine or version"]


def _open(recipe: Recipe, seed: int, began: Mapping[str, Any], asked: Asked, notify: Notify) -> Engine:
    """The engine that recorded it, or the nearest to it that this machine has; what is other is said."""
    name = asked.engine or (began["name"] if began["name"] in installed_engines() else None)
    name = name or choose(device="cpu", architecture=recipe.model.architecture).engine
    same_engine = name == began["name"]
    device = asked.device or (began["device"] if began["device"] == "cpu" or nvidia_gpus() else "cpu")
    threads = asked.threads or min(began["threads"], usable_cores())

    def opened(device: str) -> Engine:
        as_began = same_engine and device == began["device"]
        precision, compiled = (began["precision"], began["compile"]) if as_began else ("float32", "auto")
        return open_engine(name, recipe.model, recipe.image_shape, seed, device, threads, precision, compiled)

    try:
        engine = opened(device)
    except EngineError:
        if asked.device is not None or device == "cpu":
            raise
        device = "cpu"  # there is a GPU, but this engine cannot use it
        engine = opened(device)
    there = _in_words(began["name"], began["device"], began["threads"])
    here = _in_words(name, device, threads)
    if here != there:
        notify(f"note: recorded by {there}; evaluated by {here}{' as asked' if asked != Asked() else ''}")
    return engine


def _in_words(engine: str, device: str, threads: int) -> str:
    return f"{engine} on {device}, {threads} {'thread' if threads == 1 else 'threads'}"


def _declared(folder: RunFolder, recipe: Recipe) -> tuple[Recorded, dict[str, np.ndarray]]:
    """What the record, or the run so far, declares, and its weights.

    A run that is being trained replaces its files: what was replaced in between is read again.
    """
    notify = folder.notify
    for attempt in range(1, ATTEMPTS + 1):
        heard: list[str] = []
        folder.notify, before = heard.append, _stamp(folder)
        try:
            found = _declared_now(folder, recipe)
        except RunError:
            if attempt == ATTEMPTS or _stamp(folder) == before:
                raise
        else:
            if not heard or attempt == ATTEMPTS or _stamp(folder) == before:
                for line in heard:
                    notify(line)
                return found
        finally:
            folder.notify = notify
        time.sleep(PAUSE_SECONDS)
    raise AssertionError


def _stamp(folder: RunFolder) -> list[tuple[str, int, int]]:
    """Changes whenever a file of the folder is replaced."""
    found = []
    for path in sorted(folder.path.glob("*.[nj][ps]*")):  # .npz, .json
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((path.name, status.st_ino, status.st_mtime_ns))
    return found


def _declared_now(folder: RunFolder, recipe: Recipe) -> tuple[Recorded, dict[str, np.ndarray]]:
    record = folder.record()
    if record is not None:
        if record.results is None:
            manifest = folder.manifest()
            began = recipe_from_settings(manifest.benchmark, manifest.settings, manifest.overrides)
            raise RunError(
                f"run {folder.name} diverged in its first epoch: it has no weights to evaluate; another seed may do"
                f" better: {begin_anew(began, 'N')}"
            )
        recorded = _of_record(record)
        if record.outcome == "diverged":
            folder.notify(
                f"note: run {folder.name} diverged after epoch {record.results.last.epoch}: this is epoch"
                f" {recorded.epoch}, the declared one of those before"
            )
        return recorded, load_recorded_weights(folder, record, recorded.epoch)
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"run {folder.name} has no stored epoch yet: `python cli.py resume {folder.name}` goes on with it"
        )
    progress = checkpoint.progress
    epoch = progress.declared_epoch(recipe)
    assert progress.test_correct is not None
    engine = _measured_by(checkpoint.sittings, epoch)
    recorded = Recorded(epoch, progress.curve["test_error"][epoch - 1], progress.test_correct, engine)
    return recorded, folder.load_weights(epoch)


def _measured_by(sittings: Sequence[Any], epoch: int) -> Mapping[str, Any] | None:
    """The description of the engine of the sitting that an epoch belongs to."""
    engine = next((s.engine for s in sittings if s.first_epoch <= epoch <= s.last_epoch), None)
    described: Mapping[str, Any] | None = to_builtins(engine)
    return described


def _of_record(record: Record) -> Recorded:
    """What a record declares."""
    assert record.results is not None
    assert record.test_correct is not None
    point = record.results.declared
    correct = schema.unpack_bits(record.test_correct, point.test_images)
    return Recorded(point.epoch, point.test_error, correct, _measured_by(record.sittings, point.epoch))


def _evaluated(
    run: str,
    epoch: int,
    split: Split,
    recipe: Recipe,
    engine: Engine,
    measured: Evaluation,
    recorded: Recorded | None = None,
    otherwise: list[str] | None = None,
) -> Evaluated:
    computed_by = to_builtins(engine.describe())  # as it is read back from a record
    differing = None if recorded is None else int(np.count_nonzero(recorded.correct != measured.correct))
    return Evaluated(
        run=run,
        epoch=epoch,
        split=split.name,
        weights=recipe.model.evaluation_weights,
        loss=measured.loss,
        error=measured.error,
        wrong=measured.wrong,
        images=len(measured.correct),
        predicted=measured.predicted,
        labels=split.labels,
        computed_by=computed_by,
        recorded_error=None if recorded is None else recorded.error,
        differing_images=differing,
        otherwise=[] if recorded is None else differences(recorded.engine, computed_by) + (otherwise or []),
    )
