"""`bench` and `throughput` with the torch engine: the structure of what they report, never how fast it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench import bench, to_text
from benchmarks.errors import EngineError
from benchmarks.recipe import load_recipe

pytestmark = pytest.mark.torch
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)]


def recipe(benchmark: str = "binaryconnect-mnist", architecture: str = "4C3-MP2-16FC-10FC"):
    return load_recipe(benchmark, [f"model.architecture={architecture}", "train.batch_size=20"])


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch):
    """How fast this machine is does not matter here."""
    for name, value in (("COPY_BYTES", 10**6), ("SQUARE", 64), ("REST_SECONDS", 0)):
        monkeypatch.setattr(f"benchmarks.bench.measure.{name}", value)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("device", DEVICES)
def test_engine_beside_plain_pytorch(device, precision):
    result = bench(recipe(), "torch", device, None, 2, 3, compare_baseline=True, precision=precision, compile="off")
    assert [r.baseline_ms > 0 for r in result.rounds] == [True, True]
    assert result.compiled is None  # as the engine is not compiled either
    ratios = [r.baseline_ms / r.training_ms for r in result.rounds]
    assert (result.speedup.min, result.speedup.max) == (min(ratios), max(ratios))
    assert (result.device_memory_mib is None) == (device == "cpu")
    assert "plain training" in to_text(result)


@pytest.mark.parametrize(
    ("benchmark_id", "lr"),
    [
        *(("binaryconnect-mnist", 1e-2), ("binarynet-mnist", 1e-2), ("binaryconnect-cifar10-none", 1e-2)),
        ("binaryconnect-paper-mnist-deterministic", 0.1),
    ],
)
def test_plain_network_learns(benchmark_id, lr):
    from bnn_torch.baseline import PlainEngine

    model, shape = recipe(benchmark_id).model, load_recipe(benchmark_id).image_shape
    generator = np.random.default_rng(1)
    images = generator.normal(size=(100, *shape)).astype(np.float32)[np.arange(100) % 10]  # an image a class
    losses = PlainEngine(model, shape, seed=1).train_epoch(
        images, np.arange(100) % 10, np.tile(np.arange(100), 30), batch_size=50, lr=lr
    )
    assert losses.shape == (60,)
    assert losses[-10:].mean() < 0.7 * losses[:10].mean()


def test_plain_network_that_is_not_there():
    with pytest.raises(EngineError, match=r"the plain network does not know model\.activation=stochastic_sign"):
        bench(recipe("binarynet-torch7-mnist"), "torch", "cpu", None, 1, 1, compare_baseline=True, compile="off")


def test_throughput_refuses_what_is_unknown():
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench.throughput",
        "binaryconnect-mnist",
        "--contenders",
        "abacus",
    ]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "invalid choice: 'abacus'" in result.stderr


def test_throughput_says_what_cannot_be_measured():
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench.throughput",
        "binarynet-torch7-mnist",
        "--contenders",
        "plain",
    ]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    complaint = "plain PyTorch, eager: --baseline: the plain network does not know model.activation=stochastic_sign"
    assert complaint in result.stderr.splitlines()
    assert "Traceback" not in result.stderr


def test_throughput_of_a_torch_that_cannot_be_loaded(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench.throughput",
        "binaryconnect-mnist",
        "--contenders",
        "plain",
    ]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "torch cannot be loaded (libgomp.so.1: cannot open shared object file)" in result.stderr
    assert "Traceback" not in result.stderr
