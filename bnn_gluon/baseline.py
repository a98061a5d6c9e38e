"""A yardstick for speed: binary-weight training written with Gluon's layers and MXNet's operators as they come.

`bench` runs it beside the engine, so that before and after are measured in one process. It is never used for results:
its batch normalization is Gluon's own, and it can neither evaluate nor be saved. The layers, their shapes and the
update rule are those of the engine. Import this module only after an engine is open: that sets the number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from mxnet import autograd, gluon, nd, random

from benchmarks.bench.yardstick import check_known
from benchmarks.engine.updates import RULES
from benchmarks.recipe.architecture import Conv, LayerShape, Pool, layer_shapes, parse_architecture

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class PlainEngine:
    """A network that trains with one operator after another: draw, binarize, forward, backward, Adam, clip."""

    def __init__(self, model: ModelSettings, input_shape: tuple[int, ...], seed: int) -> None:
        check_known("gluon", model)
        random.seed(seed)
        shapes = layer_shapes(parse_architecture(model.architecture), input_shape)
        self.network = _network(shapes, model)
        self.network.initialize()
        self.network.hybridize(static_alloc=True, static_shape=True)
        assert isinstance(model.weight_limit, float)
        self._model, self._limit = model, model.weight_limit
        self._classes = np.arange(shapes[-1].output_shape[0])
        trained = [parameter for parameter in self.network.collect_params().values() if parameter.grad_req != "null"]
        self._weights = [parameter for parameter in trained if parameter.name.endswith("weight")]
        self._others = [parameter for parameter in trained if not parameter.name.endswith("weight")]
        self._real = [nd.random.uniform(-self._limit, self._limit, parameter.shape) for parameter in self._weights]
        self._scales = [_lr_scale(shape, model) for shape in shapes if shape.weights]
        self._moments = {p.name: (nd.zeros(p.shape), nd.zeros(p.shape)) for p in trained}
        self._step = 0

    def train_epoch(
        self, images: np.ndarray, labels: np.ndarray, order: np.ndarray, batch_size: int, lr: float
    ) -> np.ndarray:
        """Train on images[order] in batches: see `benchmarks.engine.Engine.train_epoch`."""
        batches = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
        losses = [self._train_step(images[batch], labels[batch], lr) for batch in batches]
        nd.waitall()
        return np.array(losses, np.float32)

    def _train_step(self, images: np.ndarray, labels: np.ndarray, lr: float) -> float:
        for parameter, real in zip(self._weights, self._real, strict=True):
            parameter.data()[:] = self._binarized(real)
        targets = np.where(labels[:, None] == self._classes, np.float32(1), np.float32(-1))
        inputs, targets = nd.array(images, dtype="float32"), nd.array(targets, dtype="float32")
        with autograd.record():
            loss = nd.mean(nd.square(nd.relu(1 - targets * self.network(inputs))))
        loss.backward()
        self._step += 1
        step_size = float(*RULES["adam"].sizes(lr, self._step))
        for parameter in self._others:
            self._adam(parameter, parameter.data(), step_size)
        for parameter, real, scale in zip(self._weights, self._real, self._scales, strict=True):
            self._adam(parameter, real, step_size * scale)
            nd.clip(real, -self._limit, self._limit, out=real)
        return float(loss.asscalar())

    def _binarized(self, real: nd.NDArray) -> nd.NDArray:
        if self._model.weights == "deterministic":
            plus = real >= 0
        else:  # with probability (W / H + 1) / 2, in as few operators as it can be said
            plus = nd.random.uniform(-self._limit, self._limit, real.shape) < real
        return 2 * self._limit * plus - self._limit

    def _adam(self, parameter: gluon.Parameter, value: nd.NDArray, step_size: float) -> None:
        nd.adam_update(value, parameter.grad(), *self._moments[parameter.name], lr=step_size, out=value)


def _network(shapes: list[LayerShape], model: ModelSettings) -> gluon.nn.HybridSequential:
    """Linear layer, (pooling), batch normalization, ReLU, layer after layer; no ReLU after the last."""
    network = gluon.nn.HybridSequential()
    for position, shape in enumerate(shapes, 1):
        network.add(_layer(shape))
        if position < len(shapes) and isinstance(shapes[position].layer, Pool):
            continue  # normalized after pooling
        channels, momentum = shape.output_shape[0], 1 - model.batch_norm_alpha
        network.add(gluon.nn.BatchNorm(momentum=momentum, epsilon=model.batch_norm_epsilon, in_channels=channels))
        if position < len(shapes):
            network.add(gluon.nn.Activation("relu"))
    return network


def _layer(shape: LayerShape) -> gluon.HybridBlock:
    layer = shape.layer
    if isinstance(layer, Conv):
        return gluon.nn.Conv2D(layer.filters, layer.kernel, padding=layer.padding, in_channels=shape.input_shape[0])
    if isinstance(layer, Pool):
        return gluon.nn.MaxPool2D(layer.size, layer.size)
    return gluon.nn.Dense(layer.units, in_units=shape.fan_in)


def _lr_scale(shape: LayerShape, model: ModelSettings) -> float:
    """1 / Glorot's initialization limit, as the engine has it."""
    return 1.0 if model.lr_scale == "none" else float(1 / np.sqrt(1.5 / (shape.fan_in + shape.fan_out)))
