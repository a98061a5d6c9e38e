"""Max pooling, with the two rules for the gradient of windows whose maximum is there more than once.

Windows do not overlap, so a gradient can be spread by copying it over its window, and kept where the rule says: no
sums, and the same bits every time, on a GPU too.

Memory: (N, channels, rows, columns) in any layout; pooled (N, channels, rows // size, columns // size); `places` count
row * columns + column in the plane of x.
"""

from __future__ import annotations

import torch
from torch import Tensor


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


GRADIENTS = {"first": gradient_to_first, "all": gradient_to_all}


def _spread(pooled: Tensor, x: Tensor, size: int) -> Tensor:
    """Each value copied over its window, as large as x; 0 in a remainder of rows and columns."""
    wide = pooled.repeat_interleave(size, dim=2).repeat_interleave(size, dim=3)
    rows, columns = x.shape[2] - wide.shape[2], x.shape[3] - wide.shape[3]
    return torch.nn.functional.pad(wide, (0, columns, 0, rows)) if rows or columns else wide
