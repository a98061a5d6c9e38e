"""The network of a recipe: stage after stage, forward and backward, with the loss. `stages` has the float types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from benchmarks.engine.draws import draws_of
from benchmarks.engine.layers import layers_of
from benchmarks.recipe.architecture import Conv
from bnn_torch.linear import Given
from bnn_torch.losses import loss_and_gradient
from bnn_torch.quantize import Key
from bnn_torch.stages import Stage

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Pass(NamedTuple):
    """What a forward and backward pass gives.

    Attributes:
        loss: float32 ().
        weights: gradients of the weights that were used, in the network's dtype and their own shapes.
        affine: of biases, gammas and betas, float32, flat, in the order of `Network.affine`.
        statistics: mean and spread of every batch normalization, float32, flat, in the order of `Network.running`.
    """

    loss: Tensor
    weights: list[Tensor]
    affine: Tensor
    statistics: Tensor


class Network:
    """The stages; tensors are given with each call.

    Attributes:
        layers: in order.
        affine, running: names and sizes of biases, gammas and betas, and of the running statistics, in the order in
            which flat tensors hold them.
        scales: likewise how many scales each layer has; 1, of no meaning, if its weights have none.
    """

    def __init__(
        self, model: ModelSettings, input_shape: tuple[int, ...], key: Key, dtype: torch.dtype, *, channels_last: bool
    ) -> None:
        """`channels_last`: convolutional networks have the channels of a pixel side by side."""
        self.layers = layers_of(model, input_shape)
        draws = draws_of(self.layers, model)
        self._stages = [Stage(layer, drawn, model, key, dtype) for layer, drawn in zip(self.layers, draws, strict=True)]
        self._loss = model.loss
        convolutional = isinstance(self.layers[0].shape.layer, Conv)
        self._format = torch.channels_last if channels_last and convolutional else torch.contiguous_format
        sizes = {name: shape[0] for layer in self.layers for name, shape in layer.parameters.items()}
        self.affine = {n: size for n, size in sizes.items() if n.endswith((".bias", ".gamma", ".beta"))}
        self.running = {n: size for n, size in sizes.items() if ".running_" in n}
        self.scales = [layer.scales for layer in self.layers]

    def train(
        self,
        weights: list[Tensor],
        scales: Tensor,
        affine: Tensor,
        images: Tensor,
        labels: Tensor,
        step: Tensor,
        loss_divisor: float = 1,
    ) -> Pass:
        """One minibatch: loss and all gradients.

        Args:
            weights: that the forward pass uses, of each layer, in its shape and the network's dtype.
            scales: what they are multiplied by, of layers that have a scale, float32, flat.
            affine: biases, gammas and betas, float32, flat.
            images: float32 (N, channels, rows, columns).
            labels: int64 (N,).
            step: int64 (), from 1: what random draws are a function of.
            loss_divisor: what the loss is divided by.
        """
        values = named_parts(affine, self.affine)
        by_layer = scales.split(self.scales)
        given = [Given(weight, scale, values, step) for weight, scale in zip(weights, by_layer, strict=True)]
        tapes = []
        x = images.to(memory_format=self._format)
        for stage, its in zip(self._stages, given, strict=True):
            x, tape = stage.forward(x, its)
            tapes.append(tape)
        loss, gradient_of_scores = loss_and_gradient(self._loss, x.flatten(1), labels, loss_divisor)
        g: Tensor | None = gradient_of_scores.reshape(x.shape)
        gradients: dict[str, Tensor] = {}
        statistics: dict[str, Tensor] = {}
        for stage, its, tape in reversed(list(zip(self._stages, given, tapes, strict=True))):
            assert g is not None
            g, of_stage = stage.backward(g, its, tape)
            gradients |= of_stage
            statistics |= stage.statistics(tape)
        return Pass(
            loss=loss,
            weights=[gradients[layer.weight] for layer in self.layers],
            affine=_joined([gradients[name] for name in self.affine], loss),
            statistics=_joined([statistics[name] for name in self.running], loss),
        )

    def evaluate(
        self, weights: list[Tensor], scales: Tensor, affine: Tensor, running: Tensor, images: Tensor
    ) -> Tensor:
        """Scores of images float32 (N, channels, rows, columns) in evaluation mode, float32 (N, classes).

        Args:
            weights: of each layer, float32 in its shape.
            scales: as `train`.
            affine, running: float32, flat.
        """
        values = named_parts(affine, self.affine) | named_parts(running, self.running)
        x = images.to(memory_format=self._format)
        for stage, weight, scale in zip(self._stages, weights, scales.split(self.scales), strict=True):
            x = stage.evaluate(x, Given(weight, scale, values))
        return x.flatten(1)


def named_parts(flat: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The parts of a flat tensor, of these sizes, by name."""
    return dict(zip(sizes, flat.split(list(sizes.values())), strict=True)) if sizes else {}


def _joined(values: list[Tensor], like: Tensor) -> Tensor:
    """All values in one flat tensor, on the device of another."""
    return torch.cat(values) if values else like.new_zeros(0)
