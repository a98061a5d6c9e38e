"""Pooling; of maxima with the two rules for the gradient of windows whose maximum is there more than once.

Where windows do not overlap, a gradient can be spread by copying it over its window, and kept where the rule says: no
sums, and the same bits every time, on a GPU too.

Memory: (N, channels, rows, columns) in any layout; pooled (N, channels, rows // size, columns // size); `places` count
row * columns + column in the plane of x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.recipe.architecture import Pool


def max_pool(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Maxima of windows of `size` x `size` values, stride `size`, a remainder of rows and columns dropped.

    Args:
        x: (N, channels, rows, columns).

    Returns:
        The maxima, and the place of the first of each window, row by row, as rows * columns numbers of its plane.
    """
    largest, places = torch.nn.functional.max_pool2d(x, size, return_indices=True)
    return largest, places


def gradient_to_first(g: Tensor, x: Tensor, largest: Tensor, places: Tensor, size: int) -> Tensor:
    """The gradient goes to the first of tied maxima, row by row: the rule of cuDNN, PyTorch and MXNet."""
    if x.device.type == "cpu":  # on a GPU this adds atomically, in any order
        sides = [size, size]
        return torch.ops.aten.max_pool2d_with_indices_backward(g, x, sides, sides, [0, 0], [1, 1], False, places)
    return spread_to_places(g, x, places, size)


def spread_to_places(g: Tensor, x: Tensor, places: Tensor, size: int) -> Tensor:
    """Compute what `gradient_to_first` does, by copies alone."""
    rows, columns = x.shape[2:]
    plane = torch.arange(rows * columns, device=x.device).reshape(1, 1, rows, columns)
    return _spread(g, x, size) * (_spread(places, x, size) == plane).to(g.dtype)


def gradient_to_all(g: Tensor, x: Tensor, largest: Tensor, places: Tensor, size: int) -> Tensor:
    """The gradient goes to every one of tied maxima: the rule of Theano on the CPU."""
    return _spread(g, x, size) * (_spread(largest, x, size) == x).to(g.dtype)


def window_max_pool(x: Tensor, windows: Pool) -> tuple[Tensor, Tensor]:
    """As `max_pool`, of windows that may overlap or reach over the edge; what is around the image is no maximum."""
    numbers = (windows.size, windows.stride, windows.padding)
    largest, places = torch.nn.functional.max_pool2d(x, *numbers, return_indices=True)
    return largest, places


def gradient_to_places(g: Tensor, x: Tensor, places: Tensor, windows: Pool) -> Tensor:
    """The gradient of `window_max_pool`, which goes to the first of tied maxima, row by row."""
    if x.device.type == "cpu":  # on a GPU this adds atomically, in any order
        size, stride, padding = ([number] * 2 for number in (windows.size, windows.stride, windows.padding))
        return torch.ops.aten.max_pool2d_with_indices_backward(g, x, size, stride, padding, [1, 1], False, places)
    return add_to_places(g, x, places, windows)


def add_to_places(g: Tensor, x: Tensor, places: Tensor, windows: Pool) -> Tensor:
    """Compute what `gradient_to_places` does by sums in a fixed order: of each place in a window, all windows' part."""
    (rows, columns), (down, across) = x.shape[2:], g.shape[2:]
    around, stride = windows.padding, windows.stride
    total = g.new_zeros((*x.shape[:2], rows + 2 * around, columns + 2 * around))
    tops = torch.arange(down, device=x.device).reshape(-1, 1) * stride - around
    lefts = torch.arange(across, device=x.device) * stride - around
    for a in range(windows.size):
        for b in range(windows.size):
            wins = places == (tops + a) * columns + lefts + b
            total[:, :, a : a + down * stride : stride, b : b + across * stride : stride] += g * wins.to(g.dtype)
    return total[:, :, around : around + rows, around : around + columns]


def mean_pool(x: Tensor, windows: Pool) -> Tensor:
    """Means of windows, zeros around the image included."""
    return torch.nn.functional.avg_pool2d(x, windows.size, windows.stride, windows.padding)


def gradient_of_mean_pool(g: Tensor, x: Tensor, windows: Pool) -> Tensor:
    """Each window's gradient, in equal parts; on a GPU too each pixel gathers its own, always in the same order."""
    size, stride, padding = ([number] * 2 for number in (windows.size, windows.stride, windows.padding))
    found: Tensor = torch.ops.aten.avg_pool2d_backward(g, x, size, stride, padding, False, True, None)
    return found


GRADIENTS = {"first": gradient_to_first, "all": gradient_to_all}


def _spread(pooled: Tensor, x: Tensor, size: int) -> Tensor:
    """Each value copied over its window, as large as x; 0 in a remainder of rows and columns."""
    wide = pooled.repeat_interleave(size, dim=2).repeat_interleave(size, dim=3)
    rows, columns = x.shape[2] - wide.shape[2], x.shape[3] - wide.shape[3]
    return torch.nn.functional.pad(wide, (0, columns, 0, rows)) if rows or columns else wide
