"""Products of -1 and +1 on the CPU: as bits, 64 at a time, by exclusive or and the count of what differs.

A sum of n such products is n - 2 d, where the signs of d pairs of factors differ: a whole number, and the sum of float
products comes to the same, because all its partial sums are whole numbers that float32 holds (n <= 2^24). So no result
depends on which of the two is used.
Source: arXiv 1602.02830, section 4.1 (XNOR and popcount in place of multiply-adds).
"""

from __future__ import annotations

import numba
import numpy as np
from numba.extending import intrinsic

_WORD = 64  # bits


@intrinsic
def _popcount(typing_context, word):  # type: ignore[no-untyped-def]
    """Number of bits set in a word, uint64."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return numba.uint64(numba.uint64), generate


def dense(x: np.ndarray, weights: np.ndarray, product: np.ndarray) -> bool:
    """Set `product`, float32 (N, units), to x @ weights.T, or do nothing if there are other values than -1 and +1.

    Args:
        x: float32 (N, inputs).
        weights: float32 (units, inputs).

    Returns:
        Whether the product was set.
    """
    if (bits := _pack(x[:, :, np.newaxis])) is None or (bits_of_weights := _pack(weights[:, :, np.newaxis])) is None:
        return False
    _dense(bits, np.ascontiguousarray(bits_of_weights.T), x.shape[1], product)
    return True


def convolution(x: np.ndarray, weights: np.ndarray, padding: int, product: np.ndarray) -> bool:
    """Set `product` to the convolution of x, or do nothing if there are other values than -1 and +1.

    Args:
        x: float32 (N, channels, rows, columns).
        weights: float32 (filters, channels, kernel, kernel).
        padding: with zeros, on each side.
        product: float32 (N, filters, rows + 2 padding - kernel + 1, columns + 2 padding - kernel + 1).

    Returns:
        Whether the product was set.
    """
    filters, channels, kernel, _ = weights.shape
    taps = weights.reshape(filters, channels, kernel * kernel)
    if (bits := _pack_pixels(x)) is None or (bits_of_weights := _pack(taps)) is None:
        return False
    _convolution(bits, np.ascontiguousarray(bits_of_weights.T), channels, kernel, padding, product)
    return True


def _may_be_signs(values: np.ndarray) -> bool:
    """Whether the first few values are -1 or +1: so real values cost nothing."""
    return bool((np.abs(values.reshape(-1)[:_WORD]) == 1).all())


def _pack(values: np.ndarray) -> np.ndarray | None:
    """Signs (N, channels, taps) as uint64 (N, taps * words of 64 channels); None if there are other values."""
    n, channels, taps = values.shape
    bits = np.empty((n, taps * -(-channels // _WORD)), np.uint64)
    return bits if _may_be_signs(values) and not _pack_rows(values, bits) else None


def _pack_pixels(values: np.ndarray) -> np.ndarray | None:
    """Signs (N, channels, rows, columns) as uint64 (N, rows, columns, words); None if there are other values."""
    n, channels, rows, columns = values.shape
    bits = np.empty((n, rows, columns, -(-channels // _WORD)), np.uint64)
    return bits if _may_be_signs(values) and not _pack_images(values, bits) else None


# -- compiled ----------------------------------------------------------------------------------------------------------


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _pack_rows(values, bits):  # type: ignore[no-untyped-def]
    """Set `bits` to the signs; returns the number of values that are neither -1 nor +1."""
    n, channels, taps = values.shape
    words = bits.shape[1] // taps
    others = 0
    for i in numba.prange(n):
        for tap in range(taps):
            for word in range(words):
                first = word * _WORD
                packed = np.uint64(0)
                for c in range(min(_WORD, channels - first)):
                    value = values[i, first + c, tap]
                    others += np.abs(value) != np.float32(1)
                    packed |= np.uint64(value > np.float32(0)) << np.uint64(c)
                bits[i, tap * words + word] = packed
    return others


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _pack_images(values, bits):  # type: ignore[no-untyped-def]
    """As `_pack_rows`."""
    n, channels, rows, columns = values.shape
    others = 0
    for i in numba.prange(n * rows):
        image, row = i // rows, i % rows
        packed = np.empty(columns, np.uint64)
        for word in range(bits.shape[3]):
            first = word * _WORD
            packed[:] = 0
            for c in range(min(_WORD, channels - first)):
                source = values[image, first + c, row]
                for p in range(columns):
                    others += np.abs(source[p]) != np.float32(1)
                    packed[p] |= np.uint64(source[p] > np.float32(0)) << np.uint64(c)
            for p in range(columns):
                bits[image, row, p, word] = packed[p]
    return others


@numba.njit(error_model="numpy")
def _count_differing(word, weights, differing):  # type: ignore[no-untyped-def]
    """Add to `differing`, uint64 (units,), how many bits of a word differ from those of `weights`, uint64 (units,)."""
    for unit in range(differing.size):
        differing[unit] += _popcount(word ^ weights[unit])


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _dense(bits, weights, inputs, product):  # type: ignore[no-untyped-def]
    n, units = product.shape
    for i in numba.prange(n):
        differing = np.zeros(units, np.uint64)
        for word in range(bits.shape[1]):
            _count_differing(bits[i, word], weights[word], differing)
        for unit in range(units):
            product[i, unit] = inputs - 2 * np.int64(differing[unit])


@numba.njit(parallel=True, error_model="numpy", cache=True)
def _convolution(bits, weights, channels, kernel, padding, product):  # type: ignore[no-untyped-def]
    _, rows, columns, words = bits.shape
    n, filters, height, width = product.shape
    for i in numba.prange(n * height):
        image, y = i // height, i % height
        differing = np.empty(filters, np.uint64)
        row_of_product = np.empty((filters, width), np.float32)
        for x in range(width):
            differing[:] = 0
            taps = 0  # inside of the image
            for kernel_row in range(max(0, padding - y), min(kernel, rows + padding - y)):
                for kernel_column in range(max(0, padding - x), min(kernel, columns + padding - x)):
                    taps += 1
                    pixel = bits[image, y + kernel_row - padding, x + kernel_column - padding]
                    first = (kernel_row * kernel + kernel_column) * words
                    for word in range(words):
                        _count_differing(pixel[word], weights[first + word], differing)
            for f in range(filters):
                row_of_product[f, x] = taps * channels - 2 * np.int64(differing[f])
        product[image, :, y, :] = row_of_product
