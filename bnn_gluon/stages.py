"""A stage: a linear layer with its pooling, batch normalization and activation, forward, backward and in evaluation.

`linear`, or on a GPU `gpu`, computes and differentiates the linear layers; what follows them is done by `pooling` and
`fused` in a few passes over memory. What a stage gives stands in the memory of the NDArray that the next stage reads,
and its gradient is worked on in place.

The bias of a convolution needs no pass over memory where batch normalization takes it off again: it moves the mean. So
sums that tie in a pooling window tie whatever the bias, as they do if it is added to the finished sums of a binary
network, which are whole numbers.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from mxnet import gluon, nd

from benchmarks.recipe.architecture import Conv
from bnn_gluon.activations import LINEAR_RELU, Activation, activation_of, ternarize
from bnn_gluon.batch_norm import BATCH_NORMS, BatchNorm
from bnn_gluon.device import LinearOnGpu
from bnn_gluon.kernels import fused, pooling
from bnn_gluon.kernels.ap2 import ap2
from bnn_gluon.kernels.fused import NO_THRESHOLDS
from bnn_gluon.linear import Identity, Linear
from bnn_gluon.memory import buffer, view

if TYPE_CHECKING:
    from benchmarks.engine.layers import Layer
    from benchmarks.recipe import ModelSettings


class Pool(NamedTuple):
    """Max pooling: side of the windows, and whether every one of tied maxima gets the gradient."""

    size: int
    every: bool


class Normalization(NamedTuple):
    """A batch normalization with its constants; alpha is the weight of a batch in the moving averages."""

    formulas: BatchNorm
    epsilon: np.float32
    alpha: np.float32
    affine: bool = True


class Stage:
    """A stage of the network.

    Attributes:
        gamma, beta: Gluon parameters of the batch normalization, (channels,), if it has some.
        bias: Gluon parameter, (channels,), if `linear` does not add one itself.
        running_mean, running_spread: moving averages, float32 (channels,), which start at 0 and 1.
    """

    def __init__(
        self,
        linear: Any,
        pool: Pool | None,
        normalization: Normalization | None,
        activation: Activation,
        channels: int,
        *,
        add_bias: bool,
        pools_last: bool = False,
    ) -> None:
        """`linear`: a `Linear`, or what has its three methods. `pools_last`: behind the activation, not before the
        batch normalization."""
        self._linear, self._activation = linear, activation
        self._norm = normalization
        self._pool_before = None if pools_last else pool
        self._pool_behind = pool if pools_last else None
        affine = normalization is not None and normalization.affine
        self.gamma, self.beta = (
            gluon.Parameter(name, shape=(channels,)) if affine else None for name in ("gamma", "beta")
        )
        self.bias = gluon.Parameter("bias", shape=(channels,)) if add_bias else None
        self.running_mean, self.running_spread = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        self._y: Any = None  # activated
        self._zeros, self._ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    # -- training ------------------------------------------------------------------------------------------------------

    def forward(self, x: Any, thresholds: np.ndarray | None = None, mask: np.ndarray | None = None) -> Any:
        """The output, for an NDArray x; the moving averages are brought up to date.

        `thresholds`, flat, are those of a stochastic activation: see `activations`; the linear layer's output is
        multiplied by `mask`, flat.
        """
        self._z, self._mask = self._linear.forward(x), mask
        values = _values(self._z)
        if mask is not None:
            _multiply(values, mask)
        if self._pool_before is not None:
            values = self._pooled = _max_pool(values, self._pool_before)
        self._normalized = values
        self._mean, self._scale = self._zeros, self._ones
        if self._norm is not None:
            self._mean, variance = fused.moments(_flat(values), self._norm.formulas.rounded)
            count = values.size // len(variance)
            spread, self._factor, self._slope = self._norm.formulas.batch(variance, self._norm.epsilon, count)
            self._scale = self._rounded_gamma() * self._factor
            self._average(spread)
        shape = values.shape[: self._z.ndim]
        y = self._y = buffer(self, "_activated", shape)
        self._activate(values, self._mean, self._scale, self._activation.forward, _values(y), thresholds)
        if self._pool_behind is None:
            return y
        self._pooled = _max_pool(_values(y), self._pool_behind)
        output = buffer(self, "_output", self._pooled.shape)
        _values(output)[:] = self._pooled  # a copy, which dropout may change
        return output

    def backward(self, gradient: Any) -> None:
        """Set the gradients of the stage's parameters and of its input; `gradient`, of its output, is overwritten."""
        if self._pool_behind is not None:
            gradient = self._unpool(gradient, self._y, self._pooled, self._pool_behind)
        self._normalization_backward(_flat(self._normalized), _flat(_values(gradient)))
        if self._pool_before is not None:
            gradient = self._unpool(gradient, self._z, self._pooled, self._pool_before)
        if self._mask is not None:
            _multiply(_values(gradient), self._mask)
        if self.bias is not None:
            view(self.bias.grad())[:] = fused.channel_sums(_flat(_values(gradient)))
        self._linear.backward(gradient)

    def _normalization_backward(self, x: np.ndarray, g: np.ndarray) -> None:
        """Replace g, the gradient of the activated output, by that of x; gradients of gamma and beta are set."""
        rounded = self._norm is not None and self._norm.formulas.rounded
        code, steepness = self._activation.slope, self._activation.steepness
        sum_g, sum_gc = fused.gradient_sums(x, g, self._mean, self._scale, self._shift(), code, rounded, steepness)
        if self._norm is None:
            return
        count = x.shape[0] * x.shape[2]
        slope = (self._rounded_gamma() * self._slope * sum_gc / count).astype(np.float32)
        fused.gradient_of_input(x, g, self._mean, self._scale, (sum_g / count).astype(np.float32), slope, rounded)
        if self.gamma is not None and self.beta is not None:
            view(self.gamma.grad())[:] = sum_gc * self._factor
            view(self.beta.grad())[:] = sum_g

    def _unpool(self, gradient: Any, unpooled: Any, pooled: np.ndarray, pool: Pool) -> Any:
        """The gradient of what was pooled."""
        spread = buffer(self, "_unpooled_gradient", unpooled.shape)
        pooling.gradient_of_max_pool(_values(unpooled), pooled, _values(gradient), *pool, _values(spread))
        return spread

    def _average(self, spread: np.ndarray) -> None:
        """average <- (1 - alpha) average + alpha * batch value."""
        assert self._norm is not None
        alpha = self._norm.alpha
        mean = self._mean if self.bias is None else self._mean + view(self.bias.data())
        for average, batch in ((self.running_mean, mean), (self.running_spread, spread)):
            average[:] = (np.float32(1) - alpha) * average + alpha * batch

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(self, x: Any, *, by_batch: bool = False) -> Any:
        """The output in evaluation mode, by the moving averages or by the statistics of the batch."""
        y = self._linear.evaluate(x)
        values = _values(y)
        if self._pool_before is not None:
            values = _max_pool(values, self._pool_before)
            y = nd.empty(values.shape)
        mean, scale = self._statistics(values, by_batch)
        self._activate(values, mean, scale, self._activation.evaluation, _values(y))
        if self._pool_behind is not None:
            return nd.array(_max_pool(_values(y), self._pool_behind))
        return y

    def _statistics(self, values: np.ndarray, by_batch: bool) -> tuple[np.ndarray, np.ndarray]:
        """What is taken off the values, and what the rest is multiplied by."""
        if self._norm is None:
            return self._zeros, self._ones
        formulas, epsilon = self._norm.formulas, self._norm.epsilon
        if by_batch:
            mean, variance = fused.moments(_flat(values), formulas.rounded)
            _, factor, _ = formulas.batch(variance, epsilon, values.size // len(variance))
            return mean, self._rounded_gamma() * factor
        mean = self.running_mean if self.bias is None else self.running_mean - view(self.bias.data())
        return mean, formulas.scale(self._gamma(), self.running_spread, epsilon)

    # -- both ----------------------------------------------------------------------------------------------------------

    def _activate(
        self,
        x: np.ndarray,
        mean: np.ndarray,
        scale: np.ndarray,
        activation: int,
        y: np.ndarray,
        thresholds: np.ndarray | None = None,
    ) -> None:
        """Set y to the activation of (x - mean) * scale + beta."""
        steepness, thresholds = self._activation.steepness, NO_THRESHOLDS if thresholds is None else thresholds
        fused.normalize(_flat(x), mean, scale, self._shift(), activation, _flat(y), thresholds, steepness)
        if self._activation.ternary:
            ternarize(y)

    def _gamma(self) -> np.ndarray:
        return self._ones if self.gamma is None else view(self.gamma.data())

    def _shift(self) -> np.ndarray:
        return self._zeros if self.beta is None else view(self.beta.data())

    def _rounded_gamma(self) -> np.ndarray:
        assert self._norm is not None
        return ap2(self._gamma()) if self._norm.formulas.rounded else self._gamma()

    # -- names ---------------------------------------------------------------------------------------------------------

    def parameters(self, layer: str, norm: str) -> dict[str, gluon.Parameter]:
        """Gluon's parameters by the names of a linear layer and a batch normalization."""
        named = {
            f"{layer}.weight": self._linear.weight,
            f"{layer}.bias": self._linear.bias if self.bias is None else self.bias,
            f"{norm}.gamma": self.gamma,
            f"{norm}.beta": self.beta,
        }
        return {name: parameter for name, parameter in named.items() if parameter is not None}

    def running(self, norm: str) -> dict[str, np.ndarray]:
        """The moving averages by the name of a batch normalization."""
        if self._norm is None:
            return {}
        names = f"{norm}.running_mean", f"{norm}.running_{self._norm.formulas.spread}"
        return dict(zip(names, (self.running_mean, self.running_spread), strict=True))


class Named(NamedTuple):
    """A stage with the names of its linear layer and of its batch normalization."""

    stage: Stage
    layer: str
    norm: str


def stages_of(layer: Layer, model: ModelSettings, gpu: Any | None = None) -> list[Named]:
    """The stages of a recipe's layer: one, or two if its output passes a ReLU before all else.

    `gpu`: MXNet's context of a GPU, if products are to be made there.
    """
    norm = None
    if layer.norm_kind != "none":
        epsilon, alpha = np.float32(model.batch_norm_epsilon), np.float32(layer.alpha)
        norm = Normalization(BATCH_NORMS[layer.norm_kind], epsilon, alpha, layer.affine)
    first = norm if layer.linear_output == "none" else None
    if layer.linear_output == "batch_norm_relu":
        assert norm is not None
        first = norm._replace(affine=True)
    moves_mean = layer.biases and first is not None and isinstance(layer.shape.layer, Conv)
    pool = None if layer.pool is None else Pool(layer.pool, every=model.max_pool_gradient == "all")
    pools_last = model.layer_order == "CBAP"
    pools_next = pool is not None and not pools_last and layer.linear_output == "none"
    linear_class = functools.partial(Linear, pooled=pools_next) if gpu is None else functools.partial(LinearOnGpu, gpu)
    linear = linear_class(layer.shape, add_bias=layer.biases and not moves_mean, edge=model.padding == "edge")
    activated = functools.partial(
        Stage,
        pool=pool,
        normalization=norm,
        activation=activation_of(layer.activation, model.activation_gradient, model.swish_beta),
        channels=layer.channels,
        pools_last=pools_last,
    )
    if layer.linear_output == "none":
        return [Named(activated(linear, add_bias=moves_mean), layer.name, layer.norm)]
    relu = Stage(linear, None, first, LINEAR_RELU, layer.channels, add_bias=moves_mean)
    return [
        Named(relu, layer.name, layer.linear_norm),
        Named(activated(Identity(), add_bias=False), layer.name, layer.norm),
    ]


def _max_pool(values: np.ndarray, pool: Pool) -> np.ndarray:
    n, channels, rows, columns = values.shape
    pooled = np.empty((n, channels, rows // pool.size, columns // pool.size), np.float32)
    pooling.max_pool(values, pool.size, pooled)
    return pooled


def _multiply(values: np.ndarray, mask: np.ndarray) -> None:
    np.multiply(values, mask.reshape(values.shape), out=values)


def _values(array: Any) -> np.ndarray:
    """What an NDArray (N, channels) or (N, channels, rows, columns) holds, as a view with all four axes."""
    array.wait_to_read()
    return view(array).reshape(array.shape + (1,) * (4 - array.ndim))


def _flat(values: np.ndarray) -> np.ndarray:
    """(N, channels, rows, columns) as (N, channels, pixels)."""
    return values.reshape(*values.shape[:2], values.shape[2] * values.shape[3])
