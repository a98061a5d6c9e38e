"""Random changes of training images that keep their class, drawn anew for every batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def flip_and_crop(
    images: NDArray[np.float32], generator: np.random.Generator, *, padding: int = 4
) -> NDArray[np.float32]:
    """Mirror each image left to right with probability 1/2, and shift it by up to `padding` pixels either way.

    What a shift moves in is the image's edge repeated: a crop at a random place of the image padded by edge values.
    Each image is drawn for itself, all (2 padding + 1)^2 places being equally likely.

    Args:
        images: (N, C, H, W) of any dtype, unchanged.
        generator: advanced by three draws an image; the same state gives the same images.

    Returns:
        a new array like `images`.

    Source: RWTH-IDS/efficient-binary-neural-networks@0c76a5e, util.py, load_raw_data: RandomHorizontalFlip, then
    RandomCrop(32, padding=4, padding_mode="edge"); there it changes the validation images as well.
    """
    count, _, height, width = images.shape
    down, right = generator.integers(0, 2 * padding + 1, (2, count))
    mirrored = generator.random(count) < 0.5
    around = (padding, padding)
    padded = np.pad(images, ((0, 0), (0, 0), around, around), mode="edge")
    # (N, C, 2 padding + 1, 2 padding + 1, H, W): a view of every crop. The stubs of numpy 1.23 know one axis only.
    crops = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))  # type: ignore[call-overload]
    changed: NDArray[np.float32] = crops[np.arange(count), :, down, right]
    changed[mirrored] = changed[mirrored, ..., ::-1]
    return changed
