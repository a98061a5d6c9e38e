"""The papers' batch normalizations: what follows from the statistics of a channel, and how the gradient goes back.

Over a batch (and the pixels of a convolution's output) of x, with c = x - mean and the biased variance v = mean(c * c):

    y = gamma * r(v) * c + beta
    dx = gamma * (r * (g - mean(g)) - r' * c * mean(c * g)),   dgamma = r * sum(c * g),   dbeta = sum(g)

where g is the gradient of y and r' = -2 dr/dv. That is the gradient through mean and variance. A moving average is kept
of the mean, and of a `spread` that each has of its own: average <- (1 - alpha) average + alpha * batch value, without
bias correction. In evaluation y = scale * (x - average mean) + beta, where `scale` comes from the average spread.

The passes over x are those of `bnn_gluon.kernels.fused`; here are only arrays of `channels` values, float32.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bnn_gluon.kernels.ap2 import ap2

Array = np.ndarray


class BatchNorm(Protocol):
    """One of BATCH_NORMS."""

    spread: str  # what is averaged beside the mean: its name is "running_<spread>"
    rounded: bool  # whether AP2(c) stands for the second c of every product, and AP2(gamma) for gamma but in dgamma

    def batch(self, variance: Array, epsilon: np.float32, count: int) -> tuple[Array, Array, Array]:
        """The spread that is averaged, r, and r' (float32 or float64), from the variance of `count` values."""

    def scale(self, gamma: Array, spread: Array, epsilon: np.float32) -> Array:
        """What the centered input is multiplied by in evaluation."""


class BinaryConnectBatchNorm:
    """r = 1 / (std + epsilon): epsilon is added to the standard deviation, and std is averaged without it.

    A channel of zero variance has gradient NaN, as in the original. Source: BinaryConnect, batch_norm.py.
    """

    spread, rounded = "std", False

    def batch(self, variance: Array, epsilon: np.float32, count: int) -> tuple[Array, Array, Array]:
        std = np.sqrt(variance)
        factor = 1 / (std + epsilon)
        with np.errstate(divide="ignore", invalid="ignore"):
            return std, factor, factor.astype(np.float64) ** 2 / std

    def scale(self, gamma: Array, spread: Array, epsilon: np.float32) -> Array:
        scale: Array = gamma / (spread + epsilon)
        return scale


class LasagneBatchNorm:
    """r = inv_std = 1 / sqrt(v + epsilon), and inv_std is averaged.

    Source: lasagne/layers/normalization.py, BatchNormLayer, of January 2016, which BinaryNet uses.
    """

    spread, rounded = "inv_std", False

    def batch(self, variance: Array, epsilon: np.float32, count: int) -> tuple[Array, Array, Array]:
        inv_std = 1 / np.sqrt(variance + epsilon)
        return inv_std, inv_std, inv_std.astype(np.float64) ** 3

    def scale(self, gamma: Array, spread: Array, epsilon: np.float32) -> Array:
        scale: Array = gamma * spread
        return scale


class TorchBatchNorm:
    """r = 1 / sqrt(v + epsilon), and the unbiased variance is averaged, n / (n - 1) times the batch's (0 of one image).

    The "plain" batch normalization at the output of BinaryNet's Torch7 networks.
    Source: torch/nn, BatchNormalization.lua and lib/THNN/generic/BatchNormalization.c.
    """

    spread, rounded = "var", False

    def batch(self, variance: Array, epsilon: np.float32, count: int) -> tuple[Array, Array, Array]:
        _, factor, slope = LasagneBatchNorm().batch(variance, epsilon, count)
        return variance * np.float32(count / max(count - 1, 1)), factor, slope

    def scale(self, gamma: Array, spread: Array, epsilon: np.float32) -> Array:
        scale: Array = gamma / np.sqrt(spread + epsilon)
        return scale


class BiasedBatchNorm(TorchBatchNorm):
    """As `TorchBatchNorm`, but the biased variance is averaged. Source: tf.keras, BatchNormalization(fused=False)."""

    def batch(self, variance: Array, epsilon: np.float32, count: int) -> tuple[Array, Array, Array]:
        _, factor, slope = LasagneBatchNorm().batch(variance, epsilon, count)
        return variance, factor, slope


class ShiftBatchNorm:
    """Shift-based batch normalization: all that an input is multiplied by is a power of two.

    Forward: v = mean(c * AP2(c)), inv_std = 1 / sqrt(v + epsilon), s = AP2(inv_std), y = AP2(gamma) * s * c + beta. The
    unrounded inv_std is averaged; in evaluation s = AP2(average).

    Gradient: dx = AP2(gamma) * s * (g - mean(g) - s^2 * AP2(c) * mean(AP2(c) * g)), dgamma = sum(AP2(s * c) * g),
    dbeta = sum(g). It is not that of the forward formula, but the one of a plain batch normalization with every factor
    rounded: r = s, r' = s^3. As s is a power of two, AP2(s * c) = s * AP2(c).

    Source: itayhubara/BinaryNet, BatchNormalizationShiftPow2.lua and SpatialBatchNormalizationShiftPow2.lua;
    arXiv 1602.02830, shift based batch normalization.
    """

    spread, rounded = "inv_std", True

    def batch(self, variance: Array, epsilon: np.float32, count: int) -> tuple[Array, Array, Array]:
        inv_std = 1 / np.sqrt(variance + epsilon)
        shift = ap2(inv_std)
        return inv_std, shift, shift.astype(np.float64) ** 3

    def scale(self, gamma: Array, spread: Array, epsilon: np.float32) -> Array:
        scale: Array = ap2(gamma) * ap2(spread)
        return scale


BATCH_NORMS: dict[str, BatchNorm] = {
    "binaryconnect": BinaryConnectBatchNorm(),
    "lasagne": LasagneBatchNorm(),
    "torch": TorchBatchNorm(),
    "torch_no_affine": TorchBatchNorm(),
    "torch_no_gamma": TorchBatchNorm(),
    "biased_no_gamma": BiasedBatchNorm(),
    "tensor": TorchBatchNorm(),
    "shift": ShiftBatchNorm(),
}
