"""Mirroring and cropping of a batch on its device, to the bits of `benchmarks.engine.augmentation.Crops.apply`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from benchmarks.engine.augmentation import Crops


def places(crops: Crops) -> Tensor:
    """How each image is changed, int64 (N, 3): rows and columns left out, and whether it is mirrored."""
    return torch.from_numpy(np.stack([crops.down, crops.right, crops.mirrored.astype(np.int64)], axis=1))


def changed(images: Tensor, places: Tensor, padding: int, mode: str) -> Tensor:
    """The changed images (N, channels, rows, columns): every pixel is taken from where it was.

    Pixel (row, column) of the result was at (row + down - padding, column + right - padding) of the mirrored image;
    what lies outside of it is the nearest pixel inside, or 0.

    Args:
        images: of any dtype.
        places: as from `places`.
        padding, mode: of `Crops`.
    """
    count, channels, height, width = images.shape
    down, right, mirrored = places.unbind(dim=1)
    row = torch.arange(height, device=images.device) + down[:, None] - padding
    column = torch.arange(width, device=images.device) + right[:, None] - padding
    outside = _outside(row, height)[:, :, None] | _outside(column, width)[:, None, :]
    column = torch.where(mirrored[:, None] == 1, width - 1 - column, column)
    pixel = row.clamp(0, height - 1)[:, :, None] * width + column.clamp(0, width - 1)[:, None, :]
    flat = pixel.reshape(count, 1, -1).expand(-1, channels, -1)
    found = images.reshape(count, channels, -1).gather(2, flat).reshape(images.shape)
    return found if mode == "edge" else found.masked_fill(outside[:, None], 0)


def _outside(index: Tensor, size: int) -> Tensor:
    return (index < 0) | (index >= size)
