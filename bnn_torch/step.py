"""One training step as a function of tensors, which it changes in place: gradients, running statistics, penalties,
update, clip, and the quantized weights of the next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.engine.draws import EVALUATION_WEIGHTS
from benchmarks.engine.layers import Layer, evaluation_kinds, weight_limits
from benchmarks.engine.updates import clip_limits, frozen, least_gammas, lr_scales, penalties, rule_of, update_of
from bnn_torch import filters, quantize
from bnn_torch.network import Network, Pass
from bnn_torch.update import UPDATES

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Variables(NamedTuple):
    """All tensors that training changes, on one device.

    Attributes:
        weights: real-valued weights of each layer, float32 (chunks, 4, 1024): see `quantize`.
        used: what products use in the coming step, of the same shape, in the network's dtype: quantized weights, or the
            real-valued ones of layers that are real.
        scales: what each layer's quantized weights are multiplied by, where they have a scale, float32, flat, in the
            order of `Network.scales`.
        affine: biases, gammas and betas, float32, flat, in the order of `Network.affine`.
        running: running statistics, float32, flat, in the order of `Network.running`.
        weight_moments, affine_moments: what the optimizer keeps beside them.
        step: updates done, int64 ().
    """

    weights: list[Tensor]
    used: list[Tensor]
    scales: Tensor
    affine: Tensor
    running: Tensor
    weight_moments: list[tuple[Tensor, ...]]
    affine_moments: tuple[Tensor, ...]
    step: Tensor

    def moments(self, number: int) -> list[Tensor]:
        """One kind of moment of all layers' weights, in order, and of `affine`."""
        return [*(moments[number] for moments in self.weight_moments), self.affine_moments[number]]


class Training:
    """The training rule of a recipe on one device."""

    def __init__(self, network: Network, model: ModelSettings, key: quantize.Key, device: torch.device) -> None:
        self.rule, self._update = rule_of(model), update_of(model, UPDATES)
        self._network, self._device = network, device
        layers = self._layers = network.layers
        self._shapes = [layer.weight_shape for layer in layers]
        self._quantizers = _quantizers(layers, model, key)
        self._evaluation_quantizers = _evaluation_quantizers(self._quantizers, layers, model)
        still = frozen(layers)
        scales = lr_scales(layers, model)
        decays = {name: penalty for name, penalty in penalties(layers, model).items() if name not in still}
        clipped = clip_limits(layers, model)
        self._trained = [layer.trained for layer in layers]
        self._scales = [float(scales.get(layer.weight, 1)) for layer in layers]
        self._limits = [float(clipped.get(layer.weight, np.inf)) for layer in layers]
        self._penalties = [decays.get(layer.weight) for layer in layers]
        self._affine_scales = self._vector(network.affine, scales, 1)
        self._affine_limits = self._vector(network.affine, clipped, np.inf)
        least = least_gammas(layers, model)
        self._least_affine = self._vector(network.affine, least, -np.inf) if least else None
        self._centers = model.weight_centering == "input_channels"
        self._affine_decays = self._affine_trained = None  # where none decays, and all are trained
        if any(name in decays for name in network.affine):
            self._affine_decays = self._vector(network.affine, {n: p.decay for n, p in decays.items()}, 0)
        if any(name in still for name in network.affine):
            self._affine_trained = self._vector(network.affine, dict.fromkeys(still, 0), 1) > 0
        alphas = {n: layer.alpha for layer in layers for n in layer.parameters if n in network.running}
        self._alphas = self._vector(network.running, alphas, 0)

    def _vector(self, sizes: Mapping[str, int], values: Mapping[str, Any], default: float) -> Tensor:
        """A value for each element of a flat tensor, float32."""
        spread = [np.full(size, values.get(name, default), np.float32) for name, size in sizes.items()]
        return torch.from_numpy(np.concatenate([np.empty(0, np.float32), *spread])).to(self._device)

    def new_variables(self, dtype: torch.dtype) -> Variables:
        """All zeros."""
        chunks = [(quantize.chunks_of(int(np.prod(s))), quantize.WORDS, quantize.LANE) for s in self._shapes]
        affine, running = (sum(sizes.values()) for sizes in (self._network.affine, self._network.running))

        def zeros(shape: tuple[int, ...], kind: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=kind, device=self._device)

        return Variables(
            weights=[zeros(shape) for shape in chunks],
            used=[zeros(shape, dtype) for shape in chunks],
            scales=zeros((sum(self._network.scales),)),
            affine=zeros((affine,)),
            running=zeros((running,)),
            weight_moments=[tuple(zeros(shape) for _ in self.rule.moments) for shape in chunks],
            affine_moments=tuple(zeros((affine,)) for _ in self.rule.moments),
            step=zeros((), torch.int64),
        )

    def step(
        self, variables: Variables, images: Tensor, labels: Tensor, sizes: Tensor, loss_divisor: float = 1
    ) -> Pass:
        """Change `variables` by one minibatch; the loss and gradients are those before the update, and of no penalty.

        Args:
            images: float32 (N, channels, rows, columns).
            labels: int64 (N,).
            sizes: those of the optimizer's rule for this step, float32 (n,).
            loss_divisor: what the loss is divided by.
        """
        shaped = [quantize.from_chunks(w, shape) for w, shape in zip(variables.used, self._shapes, strict=True)]
        result = self._network.train(
            shaped, variables.scales, variables.affine, images, labels, variables.step + 1, loss_divisor
        )
        # running <- (1 - alpha) running + alpha * batch value
        variables.running.copy_((1 - self._alphas) * variables.running + self._alphas * result.statistics)
        step_size, *more = sizes.unbind()
        self._update_affine(variables, result.affine, step_size, more)
        for number, gradient in enumerate(result.weights):
            if self._trained[number]:
                of_real = self._gradient_of_real(variables, number, gradient)
                self._update_weights(variables, number, quantize.in_chunks(of_real), step_size, more)
            self._rescale(variables, number)
            used = self._quantizers[number](variables.weights[number], variables.step + 2)
            variables.used[number].copy_(used)
        variables.step.add_(1)
        return result

    def _update_affine(self, variables: Variables, g: Tensor, step_size: Tensor, more: list[Tensor]) -> None:
        parameter, moments = variables.affine, variables.affine_moments
        if self._affine_decays is not None:
            g = g + self._affine_decays * parameter
        if self._affine_trained is not None:
            g = torch.where(self._affine_trained, g, 0)
        updated = self._update(parameter, g, moments, step_size * self._affine_scales, *more)
        clipped = torch.clamp(updated.parameter, -self._affine_limits, self._affine_limits)
        parameter.copy_(clipped if self._least_affine is None else torch.maximum(clipped, self._least_affine))
        _copy(moments, updated.moments)

    def _update_weights(
        self, variables: Variables, number: int, gradient: Tensor, step_size: Tensor, more: list[Tensor]
    ) -> None:
        """Update one layer's weights."""
        weights, moments = variables.weights[number], variables.weight_moments[number]
        g, penalty = gradient.to(torch.float32), self._penalties[number]
        if penalty is not None and penalty.decay:
            g = g + penalty.decay * weights
        if penalty is not None and penalty.quantized:
            g = g + penalty.quantized * variables.used[number].to(torch.float32)
        updated = self._update(weights, g, moments, step_size * self._scales[number], *more)
        limit = self._limits[number]
        weights.copy_(updated.parameter if limit == np.inf else updated.parameter.clamp(-limit, limit))
        self._center(variables, number)
        _copy(moments, updated.moments)

    def _gradient_of_real(self, variables: Variables, number: int, gradient: Tensor) -> Tensor:
        """The gradient of a layer's real-valued weights from that of what products used: see "filter_scaled"."""
        if not self._layers[number].scaled_by_filter:
            return gradient
        signs = quantize.from_chunks(variables.used[number], self._shapes[number])
        return filters.gradient_of_real(gradient, signs, self.scales_of(variables, number))

    def _center(self, variables: Variables, number: int) -> None:
        """Take the mean off the weights of a layer that is not real, and clip them, if the recipe says so."""
        if self._centers and self._layers[number].quantized:
            weights = quantize.from_chunks(variables.weights[number], self._shapes[number])
            weights.copy_(filters.centered(weights, self._quantizers[number].limit))

    def scales_of(self, variables: Variables, number: int) -> Tensor:
        """A view of a layer's scales, float32 (1,) or (filters,)."""
        return variables.scales.split(self._network.scales)[number]

    def _rescale(self, variables: Variables, number: int) -> None:
        """Set a layer's scales, if it has some, from what the update left."""
        quantizer = self._quantizers[number]
        if quantizer.kind in quantize.SCALES:
            moments = dict(zip(self.rule.moments, variables.weight_moments[number], strict=True))
            scale = quantize.SCALES[quantizer.kind](variables.weights[number], self._shapes[number], moments)
            self.scales_of(variables, number).copy_(scale)

    def begin_epoch(self, variables: Variables) -> None:
        """What is done before the first step of an epoch: see WORDS["model.weight_centering"]."""
        if self._centers:
            for number in range(len(self._layers)):
                self._center(variables, number)
                self._rescale(variables, number)
            self.quantize(variables)

    def quantize(self, variables: Variables, uniforms: Mapping[str, np.ndarray] | None = None) -> None:
        """Set the weights that the coming step uses, those of stochastic layers by `uniforms`, by name, if given."""
        for number, (layer, quantizer) in enumerate(zip(self._network.layers, self._quantizers, strict=True)):
            weights = variables.weights[number]
            if uniforms is not None and quantizer.kind == "stochastic":
                drawn = torch.from_numpy(np.array(uniforms[layer.weight], np.float32)).to(self._device)
                used = quantize.compare_with_uniforms(weights, quantizer.limit, quantize.in_chunks(drawn))
            else:
                used = quantizer(weights, variables.step + 1)
            variables.used[number].copy_(used)

    def evaluation_weights(self, variables: Variables, batch: int) -> list[Tensor]:
        """The weights with which a batch, numbered from 1, is evaluated, float32, of each layer in its shape."""
        number = torch.full_like(variables.step, batch)
        parts = zip(self._evaluation_quantizers, variables.weights, self._shapes, strict=True)
        return [quantize.from_chunks(quantizer(w, number), shape) for quantizer, w, shape in parts]


def _quantizers(layers: list[Layer], model: ModelSettings, key: quantize.Key) -> list[quantize.Quantizer]:
    """How training quantizes the weights of each layer."""
    limits = weight_limits(layers, model)
    return [
        quantize.Quantizer(
            kind=layer.weights,
            limit=float(limits.get(layer.weight, 0)),
            zero_weight=model.zero_weight,
            size=layer.shape.weights,
            tensor=number,
            key=key,
        )
        for number, layer in enumerate(layers)
    ]


def _evaluation_quantizers(
    training: list[quantize.Quantizer], layers: list[Layer], model: ModelSettings
) -> list[quantize.Quantizer]:
    """How evaluation quantizes the weights of each layer, with random draws of its own."""
    kinds = evaluation_kinds(layers, model)
    return [
        quantizer._replace(kind=kind, tensor=EVALUATION_WEIGHTS + quantizer.tensor)
        for quantizer, kind in zip(training, kinds, strict=True)
    ]


def _copy(targets: tuple[Tensor, ...], sources: tuple[Tensor, ...]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
