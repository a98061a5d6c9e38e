"""The network of a recipe: its stages, what they are made of by name, one training step, and evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mxnet import gluon, init, nd

from benchmarks.architecture import Conv, Dense, LayerShape, MaxPool
from bnn_gluon.layers import BATCH_NORMS
from bnn_gluon.memory import view
from bnn_gluon.stages import Normalization, Pool, Stage

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


# An evaluation takes so many images at a time that no layer's output exceeds this: the C library gives larger blocks
# back to the system each time, and their pages cost more than they hold.
_LAYER_BYTES = 32 * 2**20


class Network:
    """Linear, (pooling), batch normalisation, activation, layer after layer; no activation behind the last.

    Source: mnist.py and cifar10.py of BinaryConnect and BinaryNet.

    Attributes:
        parameters: Gluon's, by the house's names, in network order: "conv1.weight", "conv1.bias", "bn1.gamma", ...
            The weights are what the forward pass uses, so in training the binary ones.
        running: the moving averages by name, float32 (channels,): "bn1.running_mean", "bn1.running_std", ...
        names: of both, in network order.
    """

    def __init__(self, shapes: list[LayerShape], layers: Sequence[str], model: ModelSettings) -> None:
        """`layers` names the linear ones, "conv1", ..., "dense1", ..."""
        self.parameters: dict[str, gluon.Parameter] = {}
        self.running: dict[str, np.ndarray] = {}
        self.names: list[str] = []
        self._dropout, self._draws_thresholds = dropout_rates(len(layers), model), draws_thresholds(model)
        self._stages: list[Stage] = []
        self._evaluated_at_once = max(1, _LAYER_BYTES // (4 * max(math.prod(shape.output_shape) for shape in shapes)))
        for shape, following in zip(shapes, [*shapes[1:], None], strict=True):
            if not isinstance(shape.layer, MaxPool):
                self._add_stage(layers[len(self._stages)], shape, following, model)

    def _add_stage(self, layer: str, shape: LayerShape, following: LayerShape | None, model: ModelSettings) -> None:
        kind: str
        kind, alpha, activation = model.batch_norm, model.batch_norm_alpha, model.activation
        if following is None:
            kind, alpha = model.output_batch_norm or kind, model.output_batch_norm_alpha or alpha
            activation = "none"
        norm = Normalization(BATCH_NORMS[kind], np.float32(model.batch_norm_epsilon), np.float32(alpha))
        pool = None
        if following is not None and isinstance(following.layer, MaxPool):
            pool = Pool(following.layer.size, every=model.max_pool_gradient == "all")
        linear = _linear(shape)
        stage = Stage(linear, pool, norm, activation, shape.output_shape[0], add_bias=linear.bias is None)
        self._stages.append(stage)
        number = len(self._stages)
        parameters = {
            f"{layer}.weight": linear.weight,
            f"{layer}.bias": linear.bias if stage.bias is None else stage.bias,
            f"bn{number}.gamma": stage.gamma,
            f"bn{number}.beta": stage.beta,
        }
        running = {
            f"bn{number}.running_mean": stage.running_mean,
            f"bn{number}.running_{norm.formulas.spread}": stage.running_spread,
        }
        for parameter in parameters.values():
            parameter.initialize(init.Zero())
        self.parameters |= parameters
        self.running |= running
        self.names += [*parameters, *running]

    def step(self, images: np.ndarray, targets: np.ndarray, draws: Sequence[np.ndarray]) -> float:
        """Set all gradients and bring the moving averages up to date; returns the loss.

        The loss is the squared hinge, mean over batch and classes of max(0, 1 - t * y)^2.
        Source: mnist.py, T.mean(T.sqr(T.maximum(0., 1. - target * train_output))).

        Args:
            images: float32 (N, channels, rows, columns).
            targets: float32 (N, classes), -1 or +1.
            draws: the random draws in network order, float32 and flat: a dropout mask for the input of each linear
                layer that has dropout, and thresholds for each stochastic activation.
        """
        remaining, masks, inputs = list(draws), [], []
        x, last = nd.array(images, dtype="float32"), len(self._stages) - 1
        for position, stage in enumerate(self._stages):
            masks.append(remaining.pop(0) if self._dropout[position] else None)
            _multiply(x, masks[-1])
            inputs.append(x)
            thresholds = [remaining.pop(0)] if self._draws_thresholds and position < last else []
            x = stage.forward(x, *thresholds)
        slack = np.maximum(np.float32(0), 1 - targets * x.asnumpy())
        gradient = nd.array(-2 * targets * slack / np.float32(slack.size))
        for position in range(last, -1, -1):
            self._stages[position].backward(gradient)
            if position:
                gradient = inputs[position].grad
                _multiply(gradient, masks[position])
        nd.waitall()
        return float(np.mean(slack * slack, dtype=np.float64))

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Outputs in evaluation mode, float32 (N, classes)."""
        parts = np.array_split(images, -(-len(images) // self._evaluated_at_once))
        return np.concatenate([self._evaluate(part) for part in parts])

    def _evaluate(self, images: np.ndarray) -> np.ndarray:
        x = nd.array(images, dtype="float32")
        for stage in self._stages:
            x = stage.evaluate(x)
        scores: np.ndarray = x.asnumpy()
        return scores


def _linear(shape: LayerShape) -> gluon.nn.HybridBlock:
    """The linear layer; a convolution leaves its bias to the stage."""
    if isinstance(shape.layer, Conv):
        filters, kernel = shape.layer.filters, shape.layer.kernel
        channels = shape.input_shape[0]
        block = gluon.nn.Conv2D(filters, kernel, padding=kernel // 2, in_channels=channels, use_bias=False)
    else:
        assert isinstance(shape.layer, Dense)
        block = gluon.nn.Dense(shape.layer.units, in_units=shape.fan_in)
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def _multiply(array: Any, mask: np.ndarray | None) -> None:
    """Multiply an NDArray by a mask in place."""
    array.wait_to_read()
    if mask is not None:
        values = view(array)
        np.multiply(values, mask, out=values)


def dropout_rates(linear_layers: int, model: ModelSettings) -> list[float]:
    """Dropout rate in front of each linear layer: that of the input, then that of the hidden layers."""
    return [model.dropout_input, *[model.dropout_hidden] * (linear_layers - 1)]


def draws_thresholds(model: ModelSettings) -> bool:
    """Whether training draws thresholds for the activations."""
    return model.activation == "stochastic_sign"
