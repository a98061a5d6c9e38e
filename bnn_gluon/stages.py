"""A stage: a linear layer with what belongs to it, as a list of parts: forward, backward and in evaluation.

Parts hand NDArrays to each other, float32 (N, channels, rows, columns) or (N, units). What a part gives stands in
memory of its own, made over by the next step, so that a part behind may read it in the backward pass; a gradient is
worked on in place. `linear`, or on a GPU `device`, computes and differentiates the linear layers; what follows them is
done in a few passes over memory: `kernels.fused` and `kernels.pooling`.

The bias of a convolution needs no pass over memory where batch normalization takes it off again: it moves the mean. So
sums that tie in a pooling window tie whatever the bias, as they do if it is added to the finished sums of a binary
network, which are whole numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from mxnet import gluon

from benchmarks.engine.draws import Draws, Mask, Thresholds
from benchmarks.engine.layers import Layer
from benchmarks.recipe.architecture import Conv
from bnn_gluon.activations import LINEAR_RELU, Activation, activation_of, ternarize
from bnn_gluon.batch_norm import BATCH_NORMS, BatchNorm
from bnn_gluon.device import LinearOnGpu
from bnn_gluon.kernels import choice
from bnn_gluon.kernels.ap2 import ap2
from bnn_gluon.kernels.fused import NO_THRESHOLDS
from bnn_gluon.linear import FilterScaledLinear, Linear, ScaledLinear
from bnn_gluon.memory import buffer, shaped_view, view
from bnn_gluon.pools import pool_of
from bnn_gluon.quantized_images import QuantizedImages

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# The values, flat float32, of a mask or of thresholds that are drawn for the present step.
Draw = Callable[[Mask | Thresholds], np.ndarray]


class Part(Protocol):
    """A part of a stage.

    Attributes:
        parameters: Gluon's, by name.
        running: the moving averages by name, float32 (channels,), and the scales, (1,) or (filters,), of weights
            that have some.
    """

    parameters: dict[str, gluon.Parameter]
    running: dict[str, np.ndarray]

    def forward(self, x: Any, draw: Draw) -> Any:
        """Output in training."""

    def backward(self, gradient: Any) -> Any | None:
        """From the gradient of the output, which may be overwritten, that of the input, None for images; the gradients
        of the parameters are set."""

    def evaluate(self, x: Any) -> Any:
        """Output in evaluation; x may be overwritten, unless it is the images."""


class Stage:
    """A linear layer with what belongs to it.

    Attributes:
        parameters, running: those of its parts, in order.
        linears: its linear layer by its weights' name.
    """

    def __init__(self, layer: Layer, draws: Draws, model: ModelSettings, gpu: Any | None = None) -> None:
        """`gpu`: MXNet's context of a GPU, if products are to be made there."""
        pool = [] if layer.pool is None else [pool_of(layer.pool, model)]
        pools_first = model.layer_order == "CPBA"
        behind = [*_on_linear_output(layer, model), _normalized(layer, draws.thresholds, model)]
        moves_mean = layer.biases and behind[0].has_norm and (isinstance(layer.shape.layer, Conv) or layer.scaled)
        pools_next = layer.pool is not None and layer.pool.tiles and pools_first and layer.linear_output == "none"
        adds_bias = layer.biases and not (moves_mean or layer.scaled)
        linear = _linear(layer, model, gpu, adds_bias=adds_bias, pools_next=pools_next)
        if moves_mean:
            behind[0].moved_by(linear.bias)
        quantizes = layer.norm == "bn1" and model.input_quantization != "none"
        self._parts: list[Part] = [
            *([QuantizedImages(model.input_quantization)] if quantizes else []),
            *([] if draws.mask is None else [Dropout(draws.mask)]),
            NamedLinear(_with_scale(linear, layer, adds_bias=not moves_mean) if layer.scaled else linear, layer),
            *behind[:-1],
            *([] if draws.output_mask is None else [Dropout(draws.output_mask)]),
            *(pool if pools_first else []),
            behind[-1],
            *([] if pools_first else pool),
        ]
        self.parameters = {name: value for part in self._parts for name, value in part.parameters.items()}
        self.running = {name: value for part in self._parts for name, value in part.running.items()}
        self.linears = {layer.weight: linear}

    def forward(self, x: Any, draw: Draw) -> Any:
        """The output in training; the moving averages are brought up to date."""
        for part in self._parts:
            x = part.forward(x, draw)
        return x

    def backward(self, gradient: Any) -> Any | None:
        """Set the gradients of the parameters; returns that of the input, None for images."""
        for part in reversed(self._parts):
            if gradient is not None:
                gradient = part.backward(gradient)
        return gradient

    def evaluate(self, x: Any) -> Any:
        """The output in evaluation."""
        for part in self._parts:
            x = part.evaluate(x)
        return x


def _linear(layer: Layer, model: ModelSettings, gpu: Any | None, *, adds_bias: bool, pools_next: bool) -> Linear:
    make = functools.partial(Linear, pooled=pools_next) if gpu is None else functools.partial(LinearOnGpu, gpu)
    return make(
        layer.shape,
        add_bias=adds_bias,
        moved_bias=layer.biases and not adds_bias,
        edge=model.padding == "edge",
        differentiates_input=layer.norm != "bn1",
    )


def _with_scale(linear: Linear, layer: Layer, *, adds_bias: bool) -> ScaledLinear:
    kind = FilterScaledLinear if layer.scaled_by_filter else ScaledLinear
    return kind(linear, adds_bias=adds_bias, scales=layer.scales)


def _on_linear_output(layer: Layer, model: ModelSettings) -> list[Normalized]:
    """The parts that `ModelSettings.linear_output` asks for."""
    if layer.linear_output == "none":
        return []
    norm = None
    if layer.has_linear_norm:
        norm = _normalization(layer)
        assert norm is not None
        norm = norm._replace(learned=layer.linear_norm_learned)
    return [Normalized(layer.linear_norm, layer.channels, norm, LINEAR_RELU)]


def _normalized(layer: Layer, thresholds: Thresholds | None, model: ModelSettings) -> Normalized:
    """Batch normalization and activation; behind the last layer there may be neither, and values are copied."""
    activation = activation_of(layer.activation, model.activation_gradient, model.swish_beta)
    by_batch = model.evaluation_statistics == "batch"
    kind = WholeNormalized if layer.norm_kind == "tensor" else Normalized
    return kind(layer.norm, layer.norm_channels, _normalization(layer), activation, thresholds, by_batch=by_batch)


def _normalization(layer: Layer) -> Normalization | None:
    if layer.norm_kind == "none":
        return None
    epsilon, alpha = np.float32(layer.epsilon), np.float32(layer.alpha)
    return Normalization(BATCH_NORMS[layer.norm_kind], epsilon, alpha, layer.norm_learned)


# -- parts -------------------------------------------------------------------------------------------------------------


class Dropout:
    """x times a mask, in training."""

    def __init__(self, mask: Mask) -> None:
        self.parameters: dict[str, gluon.Parameter] = {}
        self.running: dict[str, np.ndarray] = {}
        self._rule = mask

    def forward(self, x: Any, draw: Draw) -> Any:
        self._mask = draw(self._rule)
        y = buffer(self, "_y", x.shape, gradient=False)
        x.wait_to_read()
        np.multiply(view(x), self._mask, out=view(y))
        return y

    def backward(self, gradient: Any) -> Any:
        gradient.wait_to_read()
        values = view(gradient)
        np.multiply(values, self._mask, out=values)
        return gradient

    def evaluate(self, x: Any) -> Any:
        return x


class NamedLinear:
    """A convolution or fully connected layer: see `linear.Linear`."""

    def __init__(self, linear: Linear | ScaledLinear, layer: Layer) -> None:
        named = {layer.weight: linear.weight, layer.bias: linear.bias}
        self.parameters = {name: parameter for name, parameter in named.items() if parameter is not None}
        self.running = {layer.scale: linear.scale} if isinstance(linear, ScaledLinear) else {}
        self._linear = linear

    def forward(self, x: Any, draw: Draw) -> Any:
        return self._linear.forward(x)

    def backward(self, gradient: Any) -> Any | None:
        return self._linear.backward(gradient)

    def evaluate(self, x: Any) -> Any:
        return self._linear.evaluate(x)


class Normalization(NamedTuple):
    """A batch normalization with its constants.

    Attributes:
        alpha: the weight of a batch in the moving averages.
        learned: which of gamma and beta it has.
    """

    formulas: BatchNorm
    epsilon: np.float32
    alpha: np.float32
    learned: tuple[str, ...] = ("gamma", "beta")


class Normalized:
    """Batch normalization, if there is one, and an activation.

    What the activation acts on is computed again in the backward pass, not kept.

    Attributes:
        gamma, beta: Gluon parameters, (channels,), if it has some.
        running_mean, running_spread: moving averages, float32 (channels,), which start at 0 and 1.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        normalization: Normalization | None,
        activation: Activation,
        thresholds: Thresholds | None = None,
        *,
        by_batch: bool = False,
    ) -> None:
        """`name`: of the batch normalization. `by_batch`: evaluation takes the statistics of the batch."""
        self._norm, self._activation, self._thresholds, self._by_batch = normalization, activation, thresholds, by_batch
        self._zeros, self._ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        self._moved_by: gluon.Parameter | None = None
        self._loops = choice.fused_loops()
        learned = () if normalization is None else normalization.learned
        self.parameters = {f"{name}.{word}": gluon.Parameter(word, shape=(channels,)) for word in learned}
        self.gamma, self.beta = (self.parameters.get(f"{name}.{word}") for word in ("gamma", "beta"))
        self.running_mean, self.running_spread = self._zeros.copy(), self._ones.copy()
        self.running: dict[str, np.ndarray] = {}
        if normalization is not None:
            spread = normalization.formulas.spread
            self.running = {f"{name}.running_mean": self.running_mean, f"{name}.running_{spread}": self.running_spread}

    @property
    def has_norm(self) -> bool:
        """Whether there is a batch normalization."""
        return self._norm is not None

    def moved_by(self, bias: gluon.Parameter) -> None:
        """From now on the input lacks this bias, (channels,), which the mean of the batch takes off again."""
        self._moved_by = bias

    # -- training ------------------------------------------------------------------------------------------------------

    def forward(self, x: Any, draw: Draw) -> Any:
        self._x, values = x, self._seen(x)
        self._mean, self._scale = self._zeros, self._ones
        if self._norm is not None:
            self._mean, spread, self._factor, self._slope = self._statistics(values)
            self._scale = self._rounded_gamma() * self._factor
            self._average(spread)
        y = buffer(self, "_y", x.shape, gradient=False)
        thresholds = NO_THRESHOLDS if self._thresholds is None else draw(self._thresholds)
        self._activate(values, self._mean, self._scale, self._activation.forward, self._seen(y), thresholds)
        return y

    def backward(self, gradient: Any) -> Any:
        x, g = _flat(self._seen(self._x)), _flat(self._seen(gradient))
        rounded = self._norm is not None and self._norm.formulas.rounded
        code, steepness = self._activation.slope, self._activation.steepness
        sum_g, sum_gc = self._loops.gradient_sums(
            x, g, self._mean, self._scale, self._shift(), code, rounded, steepness
        )
        if self._norm is None:
            return gradient
        count = x.shape[0] * x.shape[2]
        slope = (self._rounded_gamma() * self._slope * sum_gc / count).astype(np.float32)
        mean_g = (sum_g / count).astype(np.float32)
        self._loops.gradient_of_input(x, g, self._mean, self._scale, mean_g, slope, rounded)
        if self.gamma is not None:
            view(self.gamma.grad())[:] = sum_gc * self._factor
        if self.beta is not None:
            view(self.beta.grad())[:] = sum_g
        return gradient

    def _statistics(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The mean of the batch, and the three results of `BatchNorm.batch`."""
        assert self._norm is not None
        mean, variance = self._loops.moments(_flat(values), self._norm.formulas.rounded)
        count = values.size // len(variance)
        return mean, *self._norm.formulas.batch(variance, self._norm.epsilon, count)

    def _average(self, spread: np.ndarray) -> None:
        """average <- (1 - alpha) average + alpha * batch value."""
        assert self._norm is not None
        alpha = self._norm.alpha
        mean = self._mean if self._moved_by is None else self._mean + view(self._moved_by.data())
        for average, batch in ((self.running_mean, mean), (self.running_spread, spread)):
            average[:] = (np.float32(1) - alpha) * average + alpha * batch

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(self, x: Any) -> Any:
        values = self._seen(x)
        mean, scale = self._zeros, self._ones
        if self._norm is not None and self._by_batch:
            mean, _, factor, _ = self._statistics(values)
            scale = self._rounded_gamma() * factor
        elif self._norm is not None:
            mean = self.running_mean
            if self._moved_by is not None:
                mean = mean - view(self._moved_by.data())
            scale = self._norm.formulas.scale(self._gamma(), self.running_spread, self._norm.epsilon)
        self._activate(values, mean, scale, self._activation.evaluation, values, NO_THRESHOLDS)
        return x

    # -- both ----------------------------------------------------------------------------------------------------------

    def _seen(self, array: Any) -> np.ndarray:
        """The values of input or output as what is normalized: (N, channels, rows, columns)."""
        return _values(array)

    def _activate(
        self, x: np.ndarray, mean: np.ndarray, scale: np.ndarray, activation: int, y: np.ndarray, thresholds: np.ndarray
    ) -> None:
        """Set y to the activation of (x - mean) * scale + beta."""
        steepness = self._activation.steepness
        self._loops.normalize(_flat(x), mean, scale, self._shift(), activation, _flat(y), thresholds, steepness)
        if self._activation.ternary:
            ternarize(y)

    def _gamma(self) -> np.ndarray:
        return self._ones if self.gamma is None else view(self.gamma.data())

    def _shift(self) -> np.ndarray:
        return self._zeros if self.beta is None else view(self.beta.data())

    def _rounded_gamma(self) -> np.ndarray:
        assert self._norm is not None
        return ap2(self._gamma()) if self._norm.formulas.rounded else self._gamma()


class WholeNormalized(Normalized):
    """As `Normalized`, by the mean and variance of the whole tensor, (N, units), as if it were one channel's."""

    def _seen(self, array: Any) -> np.ndarray:
        values = _values(array)
        return values.reshape(len(values), 1, -1, 1)


def _values(array: Any) -> np.ndarray:
    """The values of an NDArray (N, channels) or (N, channels, rows, columns), as a view with all four axes."""
    array.wait_to_read()
    values = shaped_view(array)
    return values.reshape(values.shape + (1,) * (4 - values.ndim))


def _flat(values: np.ndarray) -> np.ndarray:
    """(N, channels, rows, columns) as (N, channels, pixels)."""
    return values.reshape(*values.shape[:2], values.shape[2] * values.shape[3])
