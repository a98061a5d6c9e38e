"""Training forward and backward on the CPU, stage by stage.

A stage is a linear layer with its pooling, batch normalisation and activation. MXNet computes and differentiates linear
layers and pooling; what follows them is done by `fused` in a few passes over memory where it knows the formulas, else
by the network's own blocks. What a stage gives stands in the memory of the NDArray that the next stage reads, and its
gradient is worked on in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mxnet import autograd, nd

from bnn_gluon import fused
from bnn_gluon.layers import ACTIVATIONS
from bnn_gluon.memory import view

if TYPE_CHECKING:
    from bnn_gluon.network import Network

# How a batch normalisation follows from the variance, by name: a function of variance, float32 (channels,), epsilon and
# the number of values a channel that gives
#   what is averaged beside the mean;
#   the factor r that the centred input is multiplied by, beside gamma;
#   r', with which the gradient of r reaches the input x: -gamma * r' * sum(g * (x - mean)) / count * (x - mean).
# They are the formulas of bnn_gluon.layers.


def _binaryconnect(variance: np.ndarray, epsilon: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    std = np.sqrt(variance)
    factor = 1 / (std + np.float32(epsilon))
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN for a channel of zero variance, as in the original
        return std, factor, factor.astype(np.float64) ** 2 / std


def _lasagne(variance: np.ndarray, epsilon: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    inv_std = 1 / np.sqrt(variance + np.float32(epsilon))
    return inv_std, inv_std, inv_std.astype(np.float64) ** 3


def _torch(variance: np.ndarray, epsilon: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _, factor, slope = _lasagne(variance, epsilon, count)
    return variance * np.float32(count / (count - 1)), factor, slope


NORMS = {"binaryconnect": _binaryconnect, "lasagne": _lasagne, "torch": _torch}


class FusedStage:
    """A stage whose batch normalisation and activation `fused` computes."""

    def __init__(self, linear: Any, pool: Any, norm: Any, kind: str, epsilon: float, activation: str) -> None:
        self._linear, self._pool, self._norm = linear, pool, norm
        self._formulas, self._epsilon = NORMS[kind], epsilon
        self._activation = fused.ACTIVATIONS[activation]

    def forward(self, x: Any, thresholds: Sequence[Any]) -> tuple[Any, np.ndarray, np.ndarray]:
        """Output, mean and spread."""
        with autograd.record():
            self._z = self._linear(x) if self._pool is None else self._pool(self._linear(x))
        self._z.wait_to_read()
        y = _buffer(self, "_y", self._z.shape)
        values = self._values()
        self._mean, variance = fused.moments(values)
        spread, self._factor, self._slope = self._formulas(variance, self._epsilon, values.shape[0] * values.shape[2])
        self._scale = view(self._norm.gamma.data()) * self._factor
        beta = view(self._norm.beta.data())
        fused.normalize(values, self._mean, self._scale, beta, self._activation, view(y).reshape(values.shape))
        return y, self._mean, spread

    def backward(self, gradient: Any) -> None:
        """Set the gradients of the stage's parameters and of its input; `gradient`, of its output, is overwritten."""
        x = self._values()
        g, count = view(gradient).reshape(x.shape), x.shape[0] * x.shape[2]
        gamma, beta = view(self._norm.gamma.data()), view(self._norm.beta.data())
        sum_g, sum_gc = fused.gradient_sums(x, g, self._mean, self._scale, beta, self._activation)
        slope = (gamma * self._slope * sum_gc / count).astype(np.float32)
        fused.gradient_of_input(x, g, self._mean, self._scale, (sum_g / count).astype(np.float32), slope)
        view(self._norm.gamma.grad())[:] = sum_gc * self._factor
        view(self._norm.beta.grad())[:] = sum_g
        self._z.backward(gradient)

    def _values(self) -> np.ndarray:
        """What is normalised, as (N, channels, pixels)."""
        shape = self._z.shape
        return view(self._z).reshape(shape[0], shape[1], int(np.prod(shape[2:], dtype=int)))


class ComposedStage:
    """A stage that is computed by the network's own blocks."""

    def __init__(self, linear: Any, pool: Any, norm: Any, activation: str) -> None:
        self._linear, self._pool, self._norm = linear, pool, norm
        self._activation = ACTIVATIONS.get(activation)

    def forward(self, x: Any, thresholds: Sequence[Any]) -> tuple[Any, np.ndarray, np.ndarray]:
        """Output, mean and spread."""
        with autograd.record():
            z = self._linear(x) if self._pool is None else self._pool(self._linear(x))
            a, mean, spread = self._norm(z)
            self._a = a if self._activation is None else self._activation(nd, a, *thresholds)
        y = _buffer(self, "_y", self._a.shape)
        y[:] = self._a
        return y, mean.asnumpy().ravel(), spread.asnumpy().ravel()

    def backward(self, gradient: Any) -> None:
        """Set the gradients of the stage's parameters and of its input."""
        self._a.backward(gradient)


class Stages:
    """One step's loss, gradients and batch statistics of a training network."""

    def __init__(self, network: Network) -> None:
        self._dropout, self._draws_thresholds = network.dropout, network.draws_thresholds
        self._stages: list[FusedStage | ComposedStage] = []
        for linear, pool, norm, kind, activation in network.stages():
            if kind in NORMS and activation in fused.ACTIVATIONS:
                self._stages.append(FusedStage(linear, pool, norm, kind, network.epsilon, activation))
            else:
                self._stages.append(ComposedStage(linear, pool, norm, activation))

    def step(
        self, images: np.ndarray, targets: np.ndarray, draws: Sequence[np.ndarray]
    ) -> tuple[float, list[np.ndarray]]:
        """Set all gradients; return the loss, and mean and spread of every batch normalisation, float32 (channels,).

        The loss is the squared hinge, mean over batch and classes of max(0, 1 - t * y)^2.
        Source: mnist.py, T.mean(T.sqr(T.maximum(0., 1. - target * train_output))).

        Args:
            images: float32 (N, channels, rows, columns).
            targets: float32 (N, classes), -1 or +1.
            draws: random draws in network order: see `bnn_gluon.network.Network`.
        """
        remaining = [nd.array(draw, dtype="float32") for draw in draws]
        x, inputs, masks = nd.array(images, dtype="float32"), [], []
        statistics: list[np.ndarray] = []
        last = len(self._stages) - 1
        for position, stage in enumerate(self._stages):
            masks.append(remaining.pop(0) if self._dropout[position] else None)
            if masks[-1] is not None:
                x *= masks[-1]
            inputs.append(x)
            thresholds = [remaining.pop(0)] if self._draws_thresholds and position < last else []
            x, mean, spread = stage.forward(x, thresholds)
            statistics += [mean, spread]
        slack = np.maximum(np.float32(0), 1 - targets * x.asnumpy())
        gradient = nd.array(-2 * targets * slack / np.float32(slack.size))
        for position in range(last, -1, -1):
            self._stages[position].backward(gradient)
            if position:
                gradient, mask = inputs[position].grad, masks[position]
                if mask is not None:
                    gradient *= mask
                gradient.wait_to_read()
        nd.waitall()
        return float(np.mean(slack * slack, dtype=np.float64)), statistics


def _buffer(owner: object, name: str, shape: tuple[int, ...]) -> Any:
    """The NDArray `owner.name`, with a gradient, made anew when the shape changes."""
    buffer = getattr(owner, name, None)
    if buffer is None or buffer.shape != shape:
        buffer = nd.empty(shape)
        buffer.attach_grad()
        setattr(owner, name, buffer)
    return buffer
