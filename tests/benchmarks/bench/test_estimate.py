"""What a run will take, against numbers worked out by hand, real files, and earlier runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

import data_prep
from benchmarks.bench.estimate import (
    IMAGES,
    MachineSpeed,
    data_bytes,
    disk,
    machine_speed,
    multiply_adds,
    projected_seconds,
    training_steps,
)
from benchmarks.bench.measured import Machine, measured
from benchmarks.engine import open_engine
from benchmarks.errors import EngineError
from benchmarks.recipe import DATASETS, load_recipe
from benchmarks.recipe.settings import named_settings
from benchmarks.regress.narrow import narrowed
from benchmarks.run.folder import RunFolder
from benchmarks.run.protocol import TrainingState
from benchmarks.run.state import Checkpoint, Manifest, SittingLog
from results.record import columns

DERIVED = re.compile(r"bn\d+\.(center|scale|shift)")  # of normalization, beside the averages
REGISTRY = Path(__file__).parents[3] / "results" / "runs"
FIRST, OTHERS = 784 * 2048, 2 * 2048 * 2048 + 2048 * 10  # weights of binaryconnect-mnist's layers


def test_the_products_and_steps_of_a_run():
    recipe = load_recipe("binaryconnect-mnist")
    assert multiply_adds(recipe) == 2 * FIRST + 3 * OTHERS  # no gradient of the images
    assert training_steps(recipe) == 250 * 500


def test_the_least_of_real_products_is_all_of_them_and_the_updates_at_full_speed():
    recipe = load_recipe("chawla-mlp-mnist-float", ["train.epochs=2"])
    flop = 2 * (2 * 50_000 * multiply_adds(recipe) + 2 * 20_000 * (FIRST + OTHERS))
    updates = 2 * 196 * (FIRST + OTHERS) * 12  # bytes: gradient, weight read and written
    calls = 4 * (2 * 196 + 2 * 20_000 / 250)  # of layers
    at_best = flop / 100e9 + updates / 10e9
    least, most = projected_seconds(recipe, MachineSpeed(100, 10), "gluon", "cpu")
    assert least == pytest.approx(at_best + calls * 0.2e-3)
    assert most == pytest.approx(at_best / 0.45 + calls * 1e-3)
    least, most = projected_seconds(recipe, MachineSpeed(100, 10), "torch", "gpu")
    assert least == pytest.approx(at_best + calls * 0.02e-3)
    assert most == pytest.approx(at_best / 0.45 + calls * 0.3e-3)


def test_tables_take_time_off_what_has_signs_only_where_there_are_tables():
    """Of outputs and gradients of inputs, of which the first layer has none; evaluations are real."""
    recipe, fast = load_recipe("binaryconnect-mnist", ["train.epochs=2"]), MachineSpeed(1, 1e9)
    with_tables, without = (projected_seconds(recipe, fast, engine, "cpu") for engine in ("gluon", "torch"))
    assert without[0] - with_tables[0] == pytest.approx(0.6 * 2 * 2 * 50_000 * (FIRST + 2 * OTHERS) / 1e9)
    assert without[1] == with_tables[1]


# As `bench` measured it on the machine of docs/performance.md, two threads.
XEON = MachineSpeed(330, 26)


@pytest.mark.parametrize(
    ("benchmark", "engine", "ms"),
    [
        ("finn-tfc-mnist-1w1a", "gluon", 2.14), ("finn-tfc-mnist-1w1a", "torch", 1.10),
        ("rwth-lenet5-mnist-binary", "gluon", 12.1), ("rwth-lenet5-mnist-binary", "torch", 17.9),
        ("binaryconnect-mnist", "gluon", 41.4), ("binarynet-mnist", "gluon", 125),
        ("binaryconnect-cifar10", "gluon", 494), ("binarynet-cifar10", "gluon", 279),
        ("rwth-vgg7-cifar10-binary", "gluon", 348),
    ],
)  # fmt: skip
def test_what_was_measured_lies_in_what_is_projected(benchmark, engine, ms):
    """Milliseconds a training step; evaluations take some percent more."""
    recipe = load_recipe(benchmark)
    least, most = projected_seconds(recipe, XEON, engine, "cpu")
    assert least < 1.05 * training_steps(recipe) * ms / 1e3 < most < 6 * least


@given(gflops=st.floats(1, 1e6), copy=st.floats(1, 1e4), epochs=st.integers(1, 1000))
def test_a_projection_is_a_range_in_proportion_to_the_epochs(gflops, copy, epochs):
    speed = MachineSpeed(gflops, copy)
    least, most = projected_seconds(load_recipe("binarynet-mnist", [f"train.epochs={epochs}"]), speed, "gluon", "cpu")
    assert 2 * least < most
    one, _ = projected_seconds(load_recipe("binarynet-mnist", ["train.epochs=1"]), speed, "gluon", "cpu")
    assert least == pytest.approx(epochs * one)


def test_this_machine_is_measured_and_what_cannot_be_is_said(monkeypatch):
    monkeypatch.setattr("benchmarks.bench.limits.SQUARE", 128)
    monkeypatch.setattr("benchmarks.bench.limits.COPY_BYTES", 10**6)
    monkeypatch.setattr("benchmarks.bench.limits.REST_SECONDS", 0)
    recipe = load_recipe("rwth-lenet5-mnist-binary")
    assert all(value > 0 for value in machine_speed(recipe, "gluon", "cpu", 1, "float32"))
    with pytest.raises(EngineError, match="not projected"):
        machine_speed(recipe, "gluon", "gpu", 1, "float32")


def test_the_files_of_a_run_are_as_large_as_they_were_said_to_be(tmp_path):
    recipe = load_recipe("binarynet-mnist")
    model = msgspec.structs.replace(
        recipe.model, architecture=narrowed(recipe.model.architecture, lambda n: n, lambda _: 64)
    )
    recipe = msgspec.structs.replace(recipe, settings=msgspec.structs.replace(recipe.settings, model=model))
    engine = open_engine("gluon", model, recipe.image_shape, 1, threads=1)
    folder = RunFolder.create(tmp_path, Manifest(
        benchmark=recipe.id, settings=named_settings(recipe.settings, recipe.stated), overrides={}, seed=1,
        engine="gluon", device="cpu", threads=1, data={},
    ))  # fmt: skip
    folder.save_weights(1, engine.parameters())
    curve = {name: [1] for name in columns({})}
    progress = TrainingState(np.arange(recipe.data.train_images), curve, np.ones(10_000, bool))
    folder.save_checkpoint(Checkpoint(engine=engine.state(), progress=progress, sittings=[], peak_memory_mib=0))
    files = sum(path.stat().st_size for path in folder.path.glob("*.npz"))
    assert files == pytest.approx(disk(recipe).finished, rel=0.05)
    assert disk(recipe).training == 2 * disk(recipe).finished


def test_what_was_measured_of_real_runs_is_near_what_is_said():
    """chawla-mlp-mnist-float's checkpoint and weights, and records of the registry with their weights."""
    assert disk(load_recipe("chawla-mlp-mnist-float")).finished == pytest.approx(40_523_501 + 40_085_566, rel=0.01)
    for record in REGISTRY.glob("*/*.json"):
        said = disk(load_recipe(record.parent.name))
        assert said.record / 1.6 < record.stat().st_size < said.record * 1.6
        weights = record.parents[2] / "weights" / record.parent.name / f"{record.stem}.safetensors"
        if weights.exists():  # names, settings and scales beside what is said, and what readers would have to derive
            with safe_open(weights, "numpy") as file:
                derived = [file.get_tensor(name) for name in file.keys() if DERIVED.fullmatch(name)]  # noqa: SIM118
            more = sum(tensor.nbytes for tensor in derived)
            assert said.weights + more < weights.stat().st_size < said.weights + more + 20_000


def test_prepared_files_are_as_large_as_they_were_said_to_be(small_data_root):
    assert IMAGES.keys() == DATASETS.keys()
    for dataset in ("mnist-small", "cifar10-small"):
        few = [f"data.dataset={dataset}", "data.train_images=100", "data.valid_images=50", "train.batch_size=50"]
        recipe = load_recipe("chawla-mlp-mnist-float", few)
        size = data_prep.status(dataset, small_data_root).bytes
        assert data_bytes(recipe, stored_preprocessing=False) == pytest.approx(size, rel=0.01)
    cifar10 = load_recipe("binaryconnect-cifar10")
    assert data_bytes(cifar10, stored_preprocessing=True) == 60_000 * 3072 * 4


def store_epochs(folder: RunFolder, seconds: list[float], sittings: list[SittingLog]) -> None:
    """A checkpoint after epochs that took so long."""
    curve = {name: [1] * len(seconds) for name in columns({})} | {"seconds": seconds}
    progress = TrainingState(np.arange(4), curve, np.ones(4, bool))
    folder.save_checkpoint(Checkpoint(engine={}, progress=progress, sittings=sittings, peak_memory_mib=0))


# -- earlier runs ------------------------------------------------------------------------------------------------------

BENCHMARK, RECORD = "rwth-lenet5-mnist-binary", "237fe4a5f6da1e2c"


@pytest.fixture
def there() -> Machine:
    """That of the last sitting of a record of the registry."""
    from results.registry import read

    engine = read(REGISTRY / BENCHMARK / f"{RECORD}.json").engine
    return Machine(engine.name, engine.device, engine.device_name, engine.threads, engine.precision, engine.device_name)


def test_a_record_of_the_same_machine_gives_the_time_of_an_epoch(there, tmp_path):
    recipe = load_recipe(BENCHMARK)
    found = measured(recipe, there, tmp_path, REGISTRY)
    assert found.of == f"record {RECORD}"
    assert 0 < found.epoch_seconds < 1000
    assert measured(load_recipe(BENCHMARK, ["train.epochs=3"]), there, tmp_path, REGISTRY) == found  # the same work


@pytest.mark.parametrize(
    "change", [{"threads": 64}, {"precision": "bf16"}, {"name": "torch"}, {"device_name": "other"}]
)
def test_one_of_another_machine_gives_none(there, tmp_path, change):
    assert measured(load_recipe(BENCHMARK), there._replace(**change), tmp_path, REGISTRY) is None


def test_one_with_other_work_gives_none(there, tmp_path):
    assert measured(load_recipe(BENCHMARK, ["train.batch_size=51"]), there, tmp_path, REGISTRY) is None


def test_one_that_is_damaged_is_passed_over(there, tmp_path):
    registry = tmp_path / "runs"
    shutil.copytree(REGISTRY / BENCHMARK, registry / BENCHMARK)
    (registry / BENCHMARK / f"{RECORD}.json").write_text("{")
    assert measured(load_recipe(BENCHMARK), there, tmp_path, registry) is None


def test_a_local_run_comes_first_without_the_epoch_in_which_it_compiled(there, tmp_path):
    recipe = load_recipe(BENCHMARK)
    folder = RunFolder.create(tmp_path / "runs", Manifest(
        benchmark=recipe.id, settings=named_settings(recipe.settings, recipe.stated), overrides={}, seed=1,
        engine="gluon", device="cpu", threads=1, data={},
    ))  # fmt: skip
    engine = there._asdict()
    machine = {"processor": engine.pop("processor")}
    sitting = SittingLog(
        commit=None, dirty=False, diff_sha256=None, first_epoch=1, last_epoch=4, seconds=140, started="", engine=engine,
        machine=machine,
    )  # fmt: skip
    store_epochs(folder, [100.0, 10.0, 11.0, 19.0], [sitting])
    assert measured(recipe, there, tmp_path / "runs", REGISTRY) == (11.0, 3, f"run {folder.name}")
    sitting.machine = {"processor": "other"}
    store_epochs(folder, [100.0, 10.0, 11.0, 19.0], [sitting])
    assert measured(recipe, there, tmp_path / "runs", REGISTRY).of == f"record {RECORD}"
