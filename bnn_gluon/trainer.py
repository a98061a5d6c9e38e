"""The Engine class for the networks that a recipe describes layer by layer, with quantized weights.

Import this module only once the number of threads is set: see `bnn_gluon.engine.open`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from mxnet import nd

from benchmarks.engine.draws import EVALUATION_WEIGHTS, Mask, Thresholds, draws_of
from benchmarks.engine.initial import initial_values
from benchmarks.engine.layers import Layer, evaluation_kinds, layers_of, weight_limits
from benchmarks.engine.updates import clip_limits, frozen, least_gammas, lr_scales, penalties
from bnn_gluon import filters, quantize
from bnn_gluon.kernels import choice
from bnn_gluon.kernels.self_test import check_loops
from bnn_gluon.losses import loss_and_gradient
from bnn_gluon.memory import view
from bnn_gluon.network import Network
from bnn_gluon.trainer_base import BaseEngine, UpdateSettings
from bnn_gluon.unwritten_weights import UnwrittenWeights

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings
    from bnn_gluon import stages
    from bnn_gluon.quantize import Draw


class GluonEngine(BaseEngine):
    """One network with its training rule: see `benchmarks.engine.Engine`.

    Of a layer that is quantized, the network holds the quantized weights; the real-valued ones and the optimizer's
    moments are NumPy arrays, and the next step's quantized weights are written straight into the network's memory. An
    evaluation borrows the network: it writes the weights that it wants and afterwards those of the coming step, which
    can be drawn again.
    """

    def __init__(
        self, model: ModelSettings, input_shape: tuple[int, ...], seed: int, threads: int, gpu: Any | None = None
    ) -> None:
        """`gpu`: MXNet's context of a GPU, if products are to be made there.

        Raises:
            EngineError: one of the compiled loops computes wrongly here.
        """
        layers = self._layers = layers_of(model, input_shape)
        self._network = Network(layers, draws_of(layers, model), model, gpu)
        real = {
            layer.weight: np.empty(math.prod(layer.weight_shape), np.float32) for layer in layers if layer.quantized
        }
        shapes = {name: shape for layer in layers for name, shape in layer.parameters.items()}
        settings = UpdateSettings(
            penalties(layers, model),
            lr_scales(layers, model),
            clip_limits(layers, model),
            frozen(layers),
            least_gammas(layers, model),
        )
        super().__init__(model, threads, gpu, shapes, self._network.parameters, real, settings)
        if gpu is None and choice.compiled():
            check_loops(layers, signs=any(map(_gives_signs, layers)))
            if any(layer.quantized or _gives_signs(layer) for layer in layers):
                self._chosen_kernels.append(choice.TABLES)
        self._limits = weight_limits(layers, model)
        self._quantized_layers = {layer.weight: layer for layer in layers if layer.quantized}
        self._centers = model.weight_centering == "input_channels"
        self._evaluation_kinds = evaluation_kinds(layers, model)
        self._key = (np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF))
        self._draw_buffers: dict[int, np.ndarray] = {}
        self.load_parameters(initial_values(layers, model, seed))

    # -- parameters and state ------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        values = {name: parameter.data().asnumpy() for name, parameter in self._differentiated.items()}
        values |= {name: value.copy() for name, value in (self._real | self._network.running).items()}
        return {name: values[name].reshape(shape) for name, shape in self._shapes.items()}

    def _set_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        for name, value in (self._real | self._network.running).items():
            value[:] = np.asarray(parameters[name], np.float32).reshape(-1)
        for name in self._differentiated.keys() - self._real.keys():
            parameter = self._differentiated[name]
            parameter.set_data(nd.array(np.reshape(parameters[name], parameter.shape), dtype="float32"))
        self._quantize()

    def describe(self) -> dict[str, Any]:
        described = super().describe()
        tie = {"max_pool_gradient": f"{self._model.max_pool_gradient} of tied maxima"}
        return described | {"determinism": described["determinism"] | tie}

    # -- training ------------------------------------------------------------------------------------------------------

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, lr: float, uniforms: Mapping[str, np.ndarray] | None = None
    ) -> float:
        if uniforms is not None:
            self._quantize(uniforms)
        batch_size = self._epoch_batch_size or len(images)
        divisor = batch_size if self._model.loss_divisor == "batch_size" else 1

        def loss_of(scores: np.ndarray) -> tuple[float, np.ndarray]:
            return loss_and_gradient(self._model.loss, scores, labels, divisor)

        loss = self._network.step(images, loss_of, self._drawn(len(images)))
        self._update_parameters(lr)
        self._rescale()
        self._quantize()
        return loss

    # -- random draws and quantized weights ----------------------------------------------------------------------------

    def _draw(self, tensor: int, step: int) -> Draw:
        """Which random draw it is: tensor number, step, and the seed's two halves."""
        return np.uint32(tensor), np.uint32(step), *self._key

    def _drawn(self, batch: int) -> stages.Draw:
        """A function that gives the draws of the coming step. The next step reuses their memory."""
        drawn: dict[int, np.ndarray] = {}  # by tensor: layers may share a mask

        def values_of(draw: Mask | Thresholds) -> np.ndarray:
            if draw.tensor not in drawn:
                drawn[draw.tensor] = self._draw_values(draw, batch)
            return drawn[draw.tensor]

        return values_of

    def _draw_values(self, draw: Mask | Thresholds, batch: int) -> np.ndarray:
        size = batch * math.prod(draw.shape)
        values = self._draw_buffers.get(draw.tensor)
        if values is None or values.size != size:
            values = self._draw_buffers[draw.tensor] = np.empty(size, np.float32)
        numbers = self._draw(draw.tensor, self._step + 1)
        if isinstance(draw, Mask):
            quantize.draw_dropout_mask(draw.keep, draw.scale, *numbers, values)
        else:
            quantize.draw_thresholds(*numbers, values)
        return values

    def _quantized(self) -> Iterator[tuple[int, Layer, np.ndarray, np.ndarray]]:
        """The layers that are quantized with their positions, real-valued weights, and the network's: both flat."""
        nd.waitall()
        for position, layer in enumerate(self._layers):
            if layer.quantized:
                used = view(self._differentiated[layer.weight].data())
                yield position, layer, self._real[layer.weight], used

    def _begin_epoch(self) -> None:
        """See WORDS["model.weight_centering"]."""
        if self._centers:
            for layer in self._quantized_layers.values():
                self._center(layer)
            self._rescale()
            self._quantize()

    def _update_parameter(
        self, name: str, used: np.ndarray, gradient: np.ndarray, step_size: np.float32, *sizes: np.float32
    ) -> None:
        layer = self._quantized_layers.get(name)
        if layer is not None and layer.scaled_by_filter:
            gradient = self._gradient_of_real(layer, used, gradient)
        super()._update_parameter(name, used, gradient, step_size, *sizes)
        if layer is not None and self._centers:
            self._center(layer)

    def _gradient_of_real(self, layer: Layer, signs: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """That of the real-valued weights, float32 (n,), from that of what products used: see "filter_scaled"."""
        found = np.empty_like(gradient)
        shape, scales = (layer.scales, -1), self._network.running[layer.scale]
        given = gradient.reshape(shape), signs.reshape(shape)
        filters.gradient_of_real(*given, scales, layer.weight_shape[1], found.reshape(shape))
        return found

    def _center(self, layer: Layer) -> None:
        weights = self._real[layer.weight].reshape(*layer.weight_shape[:2], -1)
        filters.center(weights, self._limits[layer.weight])

    def _rescale(self) -> None:
        """Set the scales of layers that have some, from what the update left."""
        for layer in self._layers:
            if layer.scaled:
                moments = dict(zip(self._rule.moments, self._moments[layer.weight], strict=True))
                scales = quantize.SCALES[layer.weights](self._real[layer.weight], moments, layer.scales)
                self._network.running[layer.scale][:] = scales

    def _quantize(self, uniforms: Mapping[str, np.ndarray] | None = None) -> None:
        """Set the weights that the coming step uses, drawn with `uniforms` if given.

        Where only bits or tables use them, they are not written (`UnwrittenWeights`); an update with a penalty reads
        them.
        """
        for position, layer, weights, used in self._quantized():
            limit = self._limits[layer.weight]
            if uniforms is not None and layer.weights == "stochastic":
                drawn = np.ascontiguousarray(uniforms[layer.weight], np.float32).reshape(-1)
                self._network.linears[layer.weight].use(None)
                quantize.compare_with_uniforms(weights, limit, drawn, used)
            else:
                draw = self._draw(position, self._step + 1)
                coming = UnwrittenWeights(layer.weights, self._model.zero_weight, weights, limit, draw)
                read_again = layer.weight in self._settings.penalties
                if not self._network.linears[layer.weight].use(None if read_again else coming):
                    coming.write(used)

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        scores = []
        try:
            for number, start in enumerate(range(0, len(images), batch_size), 1):
                self._waiting.adapt()
                if number == 1 or self._model.evaluation_weights == "stochastic":
                    self._write_evaluation_weights(number)
                scores.append(self._network.scores(images[start : start + batch_size]))
        finally:
            self._quantize()
        return np.concatenate(scores)

    def _write_evaluation_weights(self, batch_number: int) -> None:
        """Set the weights that the evaluation of a batch, from 1, uses."""
        for position, layer, weights, used in self._quantized():
            kind = self._evaluation_kinds[position]
            draw = self._draw(EVALUATION_WEIGHTS + position, batch_number)
            self._network.linears[layer.weight].use(None)
            quantize.quantize(kind, self._model.zero_weight, weights, self._limits[layer.weight], draw, used)


def _gives_signs(layer: Layer) -> bool:
    return layer.activation not in ("none", "relu")
