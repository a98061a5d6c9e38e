"""Contrast normalization of single images: by the whole image (GCN), and by the neighborhood of each pixel (LCN)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]

# Images worked on at a time: small enough for the processor's cache. The result does not depend on it.
_BLOCK = 256


def global_contrast_normalize(
    images: Images,
    *,
    scale: float = 1.0,
    use_std: bool = False,
    sqrt_bias: float = 0.0,
    subtract_mean: bool = True,
    min_divisor: float = 1e-8,
) -> Images:
    """GCN: each image x becomes scale * c / sqrt(sqrt_bias + sum(c^2)) with c = x - mean(x).

    Mean and sum go over all values of an image, its channels together. With `use_std` the sum is replaced by the
    variance with divisor D - 1 (`use_std=True, sqrt_bias=10` is Coates, Lee, Ng 2011). An image whose divisor
    sqrt(...) / scale is under `min_divisor` has no contrast to normalize: it is only centered, not divided.

    Args:
        images: float32 (N, D), unchanged.

    Returns:
        float32 (N, D).

    Source: pylearn2@fe9beee, pylearn2/expr/preprocessing.py, global_contrast_normalize.
    """
    normalized: Images = np.empty(images.shape, np.float32)
    for start in range(0, len(images), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = images[rows] - images[rows].mean(axis=1, keepdims=True) if subtract_mean else images[rows]
        spread = block.var(axis=1, ddof=1, keepdims=True) if use_std else (block**2).sum(axis=1, keepdims=True)
        divisor = np.sqrt(sqrt_bias + spread) / scale
        divisor[divisor < min_divisor] = 1
        np.divide(block, divisor, out=normalized[rows])
    return normalized


def local_contrast_normalize(
    images: Images, *, kernel_size: int = 7, sigma: float = 2.0, threshold: float = 1e-4
) -> Images:
    """LCN: each channel x becomes c / max(d, mean(d), threshold) with c = x - g*x and d = sqrt(g*(x^2)).

    g is a Gaussian window of sum 1, the image is 0 outside, and the mean goes over the pixels of the channel. (d is
    not the standard deviation of the neighborhood: the original squares x, not c.)

    Args:
        images: float32 (..., height, width), unchanged; every channel is normalized by itself.
        kernel_size: width of g in pixels, odd.
        sigma: standard deviation of g in pixels.

    Returns:
        float32, of the same shape.

    Source: pylearn2@fe9beee, pylearn2/datasets/preprocessing.py, lecun_lcn; Jarrett et al., ICCV 2009.
    """
    window = _gaussian(kernel_size, sigma)
    divisor = np.sqrt(_smoothed(images * images, window))
    np.maximum(divisor, divisor.mean(axis=(-2, -1), keepdims=True), out=divisor)
    np.maximum(divisor, np.float32(threshold), out=divisor)
    normalized: Images = images - _smoothed(images, window)
    normalized /= divisor
    return normalized


def local_mean_normalize(
    images: Images, *, kernel_size: int = 9, sigma: float = 2.0, threshold: float = 1e-4
) -> Images:
    """Each channel x becomes c / (std(c) + threshold) with c = x - g*x: only the mean is taken of the neighborhood.

    g is as in `local_contrast_normalize`; std goes over the pixels of the channel, with divisor pixels - 1.

    Args:
        images: float32 (..., height, width), unchanged; every channel is normalized by itself.

    Returns:
        float32, of the same shape.

    Source: nicholas-leonard/dp, preprocess/lecunlcn.lua, with divide_by_std=true.
    """
    normalized: Images = images - _smoothed(images, _gaussian(kernel_size, sigma))
    normalized /= normalized.std(axis=(-2, -1), ddof=1, keepdims=True) + np.float32(threshold)
    return normalized


def _gaussian(size: int, sigma: float) -> NDArray[np.float64]:
    """One side of the window, float64 (size,) of sum 1: the window is the outer product of two of them."""
    places = np.arange(size) - size // 2
    side: NDArray[np.float64] = np.exp(-(places**2) / (2 * sigma**2))
    side /= side.sum()
    return side


def _smoothed(images: Images, side: NDArray[np.float64]) -> Images:
    """g*x for every channel, with zeros around it; the sums are made in float64."""
    from scipy.ndimage import correlate1d

    rows = correlate1d(images, side, axis=-2, mode="constant")
    smoothed: Images = correlate1d(rows, side, axis=-1, mode="constant")
    return smoothed
