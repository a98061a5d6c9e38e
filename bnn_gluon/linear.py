"""The linear layers, which MXNet computes and differentiates."""

from __future__ import annotations

from typing import Any

import numpy as np
from mxnet import autograd, gluon, nd

from benchmarks.architecture import Conv, Dense, LayerShape
from bnn_gluon.memory import buffer, view
from bnn_gluon.padding import fold_edge, pad_edge


class Linear:
    """A convolution or fully connected layer between NDArrays.

    Attributes:
        weight, bias: Gluon parameters; bias is None if the layer adds none.
    """

    def __init__(self, shape: LayerShape, *, add_bias: bool, edge: bool = False) -> None:
        """`edge`: a convolution's input is padded with its outermost pixels, not with zeros."""
        self._edge = 0
        if isinstance(shape.layer, Conv):
            padding, channels = shape.layer.padding, shape.input_shape[0]
            if edge:
                padding, self._edge = 0, padding
            self._block = gluon.nn.Conv2D(
                shape.layer.filters, shape.layer.kernel, padding=padding, in_channels=channels, use_bias=add_bias
            )
        else:
            assert isinstance(shape.layer, Dense)
            self._block = gluon.nn.Dense(shape.layer.units, in_units=shape.fan_in, use_bias=add_bias)
        self._block.hybridize(static_alloc=True, static_shape=True)
        self.weight, self.bias = self._block.weight, self._block.bias

    def forward(self, x: Any) -> Any:
        """The output in training; `x` must have a gradient if `backward` is to give one."""
        self._x = x
        self._padded = self._pad(x) if self._edge else x
        with autograd.record():
            self._z = self._block(self._padded)
        return self._z

    def backward(self, gradient: Any) -> None:
        """Set the gradients of weights and bias, and that of the input if it has one."""
        self._z.backward(gradient)
        if self._edge and self._x.grad is not None:
            padded = self._padded.grad
            padded.wait_to_read()
            fold_edge(_pixels(padded), self._edge, _pixels(self._x.grad))

    def evaluate(self, x: Any) -> Any:
        """The output in evaluation."""
        return self._block(self._pad(x) if self._edge else x)

    def _pad(self, x: Any) -> Any:
        n, channels, rows, columns = x.shape
        padded = buffer(self, "_padding", (n, channels, rows + 2 * self._edge, columns + 2 * self._edge))
        x.wait_to_read()
        pad_edge(_pixels(x), self._edge, _pixels(padded))
        return padded


def _pixels(array: nd.NDArray) -> np.ndarray:
    return view(array).reshape(array.shape)


class Identity:
    """What stands for the linear layer in a stage that has none: gives what it is given."""

    weight, bias = None, None

    def forward(self, x: Any) -> Any:
        """A copy of x."""
        self._x = x
        return x.copy()

    def backward(self, gradient: Any) -> None:
        """Set the gradient of x."""
        self._x.grad[:] = gradient

    def evaluate(self, x: Any) -> Any:
        """A copy of x."""
        return x.copy()
