"""What the published experiments with SVHN made of its images, besides scaling them: the variants that are stored.

    gcn_lcn_red   BinaryConnect's input as its published script makes it: GCN, then LCN of the red channel alone
    gcn_lcn       what that script was meant to make: GCN, then LCN of all channels
    torch7_lcn    the input of BinaryNet's Torch7 code, with a split of its own

README.md tells why there are two of the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.preprocess.contrast import global_contrast_normalize, local_contrast_normalize, local_mean_normalize

Pixels = NDArray[np.uint8]
Images = NDArray[np.float32]
Normalizer = Callable[[range, Pixels], Images]

TRAIN, VALID, TEST = range(3)
_BLOCK = 256  # images normalized at a time: small enough for the processor's cache


@dataclass(frozen=True, eq=False)
class Published:
    """What a variant is made from.

    Attributes:
        pixels: reads stored images, uint8 (n, 3, 32, 32), given which ones.
        train_file: number of images of train_32x32.mat, which are the first ones.
        sets: TRAIN, VALID or TEST for each stored image, in the split that goes with the variant; uint8 (images,).
    """

    pixels: Callable[[range], Pixels]
    train_file: int
    sets: NDArray[np.uint8]


@dataclass(frozen=True)
class GcnLcn:
    """GCN of the whole image, then LCN of each channel by itself.

    Source: BinaryConnect@2f97a8f, svhn_preprocessing.py; the two preprocessors of pylearn2@fe9beee with their defaults.

    Attributes:
        kernel_size: of the LCN's window in pixels, odd.
        sigma: of its Gaussian in pixels.
        threshold: least divisor of the LCN.
    """

    NAME: ClassVar[str] = "gcn_lcn"
    CHANNELS: ClassVar[int] = 3
    kernel_size: int = 7
    sigma: float = 2.0
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        _check_odd(self.kernel_size)

    def normalizer(self, published: Published) -> Normalizer:
        """What makes the variant of stored images, given which ones they are and uint8 (n, 3, 32, 32)."""
        return lambda rows, pixels: _in_blocks(self.normalize, pixels)

    def normalize(self, pixels: Pixels) -> Images:
        """GCN and LCN; uint8 (n, 3, 32, 32) -> float32 of that shape."""
        images = _gcn(pixels.astype(np.float32))
        images[:, : self.CHANNELS] = local_contrast_normalize(
            images[:, : self.CHANNELS], kernel_size=self.kernel_size, sigma=self.sigma, threshold=self.threshold
        )
        return images

    def measure(self, published: Published, rows: range, images: Images) -> list[float]:
        """See measure_channels; of the images of train_32x32.mat, and nothing of others."""
        return measure_channels(images) if rows.stop <= published.train_file else []

    def statistics(self, measured: list[list[float]]) -> dict[str, float]:
        """Mean and standard deviation of each channel over the images of train_32x32.mat."""
        return channel_statistics(measured)


@dataclass(frozen=True)
class GcnLcnRed(GcnLcn):
    """GCN of the whole image, then LCN of the red channel; green and blue stay as the GCN leaves them.

    So the published script does it: in pylearn2, since c71be4b of January 2014, the `return` of LeCunLCN.transform
    stands inside the loop over the channels.
    """

    NAME: ClassVar[str] = "gcn_lcn_red"
    CHANNELS: ClassVar[int] = 1


@dataclass(frozen=True)
class Torch7Lcn:
    """The input of BinaryNet's Torch7 code: GCN by the deviation, then an LCN that divides by the channel's deviation.

    Each set (training, validation, test, in dp's own split) is first scaled to [0,1] by its least and greatest value.
    After the LCN it is divided by its own greatest value, and then mean and standard deviation of the training set
    normalize all three. These last steps are left to `load`, which finds their numbers among the statistics.
    Which dp was installed for the published run is not recorded; this is its last state, which knows `divide_by_std`.

    Source: BinaryNet (Torch7), Data.lua and Main_BinaryNet_SVHN.lua; nicholas-leonard/dp, data/svhn.lua,
    preprocess/gcn.lua, preprocess/lecunlcn.lua; eladhoffer/DataProvider.torch, Container.lua, normalize("simple").

    Attributes:
        sqrt_bias: added to the variance in the GCN.
        kernel_size: of the LCN's window in pixels, odd.
        sigma: of its Gaussian in pixels.
        threshold: added to the deviation in the LCN.
    """

    NAME: ClassVar[str] = "torch7_lcn"
    sqrt_bias: float = 10.0
    kernel_size: int = 9
    sigma: float = 2.0
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        _check_odd(self.kernel_size)

    def normalizer(self, published: Published) -> Normalizer:
        """See GcnLcn.normalizer. Reads all images once, for the least and the greatest value of each set."""
        low, high = np.full(3, 255, np.float32), np.zeros(3, np.float32)
        for start in range(0, len(published.sets), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(published.sets)))
            pixels, sets = published.pixels(rows), published.sets[rows.start : rows.stop]
            np.minimum.at(low, sets, pixels.min(axis=(1, 2, 3)).astype(np.float32))
            np.maximum.at(high, sets, pixels.max(axis=(1, 2, 3)).astype(np.float32))

        def normalize(rows: range, pixels: Pixels) -> Images:
            sets = published.sets[rows.start : rows.stop]
            return _in_blocks(self.normalize, pixels, low[sets], high[sets])

        return normalize

    def normalize(self, pixels: Pixels, low: Images, high: Images) -> Images:
        """GCN and LCN of images scaled to [0,1]; uint8 (n, 3, 32, 32), float32 (n,), (n,) -> float32 (n, 3, 32, 32)."""
        images = pixels.astype(np.float32)
        images -= low[:, None, None, None]
        images *= (1 / (high - low))[:, None, None, None]
        values = images[0].size
        # c / sqrt(bias + mean(c^2)): the variance of dp has the divisor D, that of pylearn2's use_std has not.
        images = _gcn(images, scale=math.sqrt(values), sqrt_bias=self.sqrt_bias * values)
        return local_mean_normalize(images, kernel_size=self.kernel_size, sigma=self.sigma, threshold=self.threshold)

    def measure(self, published: Published, rows: range, images: Images) -> list[float]:
        """The greatest value of each set, 0 where it has no image here; number, sum, sum of squares of TRAIN's."""
        sets, values = published.sets[rows.start : rows.stop], images.reshape(len(images), -1)
        greatest = [float(values[sets == number].max(initial=0)) for number in (TRAIN, VALID, TEST)]
        return [*greatest, *_sums(values[sets == TRAIN])]

    def statistics(self, measured: list[list[float]]) -> dict[str, float]:
        """The greatest value of each set; mean and standard deviation of the training set after division by its."""
        table = np.array(measured)
        train_max, valid_max, test_max = table[:, :3].max(axis=0).tolist()
        count, total, squares = table[:, 3:].sum(axis=0).tolist()
        mean, std = _mean_and_std(count, total, squares, ddof=1)
        maxima = {"train_max": train_max, "valid_max": valid_max, "test_max": test_max}
        return {**maxima, "mean": mean / train_max, "std": std / train_max}


Variant = GcnLcn | Torch7Lcn
VARIANTS: dict[str, type[Variant]] = {kind.NAME: kind for kind in (GcnLcnRed, GcnLcn, Torch7Lcn)}


def measure_channels(images: NDArray[Any]) -> list[float]:
    """Count of values, their sum and the sum of their squares, for each channel of (n, 3, 32, 32) images."""
    return [value for channel in range(3) for value in _sums(images[:, channel])]


def _sums(values: NDArray[Any]) -> list[float]:
    """Number of values, sum, and sum of squares, in float64; some images at a time, to need little memory."""
    total = squares = 0.0
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float64)
        total += float(block.sum())
        squares += float((block * block).sum())
    return [float(values.size), total, squares]


def channel_statistics(measured: list[list[float]], unit: float = 1.0) -> dict[str, float]:
    """Mean and standard deviation of each channel in units of `unit`, from what measure_channels gave of chunks."""
    sums = np.sum([chunk for chunk in measured if chunk], axis=0).reshape(3, 3)
    found: dict[str, float] = {}
    for color, (count, total, squares) in zip(("red", "green", "blue"), sums.tolist(), strict=True):
        mean, std = _mean_and_std(count, total, squares)
        found |= {f"{color}_mean": mean / unit, f"{color}_std": std / unit}
    return found


def _mean_and_std(count: float, total: float, squares: float, ddof: int = 0) -> tuple[float, float]:
    mean = total / count
    return mean, math.sqrt((squares - count * mean**2) / (count - ddof))


def _gcn(images: Images, scale: float = 1.0, sqrt_bias: float = 0.0) -> Images:
    """GCN of (n, 3, 32, 32) images over all their channels."""
    flat = images.reshape(len(images), -1)
    return global_contrast_normalize(flat, scale=scale, sqrt_bias=sqrt_bias).reshape(images.shape)


def _in_blocks(normalize: Callable[..., Images], *arrays: NDArray[Any]) -> Images:
    """`normalize` done to some images at a time, for which all arrays have a row each."""
    images = np.empty(arrays[0].shape, np.float32)
    for start in range(0, len(images), _BLOCK):
        rows = slice(start, start + _BLOCK)
        images[rows] = normalize(*(array[rows] for array in arrays))
    return images


def _check_odd(kernel_size: int) -> None:
    if kernel_size % 2 == 0:
        raise DataError(f"kernel_size: expected an odd number, found {kernel_size}")
