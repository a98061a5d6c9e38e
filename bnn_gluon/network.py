"""The network of a recipe: its stages, what they are made of by name, one training step, and evaluation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from mxnet import gluon, init, nd

from benchmarks.engine.layers import Layer
from bnn_gluon.memory import buffer, view
from bnn_gluon.stages import Stage, stages_of

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


# An evaluation takes so many images at a time that no layer's output exceeds this: the C library gives larger blocks
# back to the system each time, and their pages cost more than they hold.
_LAYER_BYTES = 32 * 2**20


class Drawn(NamedTuple):
    """The random draws of a layer for a step, flat float32: see `benchmarks.engine.draws.Draws`."""

    mask: np.ndarray | None
    output_mask: np.ndarray | None
    thresholds: np.ndarray | None


class Network:
    """Stage after stage; in each a linear layer, then pooling, batch normalization and activation as the recipe says.

    Source: mnist.py and cifar10.py of BinaryConnect and BinaryNet.

    Attributes:
        parameters: Gluon's, by the house's names, in network order: "conv1.weight", "conv1.bias", "bn1.gamma", ...
            The weights are what the forward pass uses, so in training the quantized ones.
        running: the moving averages by name, float32 (channels,): "bn1.running_mean", "bn1.running_std", ...
    """

    def __init__(self, layers: list[Layer], model: ModelSettings, gpu: Any | None = None) -> None:
        """`gpu`: see `stages_of`."""
        self.parameters: dict[str, gluon.Parameter] = {}
        self.running: dict[str, np.ndarray] = {}
        self._layers: list[list[Stage]] = []
        for layer in layers:
            named = stages_of(layer, model, gpu)
            self._layers.append([stage for stage, _, _ in named])
            for stage, name, norm in named:
                self.parameters |= stage.parameters(name, norm)
                self.running |= stage.running(norm)
        for parameter in self.parameters.values():
            parameter.initialize(init.Zero())
        self._by_batch = model.evaluation_statistics == "batch"
        # Where scores depend on the other images of a batch, it is evaluated as a whole.
        self._whole = self._by_batch or any(layer.activation == "ternary" for layer in layers)
        self._evaluated_at_once = max(1, _LAYER_BYTES // (4 * max(math.prod(x.shape.output_shape) for x in layers)))

    def step(
        self,
        images: np.ndarray,
        loss_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
        draws: Sequence[Drawn],
    ) -> float:
        """Set all gradients and bring the moving averages up to date; returns the loss.

        Args:
            images: float32 (N, channels, rows, columns).
            loss_and_gradient: of scores, float32 (N, classes).
            draws: of each layer.
        """
        x = buffer(self, "_images", images.shape, gradient=False)
        view(x)[:] = np.reshape(images, -1)
        passed: list[tuple[Stage, Any, np.ndarray | None]] = []  # each stage, with its input and the mask of that
        for stages, drawn in zip(self._layers, draws, strict=True):
            _multiply(x, drawn.mask)
            for number, stage in enumerate(stages, 1):
                passed.append((stage, x, drawn.mask if number == 1 else None))
                thresholds = drawn.thresholds if number == len(stages) else None
                x = stage.forward(x, thresholds, drawn.output_mask if number == 1 else None)
        loss, gradient_of_scores = loss_and_gradient(x.asnumpy())
        gradient = nd.array(gradient_of_scores)
        for stage, given, mask in reversed(passed):
            stage.backward(gradient)
            if given.grad is not None:
                gradient = given.grad
                _multiply(gradient, mask)
        nd.waitall()
        return loss

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Outputs in evaluation mode, float32 (N, classes)."""
        pieces = 1 if self._whole else -(-len(images) // self._evaluated_at_once)
        return np.concatenate([self._evaluate(part) for part in np.array_split(images, pieces)])

    def _evaluate(self, images: np.ndarray) -> np.ndarray:
        x = nd.array(images, dtype="float32")
        for stage in itertools.chain.from_iterable(self._layers):
            x = stage.evaluate(x, by_batch=self._by_batch)
        scores: np.ndarray = x.asnumpy()
        return scores


def _multiply(array: Any, mask: np.ndarray | None) -> None:
    """Multiply an NDArray by a mask in place."""
    array.wait_to_read()
    if mask is not None:
        values = view(array)
        np.multiply(values, mask, out=values)
