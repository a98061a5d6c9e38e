"""The network of a recipe as Gluon blocks: linear, (pooling), batch normalisation, activation, layer after layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mxnet import gluon

from benchmarks.architecture import Conv, Dense, LayerShape, MaxPool
from bnn_gluon.layers import BinaryConnectBatchNorm

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Network(gluon.HybridBlock):
    """The network; its weights are what the forward pass uses, so in training the binary ones.

    Input: float32 (N, channels, rows, columns). In training the block returns [scores, mean and std of every batch
    normalisation], in evaluation scores (N, classes) alone. Source: mnist.py and cifar10.py of BinaryConnect; the last
    batch normalisation has no activation. The gradient of ReLU at 0 is 0 (in the original 1/2).
    """

    def __init__(self, shapes: list[LayerShape], model: ModelSettings, training: bool) -> None:
        super().__init__(prefix="")
        self._training = training
        self._linear: list[gluon.HybridBlock] = []
        self._pools: list[gluon.HybridBlock | None] = []
        self._norms: list[gluon.HybridBlock] = []
        for shape in shapes:
            if isinstance(shape.layer, MaxPool):
                self._pools[-1] = gluon.nn.MaxPool2D(shape.layer.size, shape.layer.size)
                self.register_child(self._pools[-1])
                continue
            self._linear.append(self._make_linear(shape))
            self._pools.append(None)
            self._norms.append(
                BinaryConnectBatchNorm(
                    channels=shape.output_shape[0],
                    spatial=isinstance(shape.layer, Conv),
                    epsilon=model.batch_norm_epsilon,
                    training=training,
                    prefix=f"bn{len(self._norms) + 1}_",
                )
            )
            self.register_child(self._linear[-1])
            self.register_child(self._norms[-1])

    def _make_linear(self, shape: LayerShape) -> gluon.HybridBlock:
        same_kind = sum(isinstance(block, gluon.nn.Dense) == isinstance(shape.layer, Dense) for block in self._linear)
        if isinstance(shape.layer, Conv):
            return gluon.nn.Conv2D(
                shape.layer.filters,
                shape.layer.kernel,
                padding=shape.layer.kernel // 2,
                in_channels=shape.input_shape[0],
                prefix=f"conv{same_kind + 1}_",
            )
        assert isinstance(shape.layer, Dense)
        return gluon.nn.Dense(shape.layer.units, in_units=shape.fan_in, prefix=f"dense{same_kind + 1}_")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        statistics: list[Any] = []
        for position, (linear, pool, norm) in enumerate(zip(self._linear, self._pools, self._norms, strict=True)):
            x = linear(x)
            if pool is not None:
                x = pool(x)
            x = norm(x)
            if self._training:
                x, mean, std = x
                statistics += [mean, std]
            if position < len(self._linear) - 1:
                x = F.relu(x)
        return [x, *statistics] if self._training else x


class TrainingLoss(gluon.HybridBlock):
    """A training network with its loss: the squared hinge, mean over batch and classes of max(0, 1 - t * y)^2.

    Input: images as `Network`, targets t in {-1, +1}, float32 (N, classes). Returns [loss, mean and std of every batch
    normalisation]. Source: mnist.py, T.mean(T.sqr(T.maximum(0., 1. - target * train_output))).
    """

    def __init__(self, network: Network) -> None:
        super().__init__(prefix="")
        self.network = network

    def hybrid_forward(self, F: Any, images: Any, targets: Any) -> Any:
        scores, *statistics = self.network(images)
        return [F.mean(F.square(F.relu(1 - targets * scores))), *statistics]
