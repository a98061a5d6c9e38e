"""Where local runs stand, from real run folders: no file of theirs is written for it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.errors import RunError
from benchmarks.recipe import load_recipe
from benchmarks.recipe.settings import named_settings
from benchmarks.run.folder import RunFolder
from benchmarks.run.listing import local_run, local_runs
from benchmarks.run.lock import is_held
from benchmarks.run.protocol import TrainingState
from benchmarks.run.state import Checkpoint, Manifest
from results.record import columns

REGISTRY = Path(__file__).parents[3] / "results" / "runs"
BENCHMARK, RECORD = "chawla-mlp-mnist-float", "573cd6f024bf1322"  # finished, and in the registry
EPOCHS = 200


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., RunFolder]:
    """Make the folder of a run that has stored so many epochs of ten seconds each."""

    def make(epochs: int = 0, seed: int = 1234) -> RunFolder:
        recipe = load_recipe(BENCHMARK)
        folder = RunFolder.create(tmp_path / "runs", Manifest(
            benchmark=BENCHMARK, settings=named_settings(recipe.settings, recipe.stated), overrides={}, seed=seed,
            engine="gluon", device="cpu", threads=1, data={"train": "a", "valid": "b", "test": "c"},
        ))  # fmt: skip
        with folder.lock():
            pass
        if epochs:
            curve: dict[str, list[Any]] = {name: [50.0 / n for n in range(1, epochs + 1)] for name in columns({})}
            curve |= {"epoch": list(range(1, epochs + 1)), "valid_wrong": list(range(epochs, 0, -1))}
            curve["seconds"] = [10.0] * epochs
            progress = TrainingState(np.arange(4), curve, np.array([True, False]), 1.0, 0.5)
            folder.save_weights(epochs, {"w": np.zeros(3, np.float32)})
            folder.save_checkpoint(Checkpoint(engine={}, progress=progress, sittings=[], peak_memory_mib=7.0))
        return folder

    return make


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


def test_a_run_that_nobody_works_on_is_interrupted_where_it_stored(begin, tmp_path):
    folder = begin(4)
    before = contents(tmp_path)
    (run,) = local_runs(tmp_path / "runs", REGISTRY)
    assert contents(tmp_path) == before
    assert (run.name, run.state, run.epoch, run.epochs) == (folder.name, "interrupted", 4, EPOCHS)
    assert (run.valid_error, run.epoch_seconds, run.seconds_left) == (12.5, 10.0, None)
    assert run.bytes == sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())


def test_a_run_is_running_while_its_lock_is_held(begin):
    folder = begin(4)
    with RunFolder(folder.path).lock():
        run = local_run(folder.path, REGISTRY)
        assert run.state == "running"
        assert 0 < run.seconds_left <= (EPOCHS - 4) * 10
    assert local_run(folder.path, REGISTRY).state == "interrupted"


def test_before_the_first_epoch_nothing_is_said_that_is_not_known(begin):
    folder = begin()
    with folder.lock():
        run = local_run(folder.path, REGISTRY)
    assert (run.state, run.epoch, run.valid_error, run.seconds_left) == ("running", 0, None, None)


def test_a_run_that_is_over_is_as_its_record_says(begin, tmp_path):
    folder = begin(4)
    shutil.copy(REGISTRY / BENCHMARK / f"{RECORD}.json", folder.record_path)
    run = local_run(folder.path, REGISTRY)
    assert (run.state, run.record, run.epoch) == ("registered", RECORD, EPOCHS)
    assert local_run(folder.path, tmp_path / "nothing").state == "finished"
    record = json.loads(folder.record_path.read_bytes())
    folder.record_path.write_text(json.dumps(record | {"outcome": "diverged"}))
    assert local_run(folder.path, REGISTRY).state == "diverged"


NESTED = b'{"id":"x","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


@pytest.mark.parametrize("name", ["run.json", "checkpoint.npz", "record.json"])
@pytest.mark.parametrize("content", [b"{", NESTED, None], ids=["cut", "nested", "a pipe"])
def test_what_cannot_be_read_is_damaged_and_hides_no_other_run(begin, tmp_path, name, content):
    begin(2, seed=1)
    path = begin(4, seed=2).path / name
    path.unlink(missing_ok=True)
    path.write_bytes(content) if content else os.mkfifo(path)
    whole, damaged = sorted(local_runs(tmp_path / "runs", REGISTRY), key=lambda run: run.name[-1])
    assert (whole.state, damaged.state) == ("interrupted", "damaged")
    assert damaged.problem


def test_to_look_keeps_no_run_from_beginning(begin, monkeypatch):
    """The shared lock of whoever looks is waited for, and it makes no run look as if it were running."""
    folder = begin()
    with (folder.path / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_held(folder.path)
        with pytest.raises(RunError, match="being worked on"), folder.lock():
            pass
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with folder.lock():
            assert is_held(folder.path)


def test_the_command_prints_a_line_a_run_or_json(begin, cli, tmp_path):
    begin(4, seed=1)
    name = begin(seed=2).name
    folders = ("--runs", str(tmp_path / "runs"))
    lines = cli("runs", *folders).stdout.splitlines()
    assert lines[0].split() == ["Run", "State", "Epoch", "Error", "(%)", "Left", "Size"]
    assert lines[2].split()[1:4] == ["interrupted", "4/200", "12.50"]
    assert lines[3].split()[:4] == [name, "interrupted", "0/200", "-"]
    assert lines[-1].startswith("2 runs: 2 interrupted; ")
    listed = json.loads(cli("runs", *folders, "--json").stdout)
    assert listed["schema"] == 1
    assert [run["epoch"] for run in listed["runs"]] == [4, 0]
    (tmp_path / "none").mkdir()
    assert cli("runs", "--runs", str(tmp_path / "none")).stdout.startswith(f"no run in {tmp_path}/none: ")
