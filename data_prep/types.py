"""What data_prep gives: arrays ready for training, and the account of what is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one split, in the order of the published files.

    Attributes:
        name: "train", "valid" or "test".
        images: float32 (N, channels, height, width), C-contiguous; may be a read-only memory map. Of sets larger
            than memory LazyImages, which are indexed like such an array along its first axis.
        labels: int64 (N,).
        digest: SHA-256 in hexadecimal over dtype, shape and bytes of `images` and of `labels`; with LazyImages, and
            where memorization.py has changed them, over what decides them.
    """

    name: str
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    digest: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three splits of a data set after one preprocessing."""

    name: str
    preprocessing: str
    train: Split
    valid: Split
    test: Split


@dataclass(frozen=True)
class Prepared:
    """What is stored of one data set, or of one variant of it.

    Attributes:
        path: the file.
        bytes: its length.
        origin: where its content came from: URLs, a package, "a folder of the user".
        digest: SHA-256 of the stored arrays.
        counts: images there are in each split.
        statistics: of the training images, by name.
        variant: which preprocessing was stored; None: the published images themselves.
        settings: that made the variant, by name.
    """

    dataset: str
    path: Path
    bytes: int
    origin: str
    digest: str
    counts: dict[str, int]
    statistics: dict[str, float]
    variant: str | None = None
    settings: dict[str, str | int | float | bool] = field(default_factory=dict)
