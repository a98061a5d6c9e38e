"""Both engines compute the same, benchmark by benchmark: initial parameters, random draws, losses, gradients, updates.

Layers are narrow, all else is the recipe's. The float32 sums of two frameworks differ in their last places, so a
comparison ends where a rounding error first turns a sign: the steps are few, and where activations are binary each
starts from the same state.
"""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.recipe import benchmark_ids, load_recipe

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="the gluon engine is not installed"),
]
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)]
BATCH, STEPS, SHARE = 50, 3, 0.01
PAPERS = ("BinaryConnect", "BinaryNet")


def narrow(architecture: str) -> str:
    """The same layers with 8 filters and 32 units."""
    return re.sub(r"\d+FC(?=-|$)", "32FC", re.sub(r"\d+C(\d)", r"8C\1", architecture)).removesuffix("32FC") + "10FC"


def known(benchmark: str) -> bool:
    return load_recipe(benchmark).paper.name in PAPERS


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("benchmark_id", [name for name in benchmark_ids() if known(name)])
def test_both_engines_train_alike(benchmark_id, device):
    published = load_recipe(benchmark_id)
    recipe = load_recipe(benchmark_id, [f"model.architecture={narrow(published.model.architecture)}"])
    shape = recipe.image_shape
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
        close(torch.gradients(), gluon.gradients())
        close(torch.parameters(), gluon.parameters())
    scores = [engine.scores(images, BATCH) for engine in (gluon, torch)]
    assert np.mean(scores[0].argmax(1) == scores[1].argmax(1)) > 0.95


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Tensor by tensor, the distance is at most a share of the expected tensor's norm.

    Biases are left out: normalisation follows, so their true gradient is zero, and Adam turns its rounding noise into
    steps.
    """
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if not name.endswith(".bias"):
            distance = np.linalg.norm(value - expected[name])
            assert distance <= SHARE * np.linalg.norm(expected[name]) + 1e-6, name
