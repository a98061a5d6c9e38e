"""One training step as a function of tensors, which it changes in place: gradients, running statistics, update, clip,
and the binary weights of the next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.parameters import limits, lr_scales
from bnn_torch import quantize
from bnn_torch.network import Network, Pass
from bnn_torch.optimizers import RULES

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Variables(NamedTuple):
    """All tensors that training changes, on one device.

    Attributes:
        weights: real-valued weights of each layer, float32 (chunks, 4, 1024): see `quantize`.
        used: what products use in the coming step, of the same shape, in the network's dtype: binary weights, or the
            real-valued ones where nothing is binarised.
        affine: biases, gammas and betas, float32, flat, in the order of `Network.affine`.
        running: running statistics, float32, flat, in the order of `Network.running`.
        weight_moments, affine_moments: what the optimiser keeps beside them.
        step: updates done, int64 ().
    """

    weights: list[Tensor]
    used: list[Tensor]
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
        self.rule = RULES[model.optimizer]
        self._network, self._key, self._device = network, key, device
        self._quantisation = model.weights
        layers = network.layers
        scales, clipped = lr_scales(layers, model), limits(layers, model)
        self._shapes = [layer.weight_shape for layer in layers]
        self._scales = [float(scales.get(layer.weight, 1)) for layer in layers]
        self._limits = [float(clipped.get(layer.weight, np.inf)) for layer in layers]
        self._affine_scales = self._vector(network.affine, scales, 1)
        self._affine_limits = self._vector(network.affine, clipped, np.inf)
        alphas = {n: layer.alpha for layer in layers for n in layer.parameters if n in network.running}
        self._alphas = self._vector(network.running, alphas, 0)

    def _vector(self, sizes: Mapping[str, int], values: Mapping[str, Any], default: float) -> Tensor:
        """A value for each element of a flat tensor, float32."""
        spread = [np.full(size, values.get(name, default), np.float32) for name, size in sizes.items()]
        return torch.from_numpy(np.concatenate(spread)).to(self._device)

    def new_variables(self, dtype: torch.dtype) -> Variables:
        """All zeros."""
        chunks = [(quantize.chunks_of(int(np.prod(s))), quantize.WORDS, quantize.LANE) for s in self._shapes]
        affine, running = (sum(sizes.values()) for sizes in (self._network.affine, self._network.running))

        def zeros(shape: tuple[int, ...], kind: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=kind, device=self._device)

        return Variables(
            weights=[zeros(shape) for shape in chunks],
            used=[zeros(shape, dtype) for shape in chunks],
            affine=zeros((affine,)),
            running=zeros((running,)),
            weight_moments=[tuple(zeros(shape) for _ in self.rule.moments) for shape in chunks],
            affine_moments=tuple(zeros((affine,)) for _ in self.rule.moments),
            step=zeros((), torch.int64),
        )

    def step(self, variables: Variables, images: Tensor, labels: Tensor, step_size: Tensor) -> Pass:
        """Change `variables` by one minibatch; the loss and gradients are those before the update.

        Args:
            images: float32 (N, channels, rows, columns).
            labels: int64 (N,).
            step_size: of the optimiser's rule for this step, float32 ().
        """
        shaped = [quantize.from_chunks(w, shape) for w, shape in zip(variables.used, self._shapes, strict=True)]
        result = self._network.train(shaped, variables.affine, images, labels, variables.step + 1)
        # running <- (1 - alpha) running + alpha * batch value
        variables.running.copy_((1 - self._alphas) * variables.running + self._alphas * result.statistics)
        affine = self.rule.update(
            variables.affine, result.affine, variables.affine_moments, step_size * self._affine_scales
        )
        variables.affine.copy_(torch.clamp(affine.parameter, -self._affine_limits, self._affine_limits))
        _copy(variables.affine_moments, affine.moments)
        for number, weights in enumerate(variables.weights):
            gradient = quantize.in_chunks(result.weights[number]).to(torch.float32)
            moments = variables.weight_moments[number]
            updated = self.rule.update(weights, gradient, moments, step_size * self._scales[number])
            limit = self._limits[number]
            clipped = updated.parameter if limit == np.inf else updated.parameter.clamp(-limit, limit)
            weights.copy_(clipped)
            _copy(moments, updated.moments)
            variables.used[number].copy_(self._quantise(number, clipped, variables.step + 2))
        variables.step.add_(1)
        return result

    def quantise(self, variables: Variables, uniforms: Mapping[str, np.ndarray] | None = None) -> None:
        """Set the weights that the coming step uses, drawn with `uniforms` by parameter name if given."""
        for number, (layer, weights) in enumerate(zip(self._network.layers, variables.weights, strict=True)):
            if uniforms is None or self._quantisation != "stochastic":
                quantised = self._quantise(number, weights, variables.step + 1)
            else:
                drawn = torch.from_numpy(np.array(uniforms[layer.weight], np.float32)).to(self._device)
                quantised = quantize.compare_with_uniforms(weights, self._limits[number], quantize.in_chunks(drawn))
            variables.used[number].copy_(quantised)

    def _quantise(self, number: int, weights: Tensor, step: Tensor) -> Tensor:
        """What products use of a layer's weights in a step, from 1; float32."""
        if self._quantisation == "real":
            return weights
        if self._quantisation == "deterministic":
            return quantize.binarize_deterministic(weights, self._limits[number])
        return quantize.binarize_stochastic(weights, self._limits[number], number, step, self._key)

    def evaluation_weights(self, variables: Variables, binary: bool) -> list[Tensor]:
        """The weights with which the network is evaluated, float32, of each layer in its shape."""
        weights = variables.weights
        if binary:
            weights = [
                quantize.binarize_deterministic(w, limit) for w, limit in zip(weights, self._limits, strict=True)
            ]
        return [quantize.from_chunks(w, shape) for w, shape in zip(weights, self._shapes, strict=True)]


def _copy(targets: tuple[Tensor, ...], sources: tuple[Tensor, ...]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
