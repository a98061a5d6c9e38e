"""Measuring again where not all is as it was recorded: another machine, other data bits, a run that goes on, one that
diverged. The runs are those of test_runner.py, in real folders, with an engine of one layer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from test_runner import SEED, Bench, Engine, bench, catalog, drawn  # noqa: F401 - fixtures

from benchmarks.engine import DEVICES
from benchmarks.errors import EngineError, RunError
from benchmarks.machine.facts import usable_cores
from benchmarks.recipe import load_recipe
from benchmarks.run import data as run_data
from benchmarks.run import evaluated, evaluation, runner
from benchmarks.run import folder as run_folder
from benchmarks.run.evaluated import Evaluated, accepted_images
from benchmarks.run.evaluation import Asked, Reevaluated, evaluate_published, evaluate_run, reevaluate
from benchmarks.run.folder import RunFolder
from data_prep import load
from results.index import entries

Measure = Callable[..., Evaluated]
IMAGES = 200  # of the test set: two may differ on another machine


class Otherwise(Engine):
    """Classifies some test images wrongly that were classified correctly."""

    differing = 0

    def scores(self, images, batch_size):
        scores = super().scores(images, batch_size)
        labels = load("mnist-small", self.faults.data, "signed", 200, 50).test.labels
        scores[np.flatnonzero(scores.argmax(axis=1) == labels)[: self.differing]] *= -1
        return scores


@pytest.fixture
def opened(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:  # noqa: F811
    """Engine, device, threads, precision and compile of each engine that is opened to evaluate; none is on a GPU."""
    opened: list[tuple[Any, ...]] = []
    bench.faults.data = bench.data

    def open_engine(name: str, model: Any, shape: Any, seed: int, device: str, *options: Any) -> Engine:
        opened.append((name, device, *options))
        if device == "gpu":
            raise EngineError("no GPU")
        return Otherwise(seed, bench.faults)

    monkeypatch.setattr(evaluation, "open_engine", open_engine)
    monkeypatch.setattr(evaluation, "nvidia_gpus", list)
    return opened


@pytest.fixture(params=["run", "published weights"])
def measure(request: pytest.FixtureRequest, bench: Bench, opened: list[tuple[Any, ...]]) -> Measure:  # noqa: F811
    outcome = bench.reproduce()
    bench.notes = []
    if request.param == "run":
        folder = RunFolder(outcome.folder.path, bench.notes.append)
        return functools.partial(evaluate_run, folder, data_root=bench.data)
    assert outcome.registered
    return functools.partial(
        evaluate_published, outcome.registered, registry=bench.registry, data_root=bench.data, notify=bench.notes.append
    )


@pytest.mark.parametrize(("images", "accepted"), [(1, 2), (200, 2), (2_999, 2), (3_000, 3), (10_000, 10), (26_032, 26)])
def test_how_many_images_may_differ(images, accepted):
    assert accepted_images(images) == accepted


@pytest.mark.parametrize(
    ("machine", "differing", "agrees"),
    [
        ("a processor", 0, True), ("a processor", 1, False),
        ("another", 0, True), ("another", 2, True), ("another", 3, False),
    ],
)  # fmt: skip
def test_images_may_differ_only_where_something_else_computes(
    bench, measure, monkeypatch, machine, differing, agrees  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(Otherwise, "differing", differing)
    bench.faults.machine = machine
    evaluated = measure()
    assert (evaluated.differing_images, evaluated.agrees) == (differing, agrees)
    found = evaluated.as_json()
    assert (found["differing_images"], found["same_images_right"]) == (differing, not differing)
    assert found["accepted_images"] == (0 if machine == "a processor" else 2)
    assert found["engine"] == {"name": "gluon", "device": "cpu", "threads": 1, "precision": "float32"}
    text = evaluated.comparison
    if machine == "another":
        assert found["computed_otherwise"] == ["processor or GPU another, not a processor"]
        assert text.endswith("; computed otherwise than recorded: processor or GPU another, not a processor")
    if differing:
        assert f": {differing} of 200 images come out otherwise, " in text
        assert ("differs" in text) == (not agrees)
    else:
        assert text.startswith("as recorded, image by image")


def test_a_record_whose_weights_say_otherwise_is_a_problem(bench, opened, monkeypatch):  # noqa: F811
    """What `verify --recompute` goes by: one that cannot be measured is no record without problems either."""
    path = bench.reproduce().registered

    def measured_again() -> Reevaluated:
        (found,) = reevaluate(entries(bench.registry, print), registry=bench.registry, data_root=bench.data)
        return found

    as_recorded = measured_again()
    assert (as_recorded.problem, as_recorded.measured.differing) == (None, 0)
    monkeypatch.setattr(Otherwise, "differing", 1)
    problem = measured_again().problem
    assert (problem.path, problem.field) == (path, "test_correct")
    assert "1 of 200 images come out otherwise" in problem.message
    monkeypatch.setattr(Otherwise, "differing", "not a number")
    problem = measured_again().problem
    assert (problem.path, problem.field) == (path, "published_weights")
    assert problem.message.startswith("cannot be re-evaluated: ")


def test_another_error_with_the_same_images_right_does_not_agree(bench, measure):  # noqa: F811
    evaluated = measure()
    assert evaluated.agrees
    assert not dataclasses.replace(evaluated, recorded_error=evaluated.error + 0.5).agrees


def test_a_run_of_a_larger_machine_is_evaluated_with_what_there_is(bench, opened):  # noqa: F811
    outcome = runner.reproduce(
        load_recipe("one-layer"), data_root=bench.data, runs_root=bench.root / "runs", registry=bench.registry,
        seed=SEED, engine="gluon", device="gpu", threads=10_000, reporter=bench.listener,
    )  # fmt: skip
    notes: list[str] = []
    folder = RunFolder(outcome.folder.path, notes.append)
    assert evaluate_run(folder, data_root=bench.data).agrees
    assert opened == [("gluon", "cpu", usable_cores(), "float32", "auto")]
    (note,) = notes
    assert note.startswith(
        f"note: recorded by gluon on gpu, 10000 threads; evaluated by gluon on cpu, {usable_cores()} t"
    )
    with pytest.raises(EngineError, match="no GPU"):
        evaluate_run(folder, data_root=bench.data, asked=Asked(device=DEVICES[1]))
    evaluate_run(folder, data_root=bench.data, asked=Asked(threads=1))
    assert opened[-1] == ("gluon", "cpu", 1, "float32", "auto")


@pytest.mark.parametrize(
    ("change", "phrases"),
    [
        ({}, []),
        ({"versions": {"numpy": "1", "new": "3"}}, []),
        ({"versions": {"numpy": "2"}, "threads": 2}, ["threads 2, not 1", "numpy 2, not 1"]),
        ({"features": ["AVX2"]}, ["other features"]),
        ({"driver": "550"}, ["driver 550, not None"]),
        ({"name": "torch", "device": "gpu", "versions": {}}, ["engine torch on gpu, not gluon on cpu"]),
    ],
)
def test_what_computes_otherwise_is_named(change, phrases):
    recorded = {
        "name": "gluon", "device": "cpu", "device_name": "a processor", "threads": 1, "precision": "float32",
        "versions": {"numpy": "1"}, "driver": None, "features": [], "determinism": {"switch": True},
    }  # fmt: skip
    assert evaluated.differences(recorded, recorded | change) == phrases
    assert evaluated.differences(None, recorded) == ["it is not known by which engine"]


def test_a_gpu_that_the_engine_cannot_use_is_left(bench, opened, monkeypatch):  # noqa: F811
    outcome = bench.reproduce()
    with_manifest(outcome.folder, device="gpu")
    monkeypatch.setattr(evaluation, "nvidia_gpus", lambda: ["a GPU"])
    assert evaluate_run(RunFolder(outcome.folder.path, print), data_root=bench.data).agrees
    assert [device for _, device, *_ in opened] == ["gpu", "cpu"]


def with_manifest(folder: RunFolder, **changes: Any) -> None:
    """Write other facts into run.json, and seal what else there is anew by it."""
    manifest = replace(folder.manifest(), **changes)
    text = run_folder._as_text(manifest)
    (folder.path / "run.json").write_bytes(run_folder.seal_json(text))
    fresh = RunFolder(folder.path, print)
    for path in folder.path.glob("*.npz"):
        sealed_as = path.name.replace("-previous", "")
        arrays = folder._read(path.name, sealed_as, run_folder.open_arrays)
        fresh._write_arrays(path.name, sealed_as, arrays)


# -- data --------------------------------------------------------------------------------------------------------------


def test_which_data_another_machine_may_make_otherwise():
    expected = {"binaryconnect-mnist": False, "binaryconnect-cifar10": True, "binarynet-cifar10": False}
    assert {name: run_data.is_computed_on_the_machine(load_recipe(name)) for name in expected} == expected


def test_data_of_other_bits_are_evaluated_and_never_trained_on(bench, opened, monkeypatch):  # noqa: F811
    bench.killed_in(4)
    folder = bench.folder
    data = {**folder.manifest().data, "test": "0" * 64}
    with_manifest(folder, data=data)
    notes: list[str] = []
    for command in (bench.resume, lambda: evaluate_run(bench.folder, data_root=bench.data)):
        with pytest.raises(
            RunError, match=r"began with other data: found digests test \w{16}, not 0{16}: name the fold"
        ):
            command()
    for module in (evaluation, run_data):
        monkeypatch.setattr(module, "is_computed_on_the_machine", lambda recipe: True)
    with pytest.raises(
        RunError,
        match=r"other last bits.*copy mnist-small-signed\.h5 .*anew: `python cli\.py reproduce one-layer --seed 34`",
    ):
        bench.resume()
    evaluated = evaluate_run(RunFolder(folder.path, notes.append), data_root=bench.data)
    assert evaluated.agrees
    assert evaluated.otherwise == ["data prepared by another machine or version"]
    assert "was computed by another machine or version" in notes[0]
    monkeypatch.setattr(Otherwise, "differing", 3)
    assert not evaluate_run(RunFolder(folder.path, notes.append), data_root=bench.data).agrees


def test_a_run_and_published_weights_are_evaluated_with_data_of_other_bits(bench, measure, monkeypatch):  # noqa: F811
    monkeypatch.setattr(evaluation, "digests", lambda data: dict.fromkeys(("train", "valid", "test"), "0" * 64))
    with pytest.raises(RunError, match=r"found digests .*test 0{16}, not \w{16}: name the folder of its data"):
        measure()
    monkeypatch.setattr(evaluation, "is_computed_on_the_machine", lambda recipe: True)
    monkeypatch.setattr(Otherwise, "differing", 2)
    evaluated = measure()
    assert (evaluated.agrees, evaluated.otherwise) == (True, ["data prepared by another machine or version"])
    (note,) = bench.notes
    assert "was computed by another machine or version, from the same images with the same settings" in note


# -- runs that go on, and runs that diverged ---------------------------------------------------------------------------


class Replaced(RunFolder):
    """A folder in which training goes on while it is read: after the checkpoint, before the weights."""

    def __init__(self, bench: Bench) -> None:  # noqa: F811
        super().__init__(bench.folder.path, print)
        self.bench, self.read = bench, 0

    def load_checkpoint(self):
        checkpoint = super().load_checkpoint()
        self.read += 1
        if self.read == 1:
            self.bench.resume()
        return checkpoint


def test_a_run_that_goes_on_meanwhile_is_read_again(bench, opened):  # noqa: F811
    bench.killed_in(3)
    folder = Replaced(bench)
    evaluated = evaluate_run(folder, data_root=bench.data)
    assert evaluated.agrees
    assert evaluated.epoch == bench.folder.record().results.declared.epoch


def test_weights_that_are_missing_for_good_are_told_at_once(bench, opened, monkeypatch):  # noqa: F811
    outcome = bench.reproduce()
    for path in outcome.folder.path.glob("weights-*"):
        path.unlink()
    monkeypatch.setattr(evaluation, "PAUSE_SECONDS", 10**6)
    with pytest.raises(RunError, match="is missing"):
        evaluate_run(outcome.folder, data_root=bench.data)


def test_a_run_that_diverged_is_told(bench, opened):  # noqa: F811
    bench.faults.nan_in = 1
    outcome = bench.reproduce()
    with pytest.raises(
        RunError, match=r"diverged in its first epoch: it has no weights .*`python cli\.py reproduce one"
    ):
        evaluate_run(outcome.folder, data_root=bench.data)


def test_of_a_run_that_diverged_later_the_declared_epoch_is_evaluated(bench, opened):  # noqa: F811
    bench.faults.nan_in = 4
    outcome = bench.reproduce()
    notes: list[str] = []
    evaluated = evaluate_run(RunFolder(outcome.folder.path, notes.append), data_root=bench.data)
    assert evaluated.agrees
    (note,) = notes
    assert "diverged after epoch 3: this is epoch 3, the declared one of those before" in note
