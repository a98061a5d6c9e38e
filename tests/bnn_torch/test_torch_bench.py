"""`bench` and `throughput` with the torch engine: the structure of what they report, never how fast it was."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.bench import bench, throughput, to_text
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
        monkeypatch.setattr(f"benchmarks.bench.limits.{name}", value)


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


def test_throughput_is_measured_in_another_process(process_cli):
    small = ("--contenders", "plain", "--rounds", "1", "--steps", "1", "--json")
    result = process_cli("throughput", "binaryconnect-paper-mnist-deterministic", *small)
    assert result.returncode == 0, result.stderr
    (measured,) = json.loads(result.stdout)
    assert measured["milliseconds"]["plain"][0] > 0
    assert (measured["ratios"], measured["complaints"]) == ({"plain": [1]}, {})


def test_throughput_goes_on_without_who_cannot_be_measured(monkeypatch):
    answers = iter([4.0, "it is not here", 8.0, 2.0, 1.0])
    monkeypatch.setattr(throughput, "_in_another_process", lambda *_: next(answers))
    said = []
    conditions = throughput.Conditions(rounds=2, steps=1, device="cpu", precision="float32")
    result = throughput.compare("any", ["torch", "gluon", "plain"], conditions, said.append)
    assert said == ["gluon engine: it is not here"]
    assert result.milliseconds == {"torch": [4.0, 2.0], "plain": [8.0, 1.0]}
    assert result.ratios == {"torch": [1.0, 1.0], "plain": [2.0, 0.5]}
    assert "| plain PyTorch, eager | 4.5 (1.0 to 8.0) | 2.00, 0.50 |" in throughput.to_text(result).splitlines()


def test_throughput_says_what_cannot_be_measured(process_cli):
    result = process_cli("throughput", "binarynet-torch7-mnist", "--contenders", "plain")
    complaint = "plain PyTorch, eager: --baseline: the plain network does not know model.activation=stochastic_sign"
    assert (result.returncode, result.stdout) == (1, "")
    *_, last = result.stderr.splitlines()  # in front of it a slow machine is told what is going on
    assert last == f"error: binarynet-torch7-mnist could not be measured: {complaint}"


def test_throughput_of_a_torch_that_cannot_be_loaded(process_cli, tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')")
    result = process_cli("throughput", "binaryconnect-mnist", "--contenders", "plain", PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert "torch cannot be loaded (libgomp.so.1: cannot open shared object file)" in result.stderr
    assert "Traceback" not in result.stderr
