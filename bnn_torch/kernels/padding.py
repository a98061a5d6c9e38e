"""Copies of an image's outermost pixels around it, as the input of a convolution, and their gradient.

Written out, because PyTorch's own gradient of this padding sums in no fixed order on a GPU.

Memory: (N, channels, rows, columns) in any layout; the padded one has rows + 2 padding and columns + 2 padding.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pad_edge(x: Tensor, padding: int) -> Tensor:
    """x (N, channels, rows, columns) with its outermost pixels repeated `padding` times on each side.

    Source: RWTH-IDS/efficient-binary-neural-networks, binary_modules.py, BinaryConv2d_pad: F.pad(mode="replicate").
    """
    return torch.nn.functional.pad(x, (padding, padding, padding, padding), mode="replicate")


def fold_edge(g: Tensor, padding: int) -> Tensor:
    """The gradient of x in `pad_edge`, from that of the padded x: the sum over all copies of a pixel."""
    return _fold(_fold(g, padding, 2), padding, 3)


def _fold(g: Tensor, padding: int, axis: int) -> Tensor:
    size = g.shape[axis] - 2 * padding
    if size == 1:
        return g.sum(axis, keepdim=True)
    first, inner, last = g.split((padding + 1, size - 2, padding + 1), axis)
    return torch.cat((first.sum(axis, keepdim=True), inner, last.sum(axis, keepdim=True)), axis)
