"""The Gluon engine against loss-aware binarization's training step in float64 NumPy; the scale of its weights."""

from __future__ import annotations

import functools

import lab_reference as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from bnn_gluon import quantize

OPENED: reference.Opened = functools.partial(open_engine, "gluon")


@pytest.mark.parametrize("case", reference.CASES)
def test_three_steps(case):
    reference.check_three_steps(case, OPENED)


@pytest.mark.parametrize("case", ["LAB", "LAB, convolutional"])
def test_the_references_gradients_are_finite_differences(case):
    run = reference.Prepared(case, OPENED)
    network, given_ = run.network, (run.images[0], run.labels[0])
    weights = {name: network.used(name) for name in network.names}
    affine = {name: v for name, v in network.values.items() if name.endswith((".gamma", ".beta"))}
    network.step(*given_)
    gradients = dict(network.gradients)
    network.values |= affine
    for name in network.names:
        for index in zip(*(run.generator.randint(0, side, 5) for side in weights[name].shape), strict=True):
            losses = []
            for change in (1e-6, -1e-6):
                moved = weights[name].copy()
                moved[index] += change
                losses.append(network.loss(*given_, weights | {name: moved}))
            slope = (losses[0] - losses[1]) / 2e-6
            assert gradients[f"{name}.weight"][index] == pytest.approx(slope, rel=1e-4, abs=1e-8)


@given(st.integers(0, 2**32 - 1), st.integers(2, 9000), st.floats(0, 2))
def test_the_scale_solves_the_proximal_step(seed, count, other):
    """Proposition 3.1: of all a b with a > 0 and b of +-1, a sign(w) is the nearest to w in the metric of d."""
    generator = np.random.default_rng(seed)
    weights = generator.uniform(-1, 1, count).astype(np.float32)
    square = (10.0 ** generator.uniform(-18, 0, count)).astype(np.float32)
    wide, d = weights.astype(np.float64), np.sqrt(square.astype(np.float64)) + 1e-8

    def distance(candidate: np.ndarray) -> float:
        return float((d * (wide - candidate) ** 2).sum() / d.sum())

    scale = quantize.loss_aware_scale(weights, square)
    signs = np.where(weights >= 0, 1, -1)
    assert scale > 0
    turned = signs * np.where(generator.random(count) < 0.1, -1, 1)
    for candidate in (other * signs, scale * 1.001 * signs, scale * 0.999 * signs, other * turned, scale * turned):
        assert distance(scale * signs) <= distance(candidate) + 1e-12


def test_equal_curvatures_give_the_plain_mean():
    """Remark 3.1: LAB is then BWN; so it is before the first step, where all second moments are 0."""
    weights = np.random.default_rng(1).uniform(-1, 1, 10_000).astype(np.float32)
    for size in (0, 1e-6, 4):
        square = np.full(weights.size, size, np.float32)
        assert quantize.loss_aware_scale(weights, square) == pytest.approx(np.abs(weights).mean(), rel=1e-6)


@pytest.mark.parametrize("benchmark", ["lab-mnist", "lab-mnist-bwn"])
def test_signs_and_scales_are_all_that_evaluation_needs(benchmark):
    recipe = load_recipe(benchmark, ["model.architecture=2x16FC-10FC"])
    engine = OPENED(recipe.model, recipe.image_shape, 1)
    generator = np.random.default_rng(2)
    images = generator.normal(size=(20, *recipe.image_shape)).astype(np.float32)
    for _ in range(3):
        engine.train_step(images, generator.integers(0, 10, 20), 0.01)
    scores, parameters = engine.scores(images, 20), engine.parameters()
    signs = {n: np.where(v >= 0, np.float32(1), np.float32(-1)) for n, v in parameters.items() if n.endswith(".weight")}
    engine.load_parameters(parameters | signs)
    np.testing.assert_array_equal(engine.scores(images, 20), scores)


@pytest.mark.threads
def test_the_scale_does_not_depend_on_the_number_of_threads():
    import numba

    generator, threads = np.random.default_rng(3), numba.get_num_threads()
    weights, square = (generator.random(100_003).astype(np.float32) for _ in range(2))
    expected = quantize.loss_aware_scale(weights, square)
    try:
        numba.set_num_threads(1)
        assert quantize.loss_aware_scale(weights, square) == expected
    finally:
        numba.set_num_threads(threads)
