"""Losses with their gradients, of a network's scores: see `benchmarks.recipe.settings.ModelSettings.loss`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def loss_and_gradient(kind: str, scores: Tensor, labels: Tensor, divisor: float = 1) -> tuple[Tensor, Tensor]:
    """The loss, a mean over the images, and its gradient with respect to the scores; both divided by `divisor`.

    "squared_hinge": mean over images and classes of max(0, 1 - t y)^2, t = +1 of the image's class, else -1; gradient
    -2 t max(0, 1 - t y) / (N classes).
    "squared_hinge_sum": its sum over the classes; gradient -2 t max(0, 1 - t y) / N.
    "cross_entropy": mean of -log softmax(y) of the image's class; gradient (softmax(y) - 1 of the class) / N.
    Source: mnist.py of BinaryConnect, T.mean(T.sqr(T.maximum(0., 1. - target * train_output)));
    RWTH-IDS/efficient-binary-neural-networks, util.py, SquareHingeLoss; akshaychawla/Binary-Neural-Networks,
    mnist_baseline.py, where the divisor is the batch size.

    Args:
        scores: y, float32 (N, classes).
        labels: int64 (N,).

    Returns:
        Float32 () and (N, classes).
    """
    of_class = labels[:, None] == torch.arange(scores.shape[1], device=scores.device)
    loss, gradient = LOSSES[kind](scores, of_class)
    return (loss, gradient) if divisor == 1 else (loss / divisor, gradient / divisor)


def _squared_hinge(scores: Tensor, of_class: Tensor, *, summed: bool) -> tuple[Tensor, Tensor]:
    targets = of_class.to(scores.dtype) * 2 - 1
    slack = (1 - targets * scores).clamp(min=0)
    terms = scores.shape[0] if summed else slack.numel()
    squares = slack * slack
    return squares.sum(dim=1).mean() if summed else squares.mean(), -2 / terms * targets * slack


def _cross_entropy(scores: Tensor, of_class: Tensor) -> tuple[Tensor, Tensor]:
    logarithms = torch.log_softmax(scores, dim=1)
    loss = -torch.where(of_class, logarithms, 0).sum(dim=1).mean()
    return loss, (logarithms.exp() - of_class.to(scores.dtype)) / scores.shape[0]


# By the words of `ModelSettings.loss`: functions of the scores and of which class is the image's, bool (N, classes).
LOSSES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "squared_hinge": functools.partial(_squared_hinge, summed=False),
    "squared_hinge_sum": functools.partial(_squared_hinge, summed=True),
    "cross_entropy": _cross_entropy,
}
