"""Pooling as parts of a stage: see `stages.Part`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor
from torch.nn import functional

from bnn_torch.kernels import pooling
from bnn_torch.linear import Given

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings
    from benchmarks.recipe.architecture import Pool as Windows


def pool_of(windows: Windows, model: ModelSettings) -> Pool | WindowPool | MeanPool:
    """The part that pools so."""
    if windows.tiles:
        return Pool(windows.size, model.max_pool_gradient)
    return MeanPool(windows) if windows.mean else WindowPool(windows)


class Pooled(NamedTuple):
    """What the gradient of a max pooling needs: its input, its output, and the places of the maxima."""

    unpooled: Tensor
    largest: Tensor
    places: Tensor


class Pool:
    """Max pooling."""

    def __init__(self, size: int, gradient: str) -> None:
        """`gradient`: a key of `pooling.GRADIENTS`."""
        self._size, self._gradient = size, pooling.GRADIENTS[gradient]

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Pooled]:
        pooled = Pooled(x, *pooling.max_pool(x, self._size))
        return pooled.largest, pooled

    def backward(self, g: Tensor, given: Given, taped: Pooled) -> tuple[Tensor, dict[str, Tensor]]:
        return self._gradient(g, *taped, self._size), {}

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        return functional.max_pool2d(x, self._size)


class WindowPool:
    """Max pooling of windows that may overlap or reach over the edge; the first of tied maxima gets the gradient."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Pooled]:
        pooled = Pooled(x, *pooling.window_max_pool(x, self._windows))
        return pooled.largest, pooled

    def backward(self, g: Tensor, given: Given, taped: Pooled) -> tuple[Tensor, dict[str, Tensor]]:
        return pooling.gradient_to_places(g, taped.unpooled, taped.places, self._windows), {}

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        return pooling.window_max_pool(x, self._windows)[0]


class MeanPool:
    """Means of windows."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        return self.evaluate(x, given), x

    def backward(self, g: Tensor, given: Given, taped: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return pooling.gradient_of_mean_pool(g, taped, self._windows), {}

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        return pooling.mean_pool(x, self._windows)
