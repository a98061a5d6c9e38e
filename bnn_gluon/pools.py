"""Pooling as parts of a stage: see `stages.Part`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mxnet import gluon, nd

from bnn_gluon.kernels import choice
from bnn_gluon.memory import buffer, view

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings
    from benchmarks.recipe.architecture import Pool as Windows
    from bnn_gluon.stages import Draw


def pool_of(pool: Windows, model: ModelSettings) -> Pool | WindowPool:
    """The part that pools so."""
    if pool.tiles:
        return Pool(pool.size, every=model.max_pool_gradient == "all")
    return WindowPool(pool)


class Pool:
    """Max pooling, windows of `size` x `size`; `every` one of tied maxima gets the gradient, or else the first."""

    def __init__(self, size: int, *, every: bool) -> None:
        self.parameters: dict[str, gluon.Parameter] = {}
        self.running: dict[str, np.ndarray] = {}
        self._size, self._every, self._loops = size, every, choice.pooling_loops()

    def forward(self, x: Any, draw: Draw) -> Any:
        self._x, self._y = x, buffer(self, "_pooled", self._shape(x), gradient=False)
        self._loops.max_pool(_values(x), self._size, _values(self._y))
        return self._y

    def backward(self, gradient: Any) -> Any:
        spread = buffer(self, "_spread", self._x.shape, gradient=False)
        x, y, g = _values(self._x), _values(self._y), _values(gradient)
        self._loops.gradient_of_max_pool(x, y, g, self._size, self._every, _values(spread))
        return spread

    def evaluate(self, x: Any) -> Any:
        y = nd.empty(self._shape(x))
        self._loops.max_pool(_values(x), self._size, _values(y))
        return y

    def _shape(self, x: Any) -> tuple[int, ...]:
        n, channels, rows, columns = x.shape
        return n, channels, rows // self._size, columns // self._size


class WindowPool:
    """Pooling of any windows; of maxima the first of tied ones gets the gradient."""

    def __init__(self, windows: Windows) -> None:
        self.parameters: dict[str, gluon.Parameter] = {}
        self.running: dict[str, np.ndarray] = {}
        self._windows, self._numbers = windows, (windows.size, windows.stride, windows.padding)
        self._loops = choice.pooling_loops()

    def forward(self, x: Any, draw: Draw) -> Any:
        self._x, self._y = x, buffer(self, "_pooled", self._shape(x), gradient=False)
        return self._set(x, self._y)

    def backward(self, gradient: Any) -> Any:
        spread = buffer(self, "_spread", self._x.shape, gradient=False)
        x, y, g = _values(self._x), _values(self._y), _values(gradient)
        if self._windows.mean:
            self._loops.gradient_of_mean_pool_windows(g, *self._numbers, _values(spread))
        else:
            self._loops.gradient_of_max_pool_windows(x, y, g, *self._numbers, _values(spread))
        return spread

    def evaluate(self, x: Any) -> Any:
        return self._set(x, nd.empty(self._shape(x)))

    def _set(self, x: Any, y: Any) -> Any:
        pool = self._loops.mean_pool_windows if self._windows.mean else self._loops.max_pool_windows
        pool(_values(x), *self._numbers, _values(y))
        return y

    def _shape(self, x: Any) -> tuple[int, ...]:
        return *x.shape[:2], *map(self._windows.output, x.shape[2:])


def _values(array: Any) -> np.ndarray:
    array.wait_to_read()
    return view(array).reshape(array.shape)
