"""The structure of what `bench` reports, on a tiny network; never how fast it was."""

from __future__ import annotations

import os
import signal
import statistics

import msgspec
import numpy as np
import pytest

from benchmarks.bench import BenchResult, Speed, bench, to_text, update_bytes
from benchmarks.bench.limits import dense_shapes
from benchmarks.bench.look_ups import in_training
from benchmarks.bench.processes import Options, training_processes
from benchmarks.engine import open_engine
from benchmarks.errors import EngineError
from benchmarks.recipe import load_recipe
from benchmarks.recipe.architecture import layer_shapes, parse_architecture
from benchmarks.recipe.cost import cost

REPEATS, STEPS = 2, 3


def recipe(architecture: str = "2x32FC-10FC", weights: str = "stochastic"):
    return load_recipe(
        "binaryconnect-mnist",
        [f"model.architecture={architecture}", f"model.weights={weights}", "train.batch_size=20"],
    )


@pytest.fixture(scope="module", autouse=True)
def _small_limits():
    """How fast this machine is does not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.bench.limits.COPY_BYTES", 10**6)
        patch.setattr("benchmarks.bench.limits.SQUARE", 64)
        patch.setattr("benchmarks.bench.limits.REST_SECONDS", 0)
        yield


@pytest.fixture(scope="module")
def result(_small_limits) -> BenchResult:
    return bench(recipe(), "gluon", "cpu", None, REPEATS, STEPS, compare_baseline=True)


def test_counts(result):
    assert len(result.rounds) == result.repeats == REPEATS
    assert result.steps == STEPS
    assert result.cost == cost(recipe())
    assert result.training.work.images == 20
    assert result.training.work.flop == 20 * result.cost.training_flop_per_image
    assert result.training.work.bytes == (784 * 32 + 32 * 32 + 32 * 10) * 32
    assert result.evaluation.work.flop == 250 * 2 * result.cost.multiply_adds
    assert result.evaluation.work.bytes == 0
    assert result.threads == result.engine["threads"]
    assert result.peak_memory_mib > 0
    assert not result.scoring


def test_a_network_without_dense_layers_has_the_products_of_its_last_convolution():
    shapes = layer_shapes(parse_architecture("4C3-10C1-AP4"), (3, 8, 8))
    assert dense_shapes(shapes, 5) == [(320, 4, 10), (10, 320, 4), (320, 10, 4)]
    assert dense_shapes(layer_shapes(parse_architecture("10FC"), (1, 2, 2)), 5) == [(5, 4, 10), (10, 5, 4)]


@pytest.mark.parametrize("name", ["training", "evaluation", "baseline"])
def test_figures_follow_from_the_rounds(result, name):
    speed: Speed = getattr(result, name)
    times = [getattr(r, f"{name}_ms") for r in result.rounds]
    assert min(times) > 0
    assert (speed.ms.min, speed.ms.median, speed.ms.max) == (min(times), statistics.median(times), max(times))
    assert speed.images_per_second.max == pytest.approx(speed.work.images / min(times) * 1e3)
    assert speed.gflops.max == pytest.approx(speed.work.flop / min(times) / 1e6)
    fractions = [
        speed.work.flop / (ms / 1e3) / (max(r.sgemm_square, r.sgemm_network) * 1e9)
        for ms, r in zip(times, result.rounds, strict=True)
    ]
    assert speed.of_sgemm.median == pytest.approx(statistics.median(fractions))
    floors = [
        speed.work.flop / max(r.sgemm_square, r.sgemm_network) / 1e6 + speed.work.bytes / r.copy / 1e6
        for r in result.rounds
    ]
    assert speed.floor_ms.median == pytest.approx(statistics.median(floors))
    ratios = [floor / ms for floor, ms in zip(floors, times, strict=True)]
    assert (speed.of_floor.min, speed.of_floor.max) == pytest.approx((min(ratios), max(ratios)))


def test_the_floor_of_tables_follows_from_the_rounds(result):
    """Of binary weights and real activations: outputs and gradients of inputs could come from tables."""
    work, inner = result.training.work, 32 * 32 + 32 * 10
    assert work.signed_flop == 20 * 2 * (784 * 32 + 2 * inner)
    assert work.look_ups == pytest.approx(work.signed_flop / 2 / 6 / 16)
    floors = [
        (work.flop - work.signed_flop) / r.sgemm / 1e6 + work.look_ups / r.lines / 1e6 + work.bytes / r.copy / 1e6
        for r in result.rounds
    ]
    assert result.training.tables_floor_ms.median == pytest.approx(statistics.median(floors))
    ratios = [floor / r.training_ms for floor, r in zip(floors, result.rounds, strict=True)]
    found = result.training.of_tables_floor
    assert (found.min, found.max) == pytest.approx((min(ratios), max(ratios)))
    assert result.evaluation.work.signed_flop == 0  # by real-valued weights
    assert result.evaluation.tables_floor_ms is None
    assert result.lines.min > 0.01


@pytest.mark.parametrize(
    ("benchmark", "overrides", "flop", "look_ups"),
    [
        ("binarynet-mnist", ["model.dropout_hidden=0"], 2 * (6272 + 3 * 144), (6272 + 3 * 144) / 96),
        # Dropped out activations have three values, so tables of four rows for the gradients of weights.
        ("binarynet-mnist", [], 2 * (6272 + 3 * 144), (6272 + 2 * 144) / 96 + 144 / 64),
        ("rwth-lenet5-mnist-float", [], 0, 0),
    ],
)
def test_what_tables_could_make(benchmark, overrides, flop, look_ups):
    found = in_training(load_recipe(benchmark, ["model.architecture=8FC-8FC-10FC", *overrides]))
    assert found == (flop, pytest.approx(look_ups))


def test_speedup_is_taken_round_by_round(result):
    ratios = [r.baseline_ms / r.training_ms for r in result.rounds]
    assert (result.speedup.min, result.speedup.max) == (min(ratios), max(ratios))


def test_full_run_is_extrapolated_from_the_medians(result):
    run, counted = result.full_run, result.cost
    assert run.training_seconds == pytest.approx(counted.training_steps * result.training.ms.median / 1e3)
    assert run.evaluation_seconds == pytest.approx(counted.evaluation_images / 250 * result.evaluation.ms.median / 1e3)
    assert run.total_seconds == run.training_seconds + run.evaluation_seconds


def test_json_round_trip(result):
    assert msgspec.json.decode(msgspec.json.encode(result), type=BenchResult) == result


def test_text_shows_every_part(result):
    text = to_text(result)
    for part in (
        *("random images", "plain training", "of peak sgemm", "copy:", "peak memory", "a whole run", "times as"),
        *("floor of tables", "lines loaded"),
    ):
        assert part in text
    assert text.endswith("\n")


def test_without_baseline_a_convolutional_network():
    result = bench(recipe("4C3-MP2-16FC-10FC"), "gluon", "cpu", None, 1, 1)
    assert result.baseline is None
    assert result.speedup is None
    assert result.training.ms.min == result.training.ms.max > 0
    assert "plain" not in to_text(result)


@pytest.mark.threads
def test_several_runs_at_once():
    result = bench(recipe(), "gluon", "cpu", 2, REPEATS, STEPS, at_once=2)
    together = result.together
    assert (together.runs, together.threads, together.taking_turns) == (2, 1, None)
    gains = [2 * r.training_ms / r.together_ms for r in result.rounds]
    assert (together.gain.min, together.gain.max) == pytest.approx((min(gains), max(gains)))
    assert together.images_per_second.max == pytest.approx(2 * 20e3 / min(r.together_ms for r in result.rounds))
    assert "2 runs at once, 1 threads each" in to_text(result)


@pytest.mark.slow
def test_runs_beside_each_other_leave_ctrl_c_to_bench_and_end_with_it():
    options = Options("gluon", "cpu", 1, "float32", "auto")
    with training_processes(recipe(), 1, options, 1) as others:
        (process,) = others._processes
        os.kill(process.pid, signal.SIGINT)
        others.train()
        assert process.is_alive()
    assert not process.is_alive()


@pytest.mark.slow
def test_runs_beside_each_other_that_cannot_be_begun():
    options = Options("gluon", "gpu", 1, "float32", "auto")
    with (
        pytest.raises(EngineError, match=r"one of 2 processes side by side: .*Maxwell"),
        training_processes(recipe(), 1, options, 2),
    ):
        pass


def test_engine_that_cannot_be_had():
    with pytest.raises(EngineError, match="Maxwell"):
        bench(recipe(), "gluon", "gpu", None, 1, 1)
    with pytest.raises(EngineError, match="no baseline"):
        bench(recipe(), "abacus", "cpu", None, 1, 1, compare_baseline=True)
    with pytest.raises(EngineError, match="cifar_resnet20_v1 has no baseline to compare with"):
        bench(load_recipe("gluoncv-resnet20-cifar10"), "gluon", "cpu", None, 1, 1, compare_baseline=True)


@pytest.mark.parametrize(
    ("benchmark_id", "override", "unknown"),
    [
        ("binaryconnect-cifar10-none", "train.epochs=2", "model.weights=real"),
        ("binaryconnect-mnist", "model.loss=cross_entropy", "model.loss=cross_entropy"),
        ("binaryconnect-mnist", "model.dropout_hidden=0.5", "model.dropout_hidden=0.5"),
    ],
)
def test_a_baseline_that_would_train_something_else(monkeypatch, benchmark_id, override, unknown):
    monkeypatch.setattr("benchmarks.bench.measure.open_engine", None)  # refused before anything large is made
    with pytest.raises(EngineError, match=f"--baseline: the plain network does not know {unknown}"):
        bench(load_recipe(benchmark_id, [override]), "gluon", "cpu", None, 1, 1, compare_baseline=True)


@pytest.mark.parametrize("weights", ["deterministic", "stochastic"])
def test_baseline_learns_in_a_network_of_the_same_shapes(weights):
    settings = recipe("4C3-MP2-2x32FC-10FC", weights).model
    engine = open_engine("gluon", settings, (1, 28, 28), seed=1)
    from bnn_gluon.baseline import PlainEngine  # mxnet, with the threads that the engine has set

    plain = PlainEngine(settings, (1, 28, 28), seed=1)
    generator = np.random.Generator(np.random.PCG64(1))
    labels, order = np.arange(100) % 10, np.tile(np.arange(100), 30)
    images = generator.standard_normal((10, 1, 28, 28), np.float32)[labels]  # an image a class
    losses = plain.train_epoch(images, labels, order, batch_size=50, lr=1e-2)
    assert losses.shape == (60,)
    assert losses.dtype == np.float32
    assert losses[-10:].mean() < 0.7 * losses[:10].mean()
    shapes = sorted(value.shape for value in engine.parameters().values())
    assert sorted(parameter.shape for parameter in plain.network.collect_params().values()) == shapes


@pytest.mark.parametrize(
    ("benchmark_id", "values"),
    [
        ("binaryconnect-mnist", 8),  # gradient, two moments twice, weight twice, binary weight
        ("rwth-lenet5-mnist-binary", 6),  # one moment
        ("chawla-mlp-mnist-binary", 4),
        ("chawla-mlp-mnist-float", 3),
    ],
)
def test_bytes_that_an_update_moves(benchmark_id, values):
    assert update_bytes(load_recipe(benchmark_id).model) == 4 * values
