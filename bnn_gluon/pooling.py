"""Max pooling, with the two rules for the gradient of windows whose maximum is there more than once."""

from __future__ import annotations

from typing import Any

from mxnet import gluon


class FirstMaxPool(gluon.nn.MaxPool2D):
    """y = max over each window of `size` x `size` values; the gradient goes to the first of tied maxima, row by row.

    Input: float32 (N, channels, rows, columns); stride `size`, a remainder of rows and columns dropped. One winner is
    what cuDNN, PyTorch and MXNet do.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, size)


class AllMaxPool(gluon.HybridBlock):
    """As `FirstMaxPool`, but the gradient goes to every one of tied maxima: the rule of Theano on the CPU.

    In forward direction this is y = max + (s - s), s the sum of the tied maxima, where only s passes the gradient.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._window = {"kernel": (size, size), "stride": (size, size)}

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        largest = F.Pooling(x, pool_type="max", **self._window)
        spread = F.BlockGrad(largest)
        size = self._window["kernel"][0]
        spread = F.repeat(F.repeat(spread, repeats=size, axis=2), repeats=size, axis=3)
        winners = F.BlockGrad(F.slice_like(x, spread, axes=(2, 3)) == spread)
        total = F.Pooling(F.slice_like(x, spread, axes=(2, 3)) * winners, pool_type="sum", **self._window)
        return F.BlockGrad(largest - total) + total


POOLS: dict[str, type[gluon.HybridBlock]] = {"first": FirstMaxPool, "all": AllMaxPool}
