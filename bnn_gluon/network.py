"""The network of a recipe as Gluon blocks: linear, (pooling), batch normalisation, activation, layer after layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mxnet import gluon

from benchmarks.architecture import Conv, Dense, LayerShape, MaxPool
from bnn_gluon.layers import ACTIVATIONS, BATCH_NORMS, Convolution
from bnn_gluon.pooling import POOLS

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings


class Network(gluon.HybridBlock):
    """The network; its weights are what the forward pass uses, so in training the binary ones.

    Input: float32 (N, channels, rows, columns) and, in training, the random draws in network order: a dropout mask for
    the input of each linear layer that has dropout, and thresholds for each stochastic activation. In training the
    block returns [scores, mean and spread of every batch normalisation], in evaluation scores (N, classes) alone. The
    last batch normalisation has no activation.
    Source: mnist.py and cifar10.py of BinaryConnect and BinaryNet.
    """

    def __init__(self, shapes: list[LayerShape], model: ModelSettings, training: bool) -> None:
        super().__init__(prefix="")
        self._training = training
        self._activation = model.activation
        self.epsilon = model.batch_norm_epsilon
        self.draws_thresholds = training and draws_thresholds(model)
        self._linear: list[gluon.HybridBlock] = []
        self._pools: list[gluon.HybridBlock | None] = []
        self._norms: list[gluon.HybridBlock] = []
        self._norm_kinds = batch_norm_kinds(shapes, model)
        for shape in shapes:
            if isinstance(shape.layer, MaxPool):
                self._pools[-1] = POOLS[model.max_pool_gradient](shape.layer.size)
                self.register_child(self._pools[-1])
                continue
            self._linear.append(self._make_linear(shape))
            self._pools.append(None)
            self._norms.append(
                BATCH_NORMS[self._norm_kinds[len(self._norms)]](
                    channels=shape.output_shape[0],
                    spatial=isinstance(shape.layer, Conv),
                    epsilon=model.batch_norm_epsilon,
                    training=training,
                    prefix=f"bn{len(self._norms) + 1}_",
                )
            )
            self.register_child(self._linear[-1])
            self.register_child(self._norms[-1])
        self.dropout = dropout_rates(len(self._linear), model)

    def stages(self) -> list[tuple[Any, Any, Any, str, str]]:
        """Linear layer, pooling or None, batch normalisation, its kind and the activation behind it, in order."""
        activations = [self._activation] * (len(self._linear) - 1) + ["none"]
        return list(zip(self._linear, self._pools, self._norms, self._norm_kinds, activations, strict=True))

    def _make_linear(self, shape: LayerShape) -> gluon.HybridBlock:
        same_kind = sum(isinstance(block, gluon.nn.Dense) == isinstance(shape.layer, Dense) for block in self._linear)
        if isinstance(shape.layer, Conv):
            return Convolution(
                shape.layer.filters,
                shape.layer.kernel,
                padding=shape.layer.kernel // 2,
                in_channels=shape.input_shape[0],
                prefix=f"conv{same_kind + 1}_",
            )
        assert isinstance(shape.layer, Dense)
        return gluon.nn.Dense(shape.layer.units, in_units=shape.fan_in, prefix=f"dense{same_kind + 1}_")

    def hybrid_forward(self, F: Any, x: Any, *draws: Any) -> Any:
        remaining = list(draws)
        statistics: list[Any] = []
        for rate, (linear, pool, norm, _, activation) in zip(self.dropout, self.stages(), strict=True):
            if self._training and rate:
                x = x * remaining.pop(0)
            x = linear(x)
            if pool is not None:
                x = pool(x)
            x = norm(x)
            if self._training:
                x, mean, spread = x
                statistics += [mean, spread]
            if activation != "none":
                x = ACTIVATIONS[activation](F, x, *([remaining.pop(0)] if self.draws_thresholds else []))
        return [x, *statistics] if self._training else x


def dropout_rates(linear_layers: int, model: ModelSettings) -> list[float]:
    """Dropout rate in front of each linear layer: that of the input, then that of the hidden layers."""
    return [model.dropout_input, *[model.dropout_hidden] * (linear_layers - 1)]


def batch_norm_kinds(shapes: list[LayerShape], model: ModelSettings) -> list[str]:
    """Which batch normalisation follows each linear layer."""
    hidden = sum(not isinstance(shape.layer, MaxPool) for shape in shapes) - 1
    return [*[model.batch_norm] * hidden, model.output_batch_norm or model.batch_norm]


def draws_thresholds(model: ModelSettings) -> bool:
    """Whether training draws thresholds for the activations."""
    return model.activation == "stochastic_sign"
