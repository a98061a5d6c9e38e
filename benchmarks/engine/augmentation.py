"""Random mirroring and cropping of an epoch's images, drawn by the protocol and carried out by the engine.

    crops = draw_crops(len(order), recipe.data.augmentation, seed, epoch, "train")  # one entry an image of the epoch
    crops[start:stop].apply(images[order[start:stop]])                              # an engine may do it on its device

Source: RWTH-IDS/efficient-binary-neural-networks@0c76a5e, util.py, load_raw_data: RandomHorizontalFlip(), then
RandomCrop(32, padding=4, padding_mode="edge"), drawn for every image anew in every epoch, and for the validation images
too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data_prep.streams import stream

PADDING = 4  # pixels on each side
MODES: dict[str, Literal["edge", "zeros"]] = {"flip_edge_crop": "edge", "flip_zero_crop": "zeros"}


@dataclass(frozen=True, eq=False)
class Crops:
    """How each of N images is mirrored left to right, then padded, then cropped to the size that it had.

    Pixel (row, column) of the result is pixel (row + down, column + right) of the mirrored and padded image, so
    down = right = padding leaves an image where it is.

    Attributes:
        down: int64 (N,), rows left out at the top of the padded image, 0 to 2 * padding.
        right: int64 (N,), columns left out at its left, 0 to 2 * padding.
        mirrored: bool (N,).
        padding: pixels added on each side.
        mode: what is added: "edge", the image's outermost pixels repeated, or "zeros".
    """

    down: np.ndarray
    right: np.ndarray
    mirrored: np.ndarray
    padding: int
    mode: Literal["edge", "zeros"]

    def __len__(self) -> int:
        return len(self.down)

    def __getitem__(self, part: slice) -> Crops:
        """The crops of some of the images, for example of one batch."""
        return replace(self, down=self.down[part], right=self.right[part], mirrored=self.mirrored[part])

    def apply(self, images: np.ndarray) -> np.ndarray:
        """The N changed images, a new array; images (N, channels, rows, columns) of any dtype."""
        _, _, height, width = images.shape
        around = (self.padding, self.padding)
        mode = "edge" if self.mode == "edge" else "constant"
        padded = np.pad(images, ((0, 0), (0, 0), around, around), mode=mode)  # type: ignore[call-overload]
        # (N, C, 2 padding + 1, 2 padding + 1, H, W): a view of every crop. The stubs of numpy 1.23 know one axis only.
        crops = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))  # type: ignore[call-overload]
        # A crop of the mirrored image is the mirrored crop from the other side: so only N crops are mirrored.
        right = np.where(self.mirrored, 2 * self.padding - self.right, self.right)
        changed: np.ndarray = crops[np.arange(len(images)), :, self.down, right]
        changed[self.mirrored] = changed[self.mirrored, ..., ::-1]
        return changed


def draw_crops(count: int, augmentation: str, seed: int, epoch: int, split: str) -> Crops | None:
    """The changes of an epoch's `count` images: mirrored with probability 1/2, all (2 padding + 1)^2 places alike.

    Args:
        augmentation: of the recipe; None is returned for "none".
        seed, epoch, split: decide the draw; "train" and "valid" have streams of their own.
    """
    if augmentation == "none":
        return None
    generator = stream(seed, f"crops {split}", epoch)
    down, right = generator.integers(0, 2 * PADDING + 1, (2, count))
    return Crops(down, right, generator.random(count) < 0.5, PADDING, MODES[augmentation])
