"""The network of a recipe: stage after stage, forward and backward, with the loss. `stages` has the float types."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from benchmarks.architecture import Conv
from benchmarks.parameters import draws_of, layers_of
from bnn_torch.quantize import Key
from bnn_torch.stages import Affine, Stage

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Pass(NamedTuple):
    """What a forward and backward pass gives.

    Attributes:
        loss: float32 ().
        weights: gradients of the weights that were used, in the network's dtype and their own shapes.
        affine: of biases, gammas and betas, float32, flat, in the order of `Network.affine`.
        statistics: mean and spread of every batch normalisation, float32, flat, in the order of `Network.running`.
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
    """

    def __init__(
        self, model: ModelSettings, input_shape: tuple[int, ...], key: Key, dtype: torch.dtype, gpu: bool
    ) -> None:
        self.layers = layers_of(model, input_shape)
        draws = draws_of(self.layers, model)
        self._stages = [
            Stage(layer, mask, thresholds, model, key, dtype)
            for layer, (mask, thresholds) in zip(self.layers, draws, strict=True)
        ]
        # cuDNN's fast kernels want the channels of a pixel side by side.
        convolutional = isinstance(self.layers[0].shape.layer, Conv)
        self._format = torch.channels_last if gpu and convolutional else torch.contiguous_format
        sizes = {name: shape[0] for layer in self.layers for name, shape in layer.parameters.items()}
        self.affine = {n: size for n, size in sizes.items() if n.endswith((".bias", ".gamma", ".beta"))}
        self.running = {n: size for n, size in sizes.items() if ".running_" in n}

    def train(self, weights: list[Tensor], affine: Tensor, images: Tensor, labels: Tensor, step: Tensor) -> Pass:
        """One minibatch: squared hinge loss and all gradients.

        The loss is the mean over batch and classes of max(0, 1 - t * y)^2, t = +1 for the image's class, else -1.
        Source: mnist.py, T.mean(T.sqr(T.maximum(0., 1. - target * train_output))).

        Args:
            weights: that the forward pass uses, of each layer, in its shape and the network's dtype.
            affine: biases, gammas and betas, float32, flat.
            images: float32 (N, channels, rows, columns).
            labels: int64 (N,).
            step: int64 (), from 1: what random draws are a function of.
        """
        affines, tape = self._affines(affine), []
        x = images.to(memory_format=self._format)
        for stage, weight, values in zip(self._stages, weights, affines, strict=True):
            x, taped = stage.forward(x, weight, values, step)
            tape.append(taped)
        targets = (labels[:, None] == torch.arange(x.shape[1], device=x.device)).to(x.dtype) * 2 - 1
        slack = (1 - targets * x).clamp(min=0)
        g: Tensor | None = -2 / slack.numel() * targets * slack
        gradients = []
        for stage, weight, values, taped in reversed(list(zip(self._stages, weights, affines, tape, strict=True))):
            assert g is not None
            gradients.append(stage.backward(g, weight, values, taped))
            g = gradients[-1].x
        gradients.reverse()
        return Pass(
            loss=(slack * slack).mean(),
            weights=[gradient.weight for gradient in gradients],
            affine=torch.cat([value for gradient in gradients for value in gradient.affine]),
            statistics=torch.cat([value for taped in tape for value in (taped.moments.mean, taped.moments.spread)]),
        )

    def evaluate(self, weights: list[Tensor], affine: Tensor, running: Tensor, images: Tensor) -> Tensor:
        """Scores of images float32 (N, channels, rows, columns) by the running statistics, float32 (N, classes).

        Args:
            weights: of each layer, float32 in its shape.
            affine, running: float32, flat.
        """
        parts = running.split(list(self.running.values()))
        x = images.to(memory_format=self._format)
        affines, means, spreads = self._affines(affine), parts[::2], parts[1::2]
        for stage, weight, values, mean, spread in zip(self._stages, weights, affines, means, spreads, strict=True):
            x = stage.evaluate(x, weight, values, mean, spread)
        return x

    def _affines(self, flat: Tensor) -> list[Affine]:
        parts = flat.split(list(self.affine.values()))
        return [Affine(*parts[3 * i : 3 * i + 3]) for i in range(len(self._stages))]
