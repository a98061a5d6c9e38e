"""Runs that are interrupted, damaged, measured again and resumed: real folders and data, with a network of one layer.

The engine is NumPy's: what it computes depends on seed, order, learning rate and state, as that of a real one does.
That real engines go on to the bit is proved in test_cli.py and with the engines themselves.
"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from small_network import catalog_file
from test_tensorboard_log import steps

from benchmarks.engine.layers import layers_of
from benchmarks.errors import EngineError, RunError
from benchmarks.machine.facts import usable_cores
from benchmarks.recipe import flatten, load_recipe, recipe_from_settings
from benchmarks.recipe import loading as recipes
from benchmarks.run import evaluation, runner
from benchmarks.run.evaluation import evaluate_run
from benchmarks.run.folder import RunFolder
from benchmarks.run.provenance import code_at_start
from benchmarks.run.reporting import Outcome
from benchmarks.run.selection import find_run
from benchmarks.verdict import check_record, judge_run
from benchmarks.version import harness_version
from results.record import Record, comparable, seal, to_bytes
from results.registry import verify
from results.views.rows import rows

EPOCHS = 6
SEED = 34  # of a run whose best epoch so far is, epoch by epoch, 1, 2, 3, 3, 5, 5
SETTINGS = {
    "data": {"train_images": 200, "valid_images": 50},
    "model": {"architecture": "10FC"},
    "train": {"epochs": EPOCHS, "batch_size": 50, "lr_final": 3e-4, "lr_decay": "exponential"},
}


class Killed(BaseException):
    """Instead of a kill; test_cli.py has real ones."""


class Engine:
    """Binarized weights, to which every epoch adds what it draws by its order and its number. It learns nothing."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.weights = np.random.default_rng(seed).uniform(-1, 1, (10, 784)).astype(np.float32)
        self.step, self.published, self.faults = 0, False, faults

    def parameters(self) -> dict[str, np.ndarray]:
        (layer,) = layers_of(load_recipe("one-layer").model, (1, 28, 28))
        others = {name: np.zeros(shape, np.float32) for name, shape in layer.parameters.items()}
        return others | {"dense1.weight": self.weights.copy()}

    def load_parameters(self, parameters: dict[str, np.ndarray]) -> None:
        self.weights[:], self.published = parameters["dense1.weight"], True

    def state(self) -> dict[str, np.ndarray]:
        return {"parameters/dense1.weight": self.weights.copy(), "step": np.array(self.step)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.weights[:], self.step = state["parameters/dense1.weight"], int(state["step"])

    def train_epoch(self, images, labels, order, batch_size, lr, on_batch, **_):
        self.step += 1
        if self.step == self.faults.kill_in:
            raise Killed
        drawn = np.random.default_rng([int(order[0]), self.step]).normal(size=self.weights.shape).astype(np.float32)
        self.weights += 1000 * np.float32(lr) * drawn
        if self.step == self.faults.nan_in:
            self.weights[0, :3] = np.nan
        on_batch(1, 0.5)
        return np.array([1 / self.step], np.float32)

    def scores(self, images, batch_size):
        signs = np.where(self.weights >= 0, np.float32(1), np.float32(-1))
        scores = images[:].reshape(len(images), -1) @ signs.T
        return scores[::-1] if self.published and self.faults.disturbed else scores

    def describe(self) -> dict[str, object]:
        return {
            "name": "gluon", "device": "cpu", "device_name": self.faults.machine, "threads": 1, "precision": "float32",
            "versions": {}, "features": [], "driver": None, "determinism": {},
        }  # fmt: skip


class Faults:
    """What goes wrong, and on which machine."""

    kill_in: int | None = None
    nan_in: int | None = None
    disturbed = False
    machine = "a processor"
    opened = 0


class Listener:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.epochs_done: int | None = None

    def run_started(self, folder, recipe, engine, epochs_done, reference):
        self.epochs_done = epochs_done

    def batch_done(self, batches, loss): ...

    def epoch_done(self, row, declared_epoch): ...

    def diverged(self, message):
        self.notes.append(message)

    def note(self, message):
        self.notes.append(message)


class Bench:
    """Runs of one benchmark in folders of their own."""

    def __init__(self, root: Path, data: Path, faults: Faults) -> None:
        self.root, self.data, self.faults, self.listener = root, data, faults, Listener()
        self.registry, self.threads = root / "registry" / "runs", 1

    def reproduce(self) -> Outcome:
        return runner.reproduce(
            load_recipe("one-layer"), data_root=self.data, runs_root=self.root / "runs", registry=self.registry,
            seed=SEED, engine="gluon", device="cpu", threads=self.threads, reporter=self.listener,
        )  # fmt: skip

    @property
    def folder(self) -> RunFolder:
        return find_run(self.root / "runs", "one-layer")

    def resume(self, allow_change: bool = False) -> Outcome:
        self.listener = Listener()
        return runner.resume(
            self.folder, data_root=self.data, registry=self.registry, reporter=self.listener, allow_change=allow_change
        )

    def killed_in(self, epoch: int) -> None:
        """Begin the run, or go on with it, until it is killed in an epoch."""
        self.faults.kill_in = epoch
        with pytest.raises(Killed):
            self.resume() if (self.root / "runs").exists() else self.reproduce()
        self.faults.kill_in = None

    def registered(self) -> list[Path]:
        return sorted(path for path in self.registry.parent.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalog")
    (folder / "tests").mkdir()
    (folder / "tests" / "one-layer.yaml").write_text(catalog_file("one-layer", SETTINGS))
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of epochs of each learning curve that is drawn."""
    drawn: list[int] = []
    monkeypatch.setattr(runner, "learning_curve", lambda curve, *_: drawn.append(len(curve.epoch)))
    return drawn


@pytest.fixture
def bench(
    tmp_path: Path, small_data_root: Path, catalog: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    faults = Faults()

    def open_engine(name: str, model: Any, shape: Any, seed: int, *_: Any) -> Engine:
        faults.opened += 1
        return Engine(seed, faults)

    monkeypatch.setattr(runner, "open_engine", open_engine)
    monkeypatch.setattr(evaluation, "open_engine", open_engine)
    monkeypatch.setattr(recipes, "CATALOG", catalog)
    # However fast this machine writes: every epoch is stored, where a test does not say otherwise.
    monkeypatch.setattr(runner, "LONGEST", 0)
    recipes._catalog_files.cache_clear()
    yield Bench(tmp_path, small_data_root, faults)
    recipes._catalog_files.cache_clear()


@pytest.fixture
def whole(bench: Bench, tmp_path: Path, drawn: list[int]) -> Record:
    """The record of the run that nothing disturbed."""
    undisturbed = Bench(tmp_path / "whole", bench.data, bench.faults)
    record = undisturbed.reproduce().record
    drawn.clear()
    assert record.results.declared.epoch not in (1, EPOCHS)  # or some tests prove nothing
    return record


def assert_as(record: Record, whole: Record) -> None:
    assert comparable(record) == comparable(whole)
    assert record.weights_sha256 == whole.weights_sha256


def test_the_tensorboard_log_says_what_was_aimed_at_and_what_came_of_it(bench):
    (log,) = (bench.reproduce().folder.path / "tensorboard").iterdir()
    for text in (b"\x06target", b"| train.epochs | 6 |", b"\x07verdict"):
        assert text in log.read_bytes()


def test_code_that_differs_from_the_commit_is_kept_beside_the_run(bench, monkeypatch):
    code = dataclasses.replace(code_at_start(), dirty=True, diff_sha256="ab" * 32, changed=("cli.py",))
    monkeypatch.setattr(runner, "code_at_start", lambda: code)
    folder = bench.reproduce().folder
    assert [path.name for path in folder.path.glob("code-*")] == ["code-abababababababab.zip"]


# -- kills -------------------------------------------------------------------------------------------------------------


def test_killed_in_every_epoch_and_ten_times_in_the_first(bench, whole):
    for epoch in [1] * 10 + list(range(2, EPOCHS + 1)):
        bench.killed_in(epoch)
    record = bench.resume().record
    assert_as(record, whole)
    assert record.restarts == 10 + EPOCHS - 1
    assert record.times.train_seconds > 0
    assert len(record.sittings) == 10 + EPOCHS
    assert steps(bench.folder.path / "tensorboard") == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("name", ["checkpoint.npz", "weights"])
def test_with_the_newest_state_damaged_the_run_goes_on_from_the_previous_one(bench, whole, name):
    bench.killed_in(4)
    path = bench.folder.path / (name if "." in name else f"weights-epoch-{declared_after(3, whole):04}.npz")
    same_weights = declared_after(2, whole) == declared_after(3, whole)
    assert not same_weights
    path.write_bytes(path.read_bytes()[:-200])
    outcome = bench.resume()
    (note,) = bench.listener.notes
    assert f"{path} is damaged" in note
    assert "the previous checkpoint is taken, after epoch 2" in note
    assert bench.listener.epochs_done == 2
    assert_as(outcome.record, whole)


def declared_after(epochs: int, whole: Record) -> int:
    wrong = whole.curve.valid_wrong[:epochs]
    return max(epoch for epoch in range(1, epochs + 1) if wrong[epoch - 1] == min(wrong))


def test_temporary_files_of_a_kill_are_swept(bench):
    bench.killed_in(2)
    (bench.folder.path / ".checkpoint.npz.abc.tmp").write_bytes(b"half")
    bench.resume()
    assert not list(bench.folder.path.rglob("*.tmp"))


# -- how often it is stored --------------------------------------------------------------------------------------------


def test_what_is_slow_to_write_is_written_at_the_end_only(bench, whole, monkeypatch):
    """And once at the start of a sitting, when it is not known yet how long it takes."""
    monkeypatch.setattr(runner, "LONGEST", 1e9)
    monkeypatch.setattr(runner, "LARGEST_SHARE", 0.0)
    stored: list[int] = []
    save = RunFolder.save_checkpoint

    def counted(self: RunFolder, checkpoint: Any) -> None:
        stored.append(checkpoint.progress.epoch)
        save(self, checkpoint)

    monkeypatch.setattr(RunFolder, "save_checkpoint", counted)
    bench.killed_in(5)
    assert stored == [1]
    record = bench.resume().record
    assert stored == [1, 2, EPOCHS]
    assert_as(record, whole)
    assert steps(bench.folder.path / "tensorboard") == list(range(1, EPOCHS + 1))


def test_what_is_fast_to_write_is_written_after_every_epoch(bench, monkeypatch):
    monkeypatch.setattr(runner, "LONGEST", 1e9)
    monkeypatch.setattr(runner, "LARGEST_SHARE", 1e9)
    bench.killed_in(4)
    assert bench.folder.load_checkpoint().progress.epoch == 3


# -- divergence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 1e9], ids=["little stored", "every epoch stored"])
def test_weights_that_are_no_numbers_end_the_run_and_its_good_ones_are_kept(bench, whole, monkeypatch, share):
    monkeypatch.setattr(runner, "LONGEST", 1e9)
    monkeypatch.setattr(runner, "LARGEST_SHARE", share)
    bench.faults.nan_in = 5
    record = bench.reproduce().record
    assert bench.listener.notes == ["3 of 7,840 values of dense1.weight are not finite in epoch 5"]
    assert (record.outcome, len(record.curve.epoch)) == ("diverged", 4)
    assert record.curve.test_wrong == whole.curve.test_wrong[:4]
    assert record.results.declared.epoch == declared_after(4, whole)
    bench.faults.nan_in = None
    evaluated = evaluate_run(bench.folder, data_root=bench.data)
    assert evaluated.agrees
    assert evaluated.epoch == record.results.declared.epoch
    assert bench.resume().record == record


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of fenv.h are those of x86-64")
def test_an_epoch_after_which_the_processor_rounds_otherwise_is_not_kept(bench, whole, monkeypatch):
    """As a library may set it that is loaded in the meantime."""
    mathematics, right, epochs = ctypes.CDLL("libm.so.6"), runner.check_arithmetic, iter(range(1, EPOCHS + 1))

    def spoilt_in_epoch_3():
        mathematics.fesetround(0xC00 if next(epochs) == 3 else 0)  # toward zero
        try:
            right()
        finally:
            mathematics.fesetround(0)

    with monkeypatch.context() as context:
        context.setattr(runner, "check_arithmetic", spoilt_in_epoch_3)
        with pytest.raises(EngineError, match="sums are not rounded"):
            bench.reproduce()
    assert_as(bench.resume().record, whole)
    assert bench.listener.epochs_done <= 2


# -- runs that are over ------------------------------------------------------------------------------------------------


def test_resuming_a_run_that_is_over_gives_its_record_and_registers_it_if_need_be(bench):
    outcome = bench.reproduce()
    files = {path: path.read_bytes() for path in [*bench.registered(), *bench.folder.path.rglob("*.npz")]}
    assert len(files) == 4  # record and weights; checkpoint and weights
    content = bench.folder.record_path.read_bytes()
    bench.faults.machine = "another processor, with other versions"
    for path in bench.registered():
        again = bench.resume()
        assert (again.record, again.registered) == (outcome.record, outcome.registered)
        assert bench.folder.record_path.read_bytes() == content
        assert {path: path.read_bytes() for path in files} == files
        path.unlink()  # the next resume puts it back
    bench.resume()
    assert {path: path.read_bytes() for path in files} == files
    assert verify(bench.registry) == []
    assert bench.faults.opened == 1


def test_a_damaged_record_is_written_again_as_the_message_says(bench):
    record = bench.reproduce().record
    path = bench.folder.record_path
    path.write_bytes(path.read_bytes().replace(b'"test_wrong":[1', b'"test_wrong":[2'))
    for command in (bench.resume, lambda: evaluate_run(bench.folder, data_root=bench.data)):
        with pytest.raises(RunError, match=r"`rm \S+record.json; python cli.py resume one-layer/\S+` writes it again"):
            command()
    path.unlink()
    assert bench.resume().record == record
    assert len(bench.registered()) == 2


def test_weights_that_are_not_the_records_are_not_evaluated(bench):
    record = bench.reproduce().record
    bench.folder.save_weights(record.results.declared.epoch, {"dense1.weight": np.ones((10, 784), np.float32)})
    with pytest.raises(RunError, match=r"weights of run \S+ are not those of its record: expected SHA-256"):
        evaluate_run(bench.folder, data_root=bench.data)


def test_the_learning_curve_is_drawn_once(bench, drawn):
    bench.killed_in(3)
    bench.resume()
    bench.resume()
    assert drawn == [2, EPOCHS]


# -- what computes changes within a run --------------------------------------------------------------------------------


def test_another_machine_or_version_goes_on_only_where_that_is_allowed(bench, whole):
    bench.killed_in(3)
    bench.faults.machine = "another processor"
    before = {path: path.read_bytes() for path in bench.folder.path.iterdir() if path.is_file()}
    with pytest.raises(RunError) as refused:
        bench.resume()
    assert str(refused.value) == (
        f"run {bench.folder.name} would go on with other device_name (a processor, here another processor): to allow"
        f" it, and have its record tell it, `python cli.py resume {bench.folder.name} --allow-change`"
    )
    assert {path: path.read_bytes() for path in bench.folder.path.iterdir() if path.is_file()} == before
    record = bench.resume(allow_change=True).record
    assert_as(record, whole)
    assert record.mixtures == ["engine"]
    assert [s.engine.device_name for s in record.sittings] == ["a processor", "another processor"]
    assert verify(bench.registry) == []
    assert bench.resume().record == record  # what is over has nothing to be allowed


def test_fewer_cores_than_threads_go_on_only_where_that_is_allowed(bench, whole, monkeypatch):
    bench.threads = 2
    bench.killed_in(3)
    monkeypatch.setattr(runner, "usable_cores", lambda: 1)
    asked_for, opened = [], runner.open_engine
    monkeypatch.setattr(runner, "open_engine", lambda *given: asked_for.append(given[5]) or opened(*given))
    with pytest.raises(RunError, match=r"computes with 2 threads, and here are 1 cores: .* --allow-change`$"):
        bench.resume()
    assert_as(bench.resume(allow_change=True).record, whole)
    assert asked_for == [1]


def test_other_code_goes_on_only_where_that_is_allowed(bench, whole, monkeypatch):
    bench.killed_in(3)
    code = code_at_start()
    files = dict(code.files) | {"benchmarks/run/protocol.py": "0" * 64}
    monkeypatch.setattr(runner, "code_at_start", lambda: dataclasses.replace(code, files=files))
    with pytest.raises(RunError, match=r"would go on with other code \(SHA-256 [0-9a-f]{12}, here [0-9a-f]{12}\): "):
        bench.resume()
    record = bench.resume(allow_change=True).record
    assert_as(record, whole)
    assert record.mixtures == ["code"]
    first, second = record.sittings
    assert first.code_sha256 == code.computing_sha256 != second.code_sha256
    (row,) = rows([record], lambda record: judge_run(record, None))
    assert row.notes == "mixed code"


def test_code_that_does_not_compute_is_no_change(bench, monkeypatch):
    """The command line, tables, documents: a run goes on to the same bits."""
    bench.killed_in(3)
    code = code_at_start()
    other = dataclasses.replace(
        code, commit="0" * 40, files=dict(code.files) | {"cli.py": "0", "results/views/rows.py": "0"}
    )
    monkeypatch.setattr(runner, "code_at_start", lambda: other)
    assert bench.resume().record.mixtures == []


def test_a_sitting_of_an_earlier_version_is_compared_by_its_commit(bench, whole, monkeypatch):
    """It noted no files and no machine; what is not known is not compared, and the record leaves it open."""
    new_sitting = runner.new_sitting

    def noted_less(*arguments: Any) -> Any:
        sitting = new_sitting(*arguments)
        sitting.code_sha256 = sitting.machine = sitting.engine = None
        return sitting

    monkeypatch.setattr(runner, "new_sitting", noted_less)
    bench.killed_in(3)
    monkeypatch.setattr(runner, "new_sitting", new_sitting)
    code = code_at_start()
    monkeypatch.setattr(runner, "code_at_start", lambda: dataclasses.replace(code, commit="1" * 40))
    with pytest.raises(RunError, match=r"other code \(commit \w{7,12}, here 111111111111\)"):
        bench.resume()
    monkeypatch.setattr(runner, "code_at_start", lambda: code)
    record = bench.resume().record
    assert_as(record, whole)
    assert (record.sittings[0].machine, record.sittings[0].engine) == (None, None)
    assert verify(bench.registry) == []


# -- what a record says ------------------------------------------------------------------------------------------------


def test_a_record_says_which_program_which_settings_and_which_machine(bench):
    record, recipe = bench.reproduce().record, load_recipe("one-layer")
    assert record.harness == harness_version()
    assert (record.recipe.digest, record.recipe.version) == (recipe.digest, recipe.version)
    assert {f"{group}.{key}" for group, part in record.recipe.settings.items() for key in part} == set(
        flatten(recipe.settings)
    )
    assert {"model.momentum", "protocol.evaluates_training"} <= set(record.recipe.defaults)
    assert recipe_from_settings(recipe.id, record.recipe.named_settings, {}).digest == recipe.digest
    # What computes here is no engine of the catalog's.
    assert {field for field, _ in check_record(record)} == {"sittings[0].engine.versions"}
    (sitting,) = record.sittings
    assert (sitting.engine, sitting.code_sha256) == (record.engine, code_at_start().computing_sha256)
    assert sitting.machine.cores == usable_cores()
    assert sitting.machine.memory_mib > 0
    assert "/" not in sitting.machine.processor[:1]


# -- published weights -------------------------------------------------------------------------------------------------


def test_published_weights_that_give_other_images_right_are_an_error(bench):
    bench.faults.disturbed = True
    for attempt in (bench.reproduce, bench.resume):  # a second attempt is no way around it
        with pytest.raises(RunError, match="on the same engine and machine: nothing is recorded") as error:
            attempt()
        assert "test images come out otherwise with the weights to be published than in epoch" in str(error.value)
        assert "`python cli.py doctor`" in str(error.value)
        assert not bench.folder.record_path.exists()
        assert bench.registered() == []
    bench.faults.disturbed = False
    assert bench.resume().record.published_weights


def test_on_another_machine_they_are_not_published_and_that_is_said(bench):
    bench.faults.disturbed = True
    with pytest.raises(RunError):
        bench.reproduce()
    bench.faults.machine = "another processor"
    record = bench.resume(allow_change=True).record
    assert not record.published_weights
    (note,) = bench.listener.notes
    assert note.startswith("the weights are not published: ")
    assert note.endswith("by another machine or other versions")
    assert [path.name for path in bench.registered()] == [f"{record.id}.json"]


# -- damage, wherever it is --------------------------------------------------------------------------------------------


def test_a_byte_changed_anywhere_never_changes_the_record(bench, whole):
    """A run killed in epoch 4, one byte of one file changed, then resumed: refused in a line, or the same record."""
    bench.killed_in(4)
    files = [*bench.folder.path.glob("*.npz"), *bench.folder.path.glob("*.json")]
    before = {path: path.read_bytes() for path in bench.folder.path.rglob("*") if path.is_file()}
    refused = []
    for path, part in itertools.product(files, (0.1, 0.5, 0.99)):
        data = bytearray(before[path])
        data[int(len(data) * part)] ^= 4
        path.write_bytes(data)
        try:
            record = bench.resume().record
        except RunError:
            refused.append(path.name)
        else:
            assert_as(record, whole)
        for created in {path for path in bench.folder.path.rglob("*") if path.is_file()} - before.keys():
            created.unlink()
        for file, content in before.items():
            file.write_bytes(content)
    assert set(refused) == {"run.json", "sittings.json"}


# -- records of others -------------------------------------------------------------------------------------------------


def test_the_record_says_why_weights_are_not_published(bench):
    bench.faults.disturbed = True
    with pytest.raises(RunError):
        bench.reproduce()
    bench.faults.machine = "another processor"
    record = runner.resume(
        bench.folder, data_root=bench.data, registry=bench.registry, reporter=bench.listener, allow_change=True
    ).record
    assert bench.listener.notes == [f"the weights are not published: {record.unpublished_reason}"]


def test_an_inconsistent_record_is_no_reference_and_disturbs_no_run(bench, monkeypatch):
    record = bench.reproduce().record
    references = []
    monkeypatch.setattr(bench.listener, "run_started", lambda *arguments: references.append(arguments[-1]))
    bench.reproduce()
    assert references[-1].band(1).runs == 1
    path = bench.registry / record.benchmark
    forged = msgspec.structs.replace(record, seed=record.seed + 1, weights_sha256="0" * 64)
    forged = msgspec.structs.replace(forged, curve=msgspec.structs.replace(forged.curve, valid_wrong=[]))
    sealed = seal(forged)
    (path / f"{sealed.id}.json").write_bytes(to_bytes(sealed))
    bench.reproduce()
    assert references[-1].band(1).runs == 1
