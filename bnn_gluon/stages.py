"""A stage: a linear layer with its pooling, batch normalisation and activation, forward, backward and in evaluation.

MXNet computes and differentiates the linear layers; what follows them is done by `pooling` and `fused` in a few passes
over memory. What a stage gives stands in the memory of the NDArray that the next stage reads, and its gradient is
worked on in place.

The bias of a convolution needs no pass over memory, as batch normalisation takes it off again: it moves the mean. So
sums that tie in a pooling window tie whatever the bias, as they do if it is added to the finished sums of a binary
network, which are whole numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from mxnet import autograd, gluon, nd

from bnn_gluon import fused, pooling
from bnn_gluon.ap2 import ap2
from bnn_gluon.layers import BatchNorm
from bnn_gluon.memory import view


class Pool(NamedTuple):
    """Max pooling: side of the windows, and whether every one of tied maxima gets the gradient."""

    size: int
    every: bool


class Normalization(NamedTuple):
    """A batch normalisation with its constants; alpha is the weight of a batch in the moving averages."""

    formulas: BatchNorm
    epsilon: np.float32
    alpha: np.float32


class Stage:
    """A stage of the network.

    Attributes:
        gamma, beta: Gluon parameters of the batch normalisation, (channels,).
        bias: Gluon parameter, (channels,), if `linear` does not add one itself.
        running_mean, running_spread: moving averages, float32 (channels,), which start at 0 and 1.
    """

    def __init__(
        self,
        linear: gluon.Block,
        pool: Pool | None,
        normalization: Normalization,
        activation: str,
        channels: int,
        *,
        add_bias: bool,
    ) -> None:
        self._linear, self._pool = linear, pool
        self._norm, self._epsilon, self._alpha = normalization
        self._activation = fused.ACTIVATIONS[activation]
        self._evaluation_activation = fused.EVALUATION_ACTIVATIONS[activation]
        self.gamma, self.beta = (gluon.Parameter(name, shape=(channels,)) for name in ("gamma", "beta"))
        self.bias = gluon.Parameter("bias", shape=(channels,)) if add_bias else None
        self.running_mean, self.running_spread = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    def forward(self, x: Any, thresholds: np.ndarray = fused.NO_THRESHOLDS) -> Any:
        """The output, for an NDArray x; the moving averages are brought up to date.

        `thresholds`, flat, are those of a stochastic activation: see `fused`.
        """
        with autograd.record():
            self._z = self._linear(x)
        values = _values(self._z)
        if self._pool is not None:
            values = self._pooled = self._max_pool(values)
        self._mean, variance = fused.moments(_flat(values), self._norm.rounded)
        count = values.size // len(variance)
        spread, self._factor, self._slope = self._norm.batch(variance, self._epsilon, count)
        self._scale = self._gamma() * self._factor
        self._average(spread)
        y = _buffer(self, "_y", values.shape[: self._z.ndim])
        self._normalize(values, self._mean, self._scale, self._activation, _values(y), thresholds)
        return y

    def backward(self, gradient: Any) -> None:
        """Set the gradients of the stage's parameters and of its input; `gradient`, of its output, is overwritten."""
        z = _values(self._z)
        x, g = _flat(z if self._pool is None else self._pooled), _flat(_values(gradient))
        beta, count, rounded = view(self.beta.data()), x.shape[0] * x.shape[2], self._norm.rounded
        sum_g, sum_gc = fused.gradient_sums(x, g, self._mean, self._scale, beta, self._activation, rounded)
        slope = (self._gamma() * self._slope * sum_gc / count).astype(np.float32)
        fused.gradient_of_input(x, g, self._mean, self._scale, (sum_g / count).astype(np.float32), slope, rounded)
        view(self.gamma.grad())[:] = sum_gc * self._factor
        view(self.beta.grad())[:] = sum_g
        dz = gradient
        if self._pool is not None:
            dz = _buffer(self, "_dz", self._z.shape)
            pooling.gradient_of_max_pool(z, self._pooled, _values(gradient), *self._pool, _values(dz))
        if self.bias is not None:
            view(self.bias.grad())[:] = fused.channel_sums(_flat(_values(dz)))
        self._z.backward(dz)

    def evaluate(self, x: Any) -> Any:
        """The output in evaluation mode."""
        y = self._linear(x)
        values = _values(y)
        if self._pool is not None:
            values = self._max_pool(values)
            y = nd.empty(values.shape)
        mean = self.running_mean if self.bias is None else self.running_mean - view(self.bias.data())
        scale = self._norm.scale(view(self.gamma.data()), self.running_spread, self._epsilon)
        self._normalize(values, mean, scale, self._evaluation_activation, _values(y))
        return y

    def _max_pool(self, values: np.ndarray) -> np.ndarray:
        assert self._pool is not None
        n, channels, rows, columns = values.shape
        pooled = np.empty((n, channels, rows // self._pool.size, columns // self._pool.size), np.float32)
        pooling.max_pool(values, self._pool.size, pooled)
        return pooled

    def _normalize(
        self,
        x: np.ndarray,
        mean: np.ndarray,
        scale: np.ndarray,
        activation: int,
        y: np.ndarray,
        thresholds: np.ndarray = fused.NO_THRESHOLDS,
    ) -> None:
        fused.normalize(_flat(x), mean, scale, view(self.beta.data()), activation, _flat(y), thresholds)

    def _gamma(self) -> np.ndarray:
        gamma = view(self.gamma.data())
        return ap2(gamma) if self._norm.rounded else gamma

    def _average(self, spread: np.ndarray) -> None:
        """average <- (1 - alpha) average + alpha * batch value."""
        mean = self._mean if self.bias is None else self._mean + view(self.bias.data())
        for average, batch in ((self.running_mean, mean), (self.running_spread, spread)):
            average[:] = (np.float32(1) - self._alpha) * average + self._alpha * batch


def _values(array: Any) -> np.ndarray:
    """What an NDArray (N, channels) or (N, channels, rows, columns) holds, as a view with all four axes."""
    array.wait_to_read()
    return view(array).reshape(array.shape + (1,) * (4 - array.ndim))


def _flat(values: np.ndarray) -> np.ndarray:
    """(N, channels, rows, columns) as (N, channels, pixels)."""
    return values.reshape(*values.shape[:2], values.shape[2] * values.shape[3])


def _buffer(owner: object, name: str, shape: tuple[int, ...]) -> Any:
    """The NDArray `owner.name`, with a gradient, made anew when the shape changes."""
    buffer = getattr(owner, name, None)
    if buffer is None or buffer.shape != shape:
        buffer = nd.empty(shape)
        buffer.attach_grad()
        setattr(owner, name, buffer)
    return buffer
