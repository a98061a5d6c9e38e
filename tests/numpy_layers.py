"""Convolution, pooling and dense layers forward and backward in float64: what references of whole networks are made of.

Images are (N, channels, rows, columns); convolutions are of 3 x 3, padded by zeros.
"""

from __future__ import annotations

import numpy as np


def patches(x: np.ndarray) -> np.ndarray:
    """The 3 x 3 neighborhood of each pixel: (N, channels, rows, columns, 3, 3)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))


def correlate(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x with kernels (filters, channels, 3, 3)."""
    return np.einsum("ncyxij,ocij->noyx", patches(x), weight, optimize=True)


def correlate_backward(x: np.ndarray, weight: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of x and of the kernels."""
    of_weight = np.einsum("noyx,ncyxij->ocij", g, patches(x), optimize=True)
    return correlate(g, weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]), of_weight


def windows(x: np.ndarray) -> np.ndarray:
    """Windows of 2 x 2: (N, channels, rows / 2, columns / 2, 4)."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)


def max_pool_backward(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Gradient of x; the first of tied maxima of a window gets it."""
    of_windows = np.eye(4)[windows(x).argmax(axis=-1)] * g[..., None]
    n, c, h, w = g.shape
    return of_windows.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)


def gap_of_maxima(x: np.ndarray) -> float:
    """The least distance of a window's maximum to the next smaller value."""
    ordered = np.sort(windows(x), axis=-1)
    gaps = ordered[..., 3] - ordered[..., 2]
    return float(gaps[gaps > 0].min(initial=np.inf))


def distance_to(thresholds: tuple[float, ...], x: np.ndarray) -> float:
    """How near a value comes to a threshold without being equal to it."""
    distances = np.abs(x[..., None] - np.array(thresholds))
    return float(distances[distances > 0].min(initial=np.inf))
