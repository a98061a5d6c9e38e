"""The network of a recipe: its stages, what they are made of by name, one training step, and evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from mxnet import init, nd

from benchmarks.engine.draws import Draws
from benchmarks.engine.layers import Layer
from bnn_gluon.memory import buffer, view
from bnn_gluon.stages import Draw, Stage

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


# An evaluation takes so many images at a time that no layer's output exceeds this: the C library gives larger blocks
# back to the system each time, and their pages cost more than they hold.
_LAYER_BYTES = 32 * 2**20


class Network:
    """Stage after stage; in each a linear layer, then pooling, batch normalization and activation as the recipe says.

    Source: mnist.py and cifar10.py of BinaryConnect and BinaryNet.

    Attributes:
        parameters: Gluon's, by the house's names, in network order: "conv1.weight", "conv1.bias", "bn1.gamma", ...
            The weights are what the forward pass uses, so in training the quantized ones, a scale left out.
        running: the moving averages by name, float32 (channels,): "bn1.running_mean", "bn1.running_std", ...; and the
            scales of layers that have some, (1,) or (filters,): "dense1.scale".
        linears: the linear layers, by their weights' names.
    """

    def __init__(self, layers: list[Layer], draws: list[Draws], model: ModelSettings, gpu: Any | None = None) -> None:
        """`draws`: of each layer. `gpu`: see `Stage`."""
        self._stages = [Stage(layer, drawn, model, gpu) for layer, drawn in zip(layers, draws, strict=True)]
        self.parameters = {name: value for stage in self._stages for name, value in stage.parameters.items()}
        self.running = {name: value for stage in self._stages for name, value in stage.running.items()}
        self.linears = {name: linear for stage in self._stages for name, linear in stage.linears.items()}
        for parameter in self.parameters.values():
            parameter.initialize(init.Zero())
        # Where scores depend on the other images of a batch, it is evaluated as a whole.
        self._whole = model.evaluation_statistics == "batch" or any(layer.activation == "ternary" for layer in layers)
        self._evaluated_at_once = max(1, _LAYER_BYTES // (4 * max(math.prod(x.shape.output_shape) for x in layers)))

    def step(
        self,
        images: np.ndarray,
        loss_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
        draw: Draw,
    ) -> float:
        """Set all gradients and bring the moving averages up to date; returns the loss.

        Args:
            images: float32 (N, channels, rows, columns).
            loss_and_gradient: of scores, float32 (N, classes).
            draw: gives what is drawn at random for this step.
        """
        x = buffer(self, "_images", images.shape, gradient=False)
        view(x)[:] = np.reshape(images, -1)
        for stage in self._stages:
            x = stage.forward(x, draw)
        loss, gradient_of_scores = loss_and_gradient(x.asnumpy().reshape(len(images), -1))
        gradient = buffer(self, "_gradient", x.shape, gradient=False)
        view(gradient)[:] = gradient_of_scores.reshape(-1)
        for stage in reversed(self._stages):
            gradient = stage.backward(gradient)
        nd.waitall()
        return loss

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Outputs in evaluation mode, float32 (N, classes)."""
        pieces = 1 if self._whole else -(-len(images) // self._evaluated_at_once)
        return np.concatenate([self._evaluate(part) for part in np.array_split(images, pieces)])

    def _evaluate(self, images: np.ndarray) -> np.ndarray:
        x = nd.array(images, dtype="float32")
        for stage in self._stages:
            x = stage.evaluate(x)
        scores: np.ndarray = x.asnumpy().reshape(len(images), -1)
        return scores
