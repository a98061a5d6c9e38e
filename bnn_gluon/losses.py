"""Losses with their gradients, of a network's scores: see `benchmarks.recipe.settings.ModelSettings.loss`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np


def loss_and_gradient(kind: str, scores: np.ndarray, labels: np.ndarray, divisor: int = 1) -> tuple[float, np.ndarray]:
    """The loss, a mean over the images, and its gradient with respect to the scores; both divided by `divisor`.

    squared_hinge: mean over images and classes of max(0, 1 - t y)^2, t = +1 of the image's class, else -1; gradient
        -2 t max(0, 1 - t y) / (N classes). squared_hinge_sum: its sum over the classes; gradient -2 t max(0, 1 - t y) /
        N. Source: mnist.py of BinaryConnect, T.mean(T.sqr(T.maximum(0., 1. - target * train_output)));
        RWTH-IDS/efficient-binary-neural-networks, util.py, SquareHingeLoss.
    cross_entropy: mean of -log softmax(y) of the image's class; gradient (softmax(y) - 1 of the class) / N.

    Args:
        scores: y, float32 (N, classes).
        labels: int (N,).

    Returns:
        The loss and float32 (N, classes).
    """
    loss, gradient = LOSSES[kind](scores, labels)
    return (loss, gradient) if divisor == 1 else (loss / divisor, gradient / np.float32(divisor))


def _squared_hinge(scores: np.ndarray, labels: np.ndarray, *, summed: bool) -> tuple[float, np.ndarray]:
    images, classes = scores.shape
    targets = np.where(np.asarray(labels)[:, None] == np.arange(classes), np.float32(1), np.float32(-1))
    slack = np.maximum(np.float32(0), 1 - targets * scores)
    gradient = -2 * targets * slack / np.float32(images if summed else slack.size)
    mean = float(np.mean(slack * slack, dtype=np.float64))
    return (classes * mean if summed else mean), gradient


def _cross_entropy(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    images = np.arange(len(scores))
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    totals = powers.sum(axis=1)
    gradient = powers / totals[:, None]
    gradient[images, labels] -= 1
    loss = np.mean(np.log(totals) - shifted[images, labels])
    return float(loss), (gradient / len(scores)).astype(np.float32)


# By the words of `ModelSettings.loss`: functions of scores and labels.
LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]] = {
    "squared_hinge": functools.partial(_squared_hinge, summed=False),
    "squared_hinge_sum": functools.partial(_squared_hinge, summed=True),
    "cross_entropy": _cross_entropy,
}
