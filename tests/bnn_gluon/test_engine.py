from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.errors import EngineError
from benchmarks.recipe import load_recipe


def settings(*overrides: str):
    return load_recipe("binaryconnect-mnist", ["model.architecture=2x32FC-10FC", *overrides]).model


def small(benchmark: str, architecture: str, *overrides: str):
    return load_recipe(benchmark, [f"model.architecture={architecture}", *overrides]).model


MODELS = {
    "stochastic": settings(),
    "deterministic": settings("model.weights=deterministic", "model.evaluation_weights=binary"),
    "convolutional": settings("model.architecture=2x4C3-MP2-8C3-MP2-16FC-10FC"),
    "other limit": settings("model.weight_limit=0.5"),
    "shift-based": load_recipe("binarynet-torch7-mnist", ["model.architecture=2x32FC-10FC"]).model,
    "shift-based convolutional": load_recipe(
        "binarynet-torch7-svhn", ["model.architecture=2x4C3-MP2-8C3-MP2-16FC-10FC"]
    ).model,
    "momentum, no biases": small("rwth-lenet5-mnist-binary", "4C5-MP2-8C5v-MP2-32FC-10FC"),
    "pooled last, ternary": small("rwth-lenet5-mnist-tern1", "4C5-MP2-8C5v-MP2-32FC-10FC", "model.layer_order=CBAP"),
    "edge padding": small("rwth-vgg7-cifar10-reg-1e-5", "4C3v-8C3-MP2-8C3-32FC-10FC"),
    "frozen output, no normalization": small("chawla-mlp-mnist-float", "2x32FC-10FC"),
    "dropped-out outputs": small("memorization-svhn-dropout", "4C3-MP2-2x32FC-10FC"),
    "loss-aware": small("lab-mnist", "2x32FC-10FC"),
    "scaled, binary activations": small("lab-svhn-xnor", "2x4C3-MP2-8C3-MP2-16FC-10FC"),
    "two bits, quantized images": small("finn-tfc-mnist-2w2a", "2x32FC-10FC"),
    "no gamma": small("larq-mnist", "4C3v-MP2-8C3v-MP2-8C3v-32FC-10FC"),
    "scaled by filter, centered": small("xnornet-lenet5-mnist", "4C5v-MP2-8C5v-MP2-32FC-10FC"),
    "means of windows, dropped-out signs": small(
        "xnornet-nin-cifar10", "8C5-8C1-8C1-MP3s2p1-8C5-2x8C1-AP3s2p1-8C3-8C1-10C1-AP7"
    ),
    "drawn in evaluation": small("memorization-svhn-stochastic-sigmoid", "4C3-MP2-32FC-10FC"),
}


THREADS_OF_MXNET = """
import ctypes
from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
open_engine("gluon", load_recipe("binaryconnect-mnist").model, (1, 28, 28), 0, threads=1)
print(ctypes.CDLL("libgomp.so.1").omp_get_max_threads())
"""


@pytest.fixture
def batch():
    generator = np.random.default_rng(3)
    return generator.normal(size=(60, 1, 28, 28)).astype(np.float32), generator.integers(0, 10, 60)


def engine_of(name: str, seed: int = 5):
    return open_engine("gluon", MODELS[name], (1, 28, 28), seed)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", MODELS)
def test_an_epoch_is_its_steps(name, batch):
    images, labels = batch
    order = np.random.default_rng(1).permutation(60)
    epoch, steps = engine_of(name), engine_of(name)
    seen = []
    losses = epoch.train_epoch(images, labels, order, 16, 1e-3, lambda done, loss: seen.append((done, loss)))
    batches = [order[start : start + 16] for start in (0, 16, 32)]  # the last 12 images do not fill a batch
    steps.train_epoch(images, labels, order[:0], 16, 1e-3)  # what comes before the first step
    expected = [steps.train_step(images[rows], labels[rows], 1e-3) for rows in batches]
    np.testing.assert_array_equal(losses, np.array(expected, np.float32))
    assert seen == [(n, loss) for n, loss in enumerate(losses, 1)]
    assert same(epoch.state(), steps.state())


@pytest.mark.parametrize("name", MODELS)
def test_a_kept_remainder_is_a_smaller_batch_whose_loss_is_divided_as_the_others(name, batch):
    images, labels = batch
    losses = engine_of(name).train_epoch(images, labels, np.arange(60), 40, 0.0, keep_remainder=True)
    assert len(losses) == 2
    alone = engine_of(name)
    alone.train_step(images[:40], labels[:40], 0.0)
    divisor = 40 / 20 if MODELS[name].loss_divisor == "batch_size" else 1
    assert losses[1] * divisor == pytest.approx(alone.train_step(images[40:], labels[40:], 0.0), rel=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_state_continues_to_the_bit(name, batch):
    images, labels = batch
    whole = engine_of(name)
    for _ in range(2):
        whole.train_step(images, labels, 1e-3)
    state = whole.state()
    other = engine_of(name)
    other.load_state(state)
    assert same(other.state(), state)
    assert np.array_equal(other.scores(images, 25), whole.scores(images, 25))
    assert [other.train_step(images, labels, 1e-3) for _ in range(3)] == [
        whole.train_step(images, labels, 1e-3) for _ in range(3)
    ]
    assert same(other.state(), whole.state())


@pytest.mark.parametrize("name", MODELS)
def test_evaluating_changes_nothing(name, batch):
    images, labels = batch
    plain, evaluated = engine_of(name), engine_of(name)
    for _ in range(3):
        plain.train_step(images, labels, 1e-3)
        evaluated.train_step(images, labels, 1e-3)
        evaluated.scores(images, 7)
    assert same(plain.state(), evaluated.state())


@pytest.mark.parametrize(
    "name", ["stochastic", "deterministic", "convolutional", "other limit", "shift-based", "drawn in evaluation"]
)
def test_it_learns_a_batch_and_keeps_weights_within_the_limit(name, batch):
    images, labels = batch
    engine = engine_of(name)
    losses = [engine.train_step(images, labels, 3e-3) for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.75 * losses[0]  # measured: 0.21 to 0.66
    limit = MODELS[name].weight_limit
    weights = [value for key, value in engine.parameters().items() if key.endswith(".weight")]
    assert all(np.abs(value).max() <= limit for value in weights)
    assert any(np.abs(value).max() == limit for value in weights)


def test_seeds_make_other_networks(batch):
    assert same(engine_of("stochastic").parameters(), engine_of("stochastic").parameters())
    assert not same(engine_of("stochastic").parameters(), engine_of("stochastic", seed=6).parameters())


def test_initial_parameters():
    parameters = engine_of("convolutional").parameters()
    assert list(parameters)[:6] == [
        *("conv1.weight", "conv1.bias", "bn1.gamma", "bn1.beta", "bn1.running_mean", "bn1.running_std")
    ]
    assert parameters["conv2.weight"].shape == (4, 4, 3, 3)
    assert parameters["dense1.weight"].shape == (16, 8 * 7 * 7)
    assert parameters["bn1.gamma"].shape == (4,)
    for name, value in parameters.items():
        assert value.dtype == np.float32
        if name.endswith(".weight"):
            assert value.min() < -0.5
            assert value.max() > 0.5
        else:
            assert np.all(value == (1 if name.split(".")[1] in ("gamma", "running_std") else 0)), name


def test_parameters_are_copies():
    engine = engine_of("stochastic")
    engine.parameters()["dense1.weight"][:] = 9
    assert np.abs(engine.parameters()["dense1.weight"]).max() <= 1


def test_wrong_parameters_are_refused_and_nothing_is_changed():
    engine = engine_of("stochastic")
    before = engine.parameters()
    missing = {name: value for name, value in before.items() if name != "bn2.beta"}
    with pytest.raises(ValueError, match="parameters: expected"):
        engine.load_parameters(missing)
    with pytest.raises(ValueError, match=r"bn2.beta: expected shape \(32,\), found \(31,\)"):
        engine.load_parameters({**before, "bn2.beta": np.zeros(31)})
    assert same(engine.parameters(), before)


def test_what_cannot_be_had_is_refused_in_one_line():
    with pytest.raises(EngineError, match="unknown engine 'glon': expected gluon"):
        open_engine("glon", MODELS["stochastic"], (1, 28, 28), 0)
    with pytest.raises(EngineError, match=r"compute capability 5.0, 6.0, 7.0, 8.0, 8.6 .*use --device cpu"):
        open_engine("gluon", MODELS["stochastic"], (1, 28, 28), 0, device="gpu")
    with pytest.raises(EngineError, match="cannot change them to 4096"):
        open_engine("gluon", MODELS["stochastic"], (1, 28, 28), 0, threads=4096)


@pytest.mark.slow
def test_mxnet_has_as_many_threads_as_are_asked_for():
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"}  # numba takes so many, and would give them to MXNet
    environment.pop("OMP_NUM_THREADS", None)
    python = subprocess.run(
        [sys.executable, "-c", THREADS_OF_MXNET],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert python.stdout == "1\n"


def test_it_says_what_computes():
    described = engine_of("stochastic").describe()
    assert described["name"] == "gluon"
    assert described["versions"]["mxnet"] == "1.9.1"
    assert described["threads"] >= 1
    assert "MKLDNN" in described["features"]


def test_an_engine_whose_products_are_wrong_is_refused(mx, monkeypatch):
    from bnn_gluon import engine

    right = mx.nd.FullyConnected
    monkeypatch.setattr(mx.nd, "FullyConnected", lambda *operands, **options: right(*operands, **options) + 1)
    engine._check_products.cache_clear()
    with pytest.raises(EngineError, match="mxnet computes a dense product wrongly on this machine"):
        open_engine("gluon", load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model, (1, 28, 28), 0)


def test_a_variable_that_mxnet_may_have_read_already_is_refused(mx, monkeypatch):
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    with pytest.raises(EngineError, match="mxnet was loaded while DNNL_MAX_CPU_ISA was set"):
        open_engine("gluon", load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model, (1, 28, 28), 0)


def test_a_file_with_settings_of_numba_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".numba_config.yaml").write_text("cpu_name: generic\n")
    model = load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model
    with pytest.raises(EngineError, match=r"says how numba is to compile, .*`mv .numba_config.yaml numba_config.yaml`"):
        open_engine("gluon", model, (1, 28, 28), 0)
