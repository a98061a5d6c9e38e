"""Both engines compute the same, benchmark by benchmark: initial parameters, random draws, losses, gradients, updates.

Layers are narrow, all else is the recipe's. The float32 sums of two frameworks differ in their last places, so a
comparison ends where a rounding error first turns a sign: the steps are few, and where activations are binary each
starts from the same state.
"""

from __future__ import annotations

import importlib.util

import msgspec
import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.recipe import ModelSettings, Recipe, benchmark_ids, load_recipe
from benchmarks.recipe.networks import NETWORKS
from benchmarks.regress.narrow import narrowed

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="the gluon engine is not installed"),
]
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)]
BATCH, STEPS, SHARE = 50, 3, 0.01


def narrow(benchmark_id: str) -> Recipe:
    """The recipe with 8 filters and 32 units a layer."""
    architecture = narrowed(load_recipe(benchmark_id).model.architecture, lambda _: 8, lambda _: 32)
    return load_recipe(benchmark_id, [f"model.architecture={architecture}"])


def benchmarks() -> list[str]:
    """All that both engines know, of those with the same model the first."""
    first: dict[bytes, str] = {}
    for name in benchmark_ids():
        if load_recipe(name).model.architecture not in NETWORKS:
            first.setdefault(msgspec.json.encode(narrow(name).model), name)
    return list(first.values())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("benchmark_id", benchmarks())
def test_both_engines_train_alike(benchmark_id, device):
    recipe = narrow(benchmark_id)
    shape, left_out = recipe.image_shape, undecided(recipe.model)
    gluon = open_engine("gluon", recipe.model, shape, seed=11)
    torch = open_engine("torch", recipe.model, shape, 11, device, compile="off")
    generator = np.random.default_rng(2)
    images = generator.normal(size=(BATCH, *shape)).astype(np.float32)
    labels = generator.integers(0, 10, BATCH)
    for name, value in gluon.parameters().items():
        np.testing.assert_array_equal(torch.parameters()[name], value, err_msg=name)
    # With beta = 0, activations of whole-number sums lie on the very edge of the straight-through gradient.
    parameters = gluon.parameters()
    gluon.load_parameters(
        {n: v + generator.uniform(-0.1, 0.1, v.shape) * n.endswith(".beta") for n, v in parameters.items()}
    )
    rate = recipe.train.lr_start
    for _ in range(STEPS):
        torch.load_state(gluon.state())
        losses = [engine.train_step(images, labels, rate) for engine in (gluon, torch)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        close(torch.gradients(), gluon.gradients(), left_out)
        close(decided(torch.parameters(), gluon.gradients()), decided(gluon.parameters(), gluon.gradients()), left_out)
    torch.load_state(gluon.state())
    scores = [engine.scores(images, BATCH) for engine in (gluon, torch)]
    assert np.mean(scores[0].argmax(1) == scores[1].argmax(1)) > 0.95


def undecided(model: ModelSettings) -> tuple[str, ...]:
    """Endings of the names of parameters whose true gradient is zero: Adam turns its rounding noise into steps.

    They are the biases where normalization follows; and where activations pass gradients on as they are, the betas too,
    as the next layer's normalization takes off what they add.
    """
    if model.batch_norm == "none":
        return ()
    return (".bias", ".beta") if model.activation_gradient == "identity" else (".bias",)


def decided(values: dict[str, np.ndarray], gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without those values whose gradient is rounding noise, a millionth of its tensor's: likewise."""
    noise = {name: np.abs(gradient) <= 1e-6 * np.linalg.norm(gradient) for name, gradient in gradients.items()}
    return {name: np.where(noise[name], 0, value) if name in noise else value for name, value in values.items()}


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], left_out: tuple[str, ...]) -> None:
    """Tensor by tensor, the distance is at most a share of the expected tensor's norm."""
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if not name.endswith(left_out):
            distance = np.linalg.norm(value - expected[name])
            assert distance <= SHARE * np.linalg.norm(expected[name]) + 1e-6, name
