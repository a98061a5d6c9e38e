"""The PyTorch engine keeps the contract of engines: on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.errors import EngineError
from benchmarks.recipe import load_recipe

pytestmark = pytest.mark.torch
CONVOLUTIONAL = "model.architecture=2x4C3-MP2-8C3-MP2-16FC-10FC"
LENET = "model.architecture=4C5-MP2-8C5v-MP2-16FC-10FC"


def settings(benchmark: str, *overrides: str):
    return load_recipe(benchmark, ["model.architecture=2x32FC-10FC", *overrides]).model


MODELS = {
    "stochastic": settings("binaryconnect-mnist"),
    "deterministic": settings("binaryconnect-mnist", "model.weights=deterministic", "model.evaluation_weights=binary"),
    "convolutional": settings("binaryconnect-mnist", CONVOLUTIONAL),
    "all ties": settings("binarynet-mnist", CONVOLUTIONAL, "model.max_pool_gradient=all"),
    "dropout": settings("binarynet-mnist"),
    "half glorot": settings("binaryconnect-paper-mnist"),
    "real": settings("binaryconnect-paper-mnist-none"),
    "shift-based": settings("binarynet-torch7-mnist"),
    "shift-based convolutional": settings("binarynet-torch7-svhn", CONVOLUTIONAL),
    "output dropout": settings("memorization-cifar10-dropout", "model.architecture=4C3-MP2-2x16FC-10FC"),
    "evaluated stochastically": settings("memorization-svhn-stochastic-sigmoid", CONVOLUTIONAL),
    "momentum, edges, penalties": settings(
        "rwth-lenet5-mnist-binary",
        LENET,
        "model.padding=edge",
        "model.binary_regularization=0.001",
        "model.l2_dense=0.01",
    ),
    "ternary, some layers real": settings("rwth-lenet5-mnist-tern1", LENET, "model.weights=ternary-real-2xternary"),
    "pooled last, Adam": settings(
        *("rwth-lenet5-mnist-cbap", LENET, "model.optimizer=torch_adam", "model.momentum=0"),
        *("model.activation_gradient=swish", "model.swish_beta=5"),
    ),
    "no normalization, last layer fixed": settings("chawla-mlp-mnist-stochastic"),
    "loss-aware": settings("lab-mnist"),
    "scaled, binary activations": settings("lab-svhn-xnor", CONVOLUTIONAL),
    "two bits, quantized images": settings("finn-tfc-mnist-2w2a"),
    "no gamma": settings("larq-mnist", "model.architecture=4C3v-MP2-8C3v-MP2-8C3v-16FC-10FC"),
    "scaled by filter, centered": settings("xnornet-lenet5-mnist", LENET),
    "masks of normal numbers": settings("chawla-cnn-cifar10-float", CONVOLUTIONAL),
}
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)]


@pytest.fixture
def batch():
    generator = np.random.default_rng(3)
    return generator.normal(size=(60, 1, 28, 28)).astype(np.float32), generator.integers(0, 10, 60)


@pytest.fixture(params=DEVICES)
def opened(request):
    def open_model(name: str, seed: int = 5, **options):
        return open_engine("torch", MODELS[name], (1, 28, 28), seed, request.param, **{"compile": "off", **options})

    return open_model


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", MODELS)
def test_an_epoch_is_its_steps(name, batch, opened):
    images, labels = batch
    order = np.random.default_rng(1).permutation(60)
    epoch, steps = opened(name), opened(name)
    seen = []
    losses = epoch.train_epoch(images, labels, order, 12, 1e-3, lambda done, loss: seen.append((done, loss)))
    batches = [order[start : start + 12] for start in range(0, 60, 12)]
    steps.train_epoch(images, labels, order[:0], 12, 1e-3)  # what comes before the first step
    expected = [steps.train_step(images[rows], labels[rows], 1e-3) for rows in batches]
    np.testing.assert_array_equal(losses, np.array(expected, np.float32))
    assert seen[-1] == (5, losses[-1])
    assert same(epoch.state(), steps.state())


def test_a_partial_batch_is_dropped(batch, opened):
    engine = opened("stochastic")
    assert engine.train_epoch(*batch, np.arange(60), 16, 1e-3).shape == (3,)
    assert engine.state()["step"] == 3


@pytest.mark.parametrize("name", MODELS)
def test_a_state_continues_to_the_bit(name, batch, opened):
    images, labels = batch
    whole = opened(name)
    whole.train_epoch(images, labels, np.arange(60), 20, 1e-3)
    state = whole.state()
    other = opened(name, seed=5)
    other.load_state(state)
    assert same(other.state(), state)
    assert np.array_equal(other.scores(images, 25), whole.scores(images, 25))
    np.testing.assert_array_equal(
        *(engine.train_epoch(images, labels, np.arange(60)[::-1], 20, 5e-4) for engine in (other, whole))
    )
    assert same(other.state(), whole.state())


@pytest.mark.parametrize("name", ["stochastic", "convolutional", "shift-based convolutional"])
def test_evaluating_changes_nothing_and_does_not_depend_on_the_batch(name, batch, opened):
    images, labels = batch
    plain, evaluated = opened(name), opened(name)
    for _ in range(3):
        plain.train_step(images, labels, 1e-3)
        evaluated.train_step(images, labels, 1e-3)
        scores = evaluated.scores(images, 7)
    assert same(plain.state(), evaluated.state())
    assert scores.shape == (60, 10)
    np.testing.assert_allclose(plain.scores(images, 60), scores, rtol=1e-4, atol=1e-4 * np.abs(scores).max())


# Where neither .1 of SGD nor .003 of the others is right.
RATES = {"ternary, some layers real": 0.03, "pooled last, Adam": 0.03, "masks of normal numbers": 1e-3}


@pytest.mark.parametrize("name", MODELS)
def test_it_learns_a_batch_and_keeps_weights_within_the_limit(name, batch, opened):
    images, labels = batch
    engine = opened(name)
    limits = {key: np.abs(value).max() for key, value in engine.parameters().items() if key.endswith(".weight")}
    rate = RATES.get(name, 0.1 if MODELS[name].optimizer == "sgd" else 3e-3)
    losses = [engine.train_epoch(images, labels, np.arange(60), 60, rate)[0] for _ in range(60)]
    # Binary networks of these widths cannot learn every random image.
    assert np.mean(losses[-5:]) < (0.9 if MODELS[name].activation == "sign" else 0.75) * losses[0]
    if MODELS[name].weights in ("deterministic", "stochastic") and MODELS[name].trained_layers == "all":
        weights = {key: value for key, value in engine.parameters().items() if key.endswith(".weight")}
        for key, value in weights.items():
            limit = 1 if MODELS[name].weight_limit == 1 else limits[key] * 1.01
            assert np.abs(value).max() <= limit, key


def test_seeds_make_other_networks(opened):
    assert same(opened("stochastic").parameters(), opened("stochastic").parameters())
    assert not same(opened("stochastic").parameters(), opened("stochastic", seed=6).parameters())


def test_parameters_are_copies_and_wrong_ones_are_refused(opened):
    engine = opened("stochastic")
    engine.parameters()["dense1.weight"][:] = 9
    before = engine.parameters()
    assert np.abs(before["dense1.weight"]).max() <= 1
    with pytest.raises(ValueError, match="parameters: expected"):
        engine.load_parameters({name: value for name, value in before.items() if name != "bn2.beta"})
    with pytest.raises(ValueError, match=r"bn2.beta: expected shape \(32,\), found \(31,\)"):
        engine.load_parameters({**before, "bn2.beta": np.zeros(31)})
    assert same(engine.parameters(), before)


@pytest.mark.parametrize("name", ["deterministic", "convolutional", "all ties"])
def test_bfloat16_is_float32_roughly(name, batch, opened):
    images, labels = batch
    exact, rounded = opened(name), opened(name, precision="bf16")
    one, other = (engine.train_step(images, labels, 1e-3) for engine in (exact, rounded))
    assert other == pytest.approx(one, rel=0.02)
    assert other != one
    assert rounded.describe()["precision"] == "bf16"


@pytest.mark.parametrize(
    ("cpuinfo", "slow"),
    [("flags\t\t: fpu avx512_bf16 sse", False), ("Features\t: fp bf16", False), ("flags : avx512f", True), ("", False)],
)
def test_a_cpu_that_is_slow_in_bfloat16_is_named(capsys, monkeypatch, tmp_path, cpuinfo, slow):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{cpuinfo}\n")
    monkeypatch.setattr("benchmarks.machine.facts.CPUINFO", tmp_path / "cpuinfo")
    open_engine("torch", MODELS["stochastic"], (1, 28, 28), 0, precision="bf16", compile="off")
    assert ("this CPU has no instructions for bf16" in capsys.readouterr().err) == slow


def test_products_of_binary_values_are_exact_in_bfloat16(opened):
    """Two layers whose inputs and weights are -1 and +1: the second's sums are the same whole numbers."""
    model = settings("binarynet-mnist", "model.dropout_input=0", "model.dropout_hidden=0")
    images = np.sign(np.random.default_rng(1).normal(size=(50, 1, 28, 28))).astype(np.float32)
    labels = np.arange(50) % 10
    losses = [
        open_engine("torch", model, (1, 28, 28), 5, "cpu", precision=precision, compile="off").train_step(
            images, labels, 1e-3
        )
        for precision in ("float32", "bf16")
    ]
    assert losses[0] == losses[1]


def test_what_cannot_be_had_is_refused_in_one_line():
    model = MODELS["stochastic"]
    with pytest.raises(EngineError, match="unknown precision 'half': expected float32, tf32, bf16"):
        open_engine("torch", model, (1, 28, 28), 0, precision="half")
    with pytest.raises(EngineError, match="precision 'tf32' is one of GPUs"):
        open_engine("torch", model, (1, 28, 28), 0, precision="tf32")
    with pytest.raises(EngineError, match="engine 'gluon' computes in float32: precision 'bf16' needs --engine torch"):
        open_engine("gluon", model, (1, 28, 28), 0, precision="bf16")
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match=r"device 'gpu': torch .* cannot use one.*docs/gpu.md"):
            open_engine("torch", model, (1, 28, 28), 0, device="gpu")


def test_it_says_what_computes(opened):
    import torch

    described = opened("stochastic").describe()
    assert described["name"] == "torch"
    assert described["versions"]["torch"] == torch.__version__
    assert described["precision"] == "float32"
    assert described["threads"] >= 1
    assert "eager" in described["features"]


@pytest.mark.parametrize("name", ["convolutional", "pooled last, Adam"])
def test_compiled_is_eager(name, batch, opened):
    """Step by step from the same state, to rounding. After a step of Adam, weights differ by as much as the learning
    rate where the gradient is nothing but rounding, which Adam scales up like any other."""
    from bnn_torch.device import compiler

    images, labels = batch
    eager = opened(name)
    device = "cuda" if eager.describe()["device"] == "gpu" else "cpu"
    if compiler.complaint(device) is not None:
        pytest.skip(f"nothing can be compiled here: {compiler.complaint(device)}")
    fused = opened(name, compile="on")
    assert "torch.compile" in fused.describe()["features"]
    assert ("c++ compiler" in fused.describe()["determinism"]) == (device == "cpu")
    for _ in range(2):
        losses = [engine.train_step(images, labels, 1e-3) for engine in (eager, fused)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        expected = eager.gradients()
        for key, gradient in fused.gradients().items():
            assert np.abs(gradient - expected[key]).max() <= 1e-5 + 1e-3 * np.abs(expected[key]).max(), key
        fused.load_state(eager.state())
        one, other = eager.scores(images, 20), fused.scores(images, 20)
        np.testing.assert_allclose(other, one, atol=1e-5 * np.abs(one).max())


def test_the_compiler_says_its_own_name(tmp_path):
    from torch._inductor import config, cpp_builder

    from bnn_torch.device import compiler

    named = tmp_path / "some-c++"
    named.write_text("#!/bin/sh\necho 'some-c++ 1.0'\necho 'Copyright'\n")
    named.chmod(0o755)
    with config.patch({"cpp.cxx": (None, str(named))}):
        cpp_builder.cpp_compiler_search.cache_clear()
        assert compiler.cpp_compiler() == "some-c++ 1.0"
    cpp_builder.cpp_compiler_search.cache_clear()


def test_an_engine_whose_products_are_wrong_is_refused(monkeypatch):
    import torch

    from bnn_torch import engine

    right = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *operands: right(*operands) + 1)
    engine._check_products.cache_clear()
    with pytest.raises(EngineError, match="torch computes a dense product wrongly on this machine"):
        open_engine("torch", load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model, (1, 28, 28), 0)
