"""The losses against float64 NumPy, and their gradients by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_gluon.losses import loss_and_gradient

KINDS = ("squared_hinge", "squared_hinge_sum", "cross_entropy")


def case(seed: int, images: int = 7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(images, 10)).astype(np.float32) * 2, generator.integers(0, 10, images)


def expected_loss(kind: str, scores: np.ndarray, labels: np.ndarray) -> float:
    images = []
    for y, label in zip(scores.astype(np.float64), labels, strict=True):
        if kind == "cross_entropy":
            images.append(-np.log(np.exp(y[label]) / np.exp(y).sum()))
        else:
            terms = [max(0.0, 1 - (1 if k == label else -1) * y[k]) ** 2 for k in range(len(y))]
            images.append(sum(terms) if kind == "squared_hinge_sum" else sum(terms) / len(y))
    return float(np.mean(images))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_loss_is_the_formula(kind, seed):
    scores, labels = case(seed)
    assert loss_and_gradient(kind, scores, labels)[0] == pytest.approx(expected_loss(kind, scores, labels), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_finite_differences(kind):
    scores, labels = case(3)
    _, gradient = loss_and_gradient(kind, scores, labels)
    wide, step = scores.astype(np.float64), 1e-6
    for place in np.ndindex(scores.shape):
        shift = np.zeros_like(wide)
        shift[place] = step
        slope = (expected_loss(kind, wide + shift, labels) - expected_loss(kind, wide - shift, labels)) / (2 * step)
        assert gradient[place] == pytest.approx(slope, abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_divisor_divides_both(kind):
    scores, labels = case(4)
    loss, gradient = loss_and_gradient(kind, scores, labels)
    divided_loss, divided_gradient = loss_and_gradient(kind, scores, labels, 8)
    assert divided_loss == loss / 8
    np.testing.assert_array_equal(divided_gradient, gradient / 8)


def test_large_scores_overflow_nothing():
    scores = np.array([[1e4, -1e4, 0]], np.float32)
    loss, gradient = loss_and_gradient("cross_entropy", scores, np.array([1]))
    assert loss == pytest.approx(2e4)
    np.testing.assert_allclose(gradient, [[1, -1, 0]])
