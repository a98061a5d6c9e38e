"""Signs of weights and inputs of convolutions as `table_convolutions` looks them up.

Memory: uint16, flat, of as many chunks of groups as `tables` has for so many rows, k the kernel's side::

    of weights (filters, channels, k, k)         (chunks, k, k, filters, groups): rows are channels
    of turned weights                            (chunks, k, k, channels, groups): rows are filters
    of an input (N, channels, rows, columns)     (chunks, rows, columns, channels, groups): rows are images

Each row of taps is reversed, so that neighboring sums have neighboring codes. Row i of a group is row i * groups +
group of its chunk: so the signs of one bit of all groups' codes lie side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from bnn_gluon.kernels import parallel
from bnn_gluon.kernels.tables import FEW_GROUPS, GROUPS, LANES, MAGNITUDE, ROWS, groups_of, pack_bits, scale_of

_PIXELS = 256  # whose signs are packed at a time
_LINE_BYTES = 4 * LANES


class Codes(NamedTuple):
    """Signs as `tables` has them.

    Attributes:
        values: uint16, flat.
        scale: H, float32.
    """

    values: np.ndarray
    scale: np.float32


def codes_of_weights(weights: np.ndarray) -> Codes | None:
    """For `convolution`, of weights (filters, channels, k, k); None if there are other values than -H and +H."""
    filters, channels, kernel, _ = weights.shape
    return _packed(weights, groups_of(channels) * kernel**2 * filters, filters, _pack_weights)


def codes_of_turned_weights(weights: np.ndarray) -> Codes | None:
    """For the `convolution` that is the gradient of the input; None if there are other values than -H and +H."""
    filters, channels, kernel, _ = weights.shape
    groups = groups_of(filters)
    return _packed(weights, groups * kernel**2 * channels, -(-groups // GROUPS), _pack_turned_weights)


def codes_of_input(x: np.ndarray) -> Codes | None:
    """For `gradient_of_weights`, of an input (N, channels, rows, columns); None if there are other values."""
    n, channels, rows, columns = x.shape
    return _packed(x, groups_of(n) * rows * columns * channels, -(-rows * columns // _PIXELS), _pack_input)


def codes_of_bits(bits: np.ndarray, channels: int) -> Codes:
    """As `codes_of_input`, of an input that `binary_products` has as bits, (N, rows, columns, words); channels are a
    multiple of 16."""
    n, rows, columns, _ = bits.shape
    codes = np.empty(groups_of(n) * rows * columns * channels, np.uint16)
    _pack_bits(bits.reshape(n, rows * columns, -1), channels, codes)
    return Codes(codes, np.float32(1))


def _packed(values: np.ndarray, size: int, parts: int, pack: Any) -> Codes | None:
    scale = scale_of(values)
    if scale is None:
        return None
    codes, others = np.empty(size, np.uint16), np.empty(parts, np.int32)
    pack(values.view(np.int32), scale.view(np.int32), codes, others)
    return None if others.any() else Codes(codes, scale)


# -- compiled -------------------------------------------------------------------------------------------------------


@numba.njit(error_model="numpy")
def _set_some(patterns, at, stride, present, first, last, magnitude, some):
    """some[e] = the code of the signs of patterns[at + i * stride + e], i < ROWS, those from `present` on as if plus.

    For e from `first` to `last`; tells whether a magnitude is another.
    """
    other = np.int32(0)
    found = some[first:last]  # slices: no index can be negative, so the loop becomes vector code
    found[:] = 0
    for i in range(present):
        bit, start = np.uint16(_LINE_BYTES << i), at + i * stride
        row = patterns[start + first : start + last]
        for e in range(found.size):
            other |= (row[e] & MAGNITUDE) ^ magnitude
            found[e] |= bit if row[e] >= 0 else np.uint16(0)
    return other != 0


@parallel.loop
def _pack_weights(part, weights, magnitude, codes, others):
    """Codes (chunks, k, k, filters, groups); row i of a group is channel i * groups + group of the chunk."""
    filters, channels, kernel, _ = weights.shape
    taps, patterns = kernel * kernel, weights.reshape(-1)
    groups = groups_of(channels)
    some = np.empty(GROUPS * taps, np.uint16)
    for f in parallel.share(part, filters):
        other = False
        for begin in range(0, groups, GROUPS):
            together = min(GROUPS, groups - begin)
            at, span = (f * channels + begin * ROWS) * taps, together * taps
            rest = (channels - begin * ROWS) * taps
            whole = min(ROWS, rest // span)
            left = min(span, rest - whole * span)  # of the first row that is not there for all groups
            if whole < ROWS and left > 0:
                other |= _set_some(patterns, at, span, whole + 1, 0, left, magnitude, some)
            else:
                left = 0
            other |= _set_some(patterns, at, span, whole, left, span, magnitude, some)
            for line in range(kernel):
                for column in range(kernel):
                    tap = line * kernel + kernel - 1 - column
                    to = begin * taps * filters + (tap * filters + f) * together
                    for group in range(together):
                        codes[to + group] = some[group * taps + line * kernel + column]
        others[f] = other


@parallel.loop
def _pack_turned_weights(part, weights, magnitude, codes, others):
    """Codes (chunks, k, k, channels, groups) of the kernels turned around; rows of groups are filters."""
    filters, channels, kernel, _ = weights.shape
    taps, patterns = kernel * kernel, weights.reshape(-1)
    groups, row = groups_of(filters), channels * taps
    some = np.empty(row, np.uint16)
    for chunk in parallel.share(part, (groups + GROUPS - 1) // GROUPS):
        other = False
        begin = chunk * GROUPS
        together = min(GROUPS, groups - begin)
        for group in range(together):
            f = begin * ROWS + group
            present = max(0, min(ROWS, (filters - f + together - 1) // together))
            other |= _set_some(patterns, f * row, together * row, present, 0, row, magnitude, some)
            for line in range(kernel):
                for column in range(kernel):
                    tap = (kernel - 1 - line) * kernel + column  # turned around, and its row reversed
                    to = (begin * taps + tap * together) * channels + group
                    for c in range(channels):
                        codes[to + c * together] = some[c * taps + line * kernel + column]
        others[chunk] = other


@parallel.loop
def _pack_input(part, x, magnitude, codes, others):
    """Codes (chunks, pixels, channels, groups); rows of groups are images."""
    n, channels, rows, columns = x.shape
    pixels, patterns = rows * columns, x.reshape(-1)
    groups = groups_of(n)
    some = np.empty(_PIXELS, np.uint16)
    for piece in parallel.share(part, (pixels + _PIXELS - 1) // _PIXELS):
        other = False
        pixel, count = piece * _PIXELS, min(_PIXELS, pixels - piece * _PIXELS)
        for begin in range(0, groups, GROUPS):
            together = min(GROUPS, groups - begin)
            for c in range(channels):
                for group in range(together):
                    image = begin * ROWS + group
                    present = max(0, min(ROWS, (n - image + together - 1) // together))
                    at, stride = (image * channels + c) * pixels + pixel, together * channels * pixels
                    other |= _set_some(patterns, at, stride, present, 0, count, magnitude, some)
                    to = (begin * pixels + pixel * together) * channels + c * together + group
                    for p in range(count):
                        codes[to + p * channels * together] = some[p]
        others[piece] = other


@parallel.loop
def _pack_bits(part, bits, channels, codes):
    """Codes (chunks, pixels, channels, groups); rows of groups are images."""
    n, pixels, words = bits.shape
    flat, groups, width = bits.reshape(-1), groups_of(n), 8 * bits.itemsize
    image = pixels * words
    for pixel in parallel.share(part, pixels):
        for begin in range(0, groups, GROUPS):
            together, row = min(GROUPS, groups - begin), begin * ROWS
            for c in range(0, channels, LANES):
                to = (begin * pixels + pixel * together) * channels + c * together
                start, shift = row * image + pixel * words + c // width, c % width
                if together == GROUPS:
                    pack_bits(codes, to, flat, start, image, shift, n - row, GROUPS)
                else:
                    pack_bits(codes, to, flat, start, image, shift, n - row, FEW_GROUPS)
