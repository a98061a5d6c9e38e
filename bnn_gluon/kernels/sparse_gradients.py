"""Gradients of a convolution below a max pooling, on the CPU, without multiplying by zeros.

Max pooling gives its gradient to the largest sum of each window alone, so of windows of 2 x 2 three fourths of what the
convolution below is given are zeros. What is not zero is listed, and for each such value a row of numbers is scaled and
added to another: of the input to the gradient of the weights, of the weights to the gradient of the input. A row goes
over a kernel's columns and 32 channels, which lie side by side here, and the sum of rows stays in registers until all
have been added to it.

MXNet's channels lie apart, so its arrays are copied to this layout and back: 3 to 16 % of the time.

Memory, float32, C-contiguous; a block is 32 channels, row = k * 32::

    x, of_x  (N, channels, rows, columns)  <-> blocked (N, blocks, padded rows, padded columns, 32)
                                               k neighboring pixels are one row of k * 32 floats that lie side by side
    of_weights (filters, channels, k, k)   <-  sums (filters, blocks, k, row)
    weights    (filters, channels, k, k)    -> rows_of_weights (blocks, k, filters, row)
    gradient (N, filters, height, width)    -> lists of what is not zero: `factors`, and `first`, where its row begins

A thread has some filters of the gradient of the weights, or images of the gradient of the input.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from benchmarks.recipe.architecture import Conv, LayerShape
from bnn_gluon.kernels import parallel, vectors
from bnn_gluon.kernels.squares import give_rows, take_rows
from bnn_gluon.memory import buffer, view

_LANES = vectors.REGISTER // 4  # floats in a vector register
_CHANNELS = 32  # side by side in a row
_KERNELS = (3, 5)
# Of a row of these kernels, added at a time: all of a row of 3, half of one of 5.
_REGISTERS_OF_3, _REGISTERS_OF_5 = 3 * _CHANNELS // _LANES, 5 * _CHANNELS // _LANES // 2
# What one thread works on at a time stays in its caches.
_PIXELS_OF_WEIGHTS, _FILTERS_OF_WEIGHTS = 256, 32
_PIXELS_OF_INPUT, _FILTERS_OF_INPUT = 128, 64


def applies_to(shape: LayerShape) -> bool:
    """Whether the gradients of a linear layer can be made here."""
    layer = shape.layer
    return isinstance(layer, Conv) and layer.kernel in _KERNELS and shape.input_shape[0] % _CHANNELS == 0


class SparseGradients:
    """The gradients of a convolution, with the memory that they are made in."""

    def __init__(self, padding: int) -> None:
        """`padding`: with zeros, on each side."""
        self._padding = padding
        self._blocked: Any = None

    def set(
        self,
        x: np.ndarray,
        weights: np.ndarray,
        gradient: np.ndarray,
        of_weights: np.ndarray | None,
        of_x: np.ndarray | None,
    ) -> None:
        """Set `of_weights` and `of_x`, unless they are None. All are float32.

        Args:
            x: the input, (N, channels, rows, columns).
            weights: (filters, channels, kernel, kernel).
            gradient: of the output, (N, filters, height, width).
            of_weights: shaped as the weights.
            of_x: shaped as the input.
        """
        n, channels, rows, columns = x.shape
        filters, _, kernel, _ = weights.shape
        blocks, row = channels // _CHANNELS, kernel * _CHANNELS
        padded = rows + 2 * self._padding, columns + 2 * self._padding
        blocked = self._array("_blocked", (n, blocks, *padded, _CHANNELS))
        if of_weights is not None:
            _block(x, self._padding, blocked)
            sums = self._array("_sums", (filters, blocks, kernel, row))
            at_once = max(_LANES, min(_FILTERS_OF_WEIGHTS, filters // numba.get_num_threads()))
            _set_gradient_of_weights(gradient, blocked, kernel, at_once, sums)
            by_tap = sums.reshape(filters, blocks, kernel, kernel, _CHANNELS)
            of_weights.reshape(filters, blocks, _CHANNELS, kernel, kernel)[:] = by_tap.transpose(0, 1, 4, 2, 3)
        if of_x is None:
            return
        rows_of_weights = self._array("_rows_of_weights", (blocks, kernel, filters, row))
        by_channel = weights.reshape(filters, blocks, _CHANNELS, kernel, kernel)
        by_tap = rows_of_weights.reshape(blocks, kernel, filters, kernel, _CHANNELS)
        by_tap[:] = by_channel.transpose(1, 3, 0, 4, 2)
        _set_gradient_of_input(gradient, rows_of_weights, kernel, blocked)
        _unblock(blocked, self._padding, of_x)

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Memory of MXNet's, because that begins where a cache line does."""
        return view(buffer(self, name, shape, gradient=False)).reshape(shape)


# -- compiled ----------------------------------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def _add_scaled(typing_context, target, at, rows, start, first, factors, listed, count, registers):
    """target[at : at + n] += the sum over e of factors[e] * rows[k : k + n]; k = start + first[e], n fills `registers`.

    e goes from `listed` to `listed + count`. The sum is kept in registers, which loops over arrays are not compiled to.
    Flat arrays with indices, because slices are counted, by all threads in one place: float32 `target`, `rows` and
    `factors`, int32 `first`; `registers` is a literal.
    """
    signature = types.void(target, types.int64, rows, types.int64, first, factors, types.int64, types.int64, registers)

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), _LANES)
        to, source, starts, scales = (
            vectors.address(context, builder, signature, arguments, *place)
            for place in ((0, 1), (2, 3), (4, 6), (5, 6))
        )
        multiply_add = vectors.function(builder, "fmuladd", vector, 3)
        sums = [cgutils.alloca_once(builder, vector) for _ in range(registers.literal_value)]
        for number, kept in enumerate(sums):
            builder.store(vectors.load(builder, to, vector, number), kept)
        with cgutils.for_range(builder, arguments[7], intp=vectors.INDEX) as loop:
            start = builder.sext(builder.load(builder.gep(starts, [loop.index])), vectors.INDEX)
            row = builder.gep(source, [start])
            factor = vectors.everywhere(builder, builder.load(builder.gep(scales, [loop.index])), vector)
            for number, kept in enumerate(sums):
                value = vectors.load(builder, row, vector, number)
                builder.store(builder.call(multiply_add, [factor, value, builder.load(kept)]), kept)
        for number, kept in enumerate(sums):
            vectors.store(builder, builder.load(kept), to, number)
        return context.get_dummy_value()

    return signature, generate


@numba.njit(error_model="numpy")
def _add_share(target, at, rows, start, first, factors, listed, count, kernel):
    """Do what `_add_scaled` does, for the part of a kernel's row that is added at a time."""
    if kernel == 3:
        _add_scaled(target, at, rows, start, first, factors, listed, count, _REGISTERS_OF_3)
    else:
        _add_scaled(target, at, rows, start, first, factors, listed, count, _REGISTERS_OF_5)


@parallel.loop
def _set_gradient_of_weights(part, gradient, x, kernel, at_once, sums):
    """Set `sums`, (filters, blocks, kernel, row), for x, (N, blocks, rows, columns, channels of a block)."""
    n, filters, height, width = gradient.shape
    _, blocks, rows, columns, channels = x.shape
    row = kernel * channels
    pixels, target = x.reshape(-1), sums.reshape(-1)
    band = max(1, _PIXELS_OF_WEIGHTS // width)  # rows of the output
    room = band * width + 1
    share = (_REGISTERS_OF_3 if kernel == 3 else _REGISTERS_OF_5) * _LANES
    first, factors = np.empty(at_once * room, np.int32), np.empty(at_once * room, np.float32)
    counts = np.empty(at_once, np.int64)
    for task in parallel.share(part, (filters + at_once - 1) // at_once):
        low, high = task * at_once, min(filters, (task + 1) * at_once)
        sums[low:high] = np.float32(0)
        for i in range(n):
            for top in range(0, height, band):
                for f in range(low, high):
                    listed = (f - low) * room
                    for y in range(top, min(height, top + band)):
                        for column in range(width):  # written in any case: a choice would be guessed wrong too often
                            value = gradient[i, f, y, column]
                            first[listed] = (y * columns + column) * channels
                            factors[listed] = value
                            listed += value != 0
                    counts[f - low] = listed - (f - low) * room
                for block in range(blocks):
                    image = (i * blocks + block) * rows * columns * channels
                    for f in range(low, high):
                        listed, count = (f - low) * room, counts[f - low]
                        for line in range(kernel):
                            at = ((f * blocks + block) * kernel + line) * row
                            start = image + line * columns * channels
                            for offset in range(0, row, share):
                                _add_share(
                                    target, at + offset, pixels, start + offset, first, factors, listed, count, kernel
                                )


@numba.njit(error_model="numpy")
def _list_by_pixel(gradient, i, top, bottom, row, first, factors, counts):
    """List what is not zero in rows of image i's gradient: (parts of the filters, pixels, places), counted by part and
    pixel; `first` is where the weights of its filter begin among those of the part."""
    _, filters, _, width = gradient.shape
    counts[:] = 0
    for f in range(filters):
        part, start = f // _FILTERS_OF_INPUT, f % _FILTERS_OF_INPUT * row
        pixel = 0
        for y in range(top, bottom):  # a division for each pixel would take longer
            for column in range(width):
                value, listed = gradient[i, f, y, column], counts[part, pixel]
                first[part, pixel, listed] = start
                factors[part, pixel, listed] = value
                counts[part, pixel] += value != 0
                pixel += 1


@parallel.loop
def _set_gradient_of_input(part, gradient, weights, kernel, of_x):
    """Set `of_x`, (N, blocks, rows, columns, channels of a block), for weights, (blocks, kernel, filters, row)."""
    n, filters, height, width = gradient.shape
    _, blocks, rows, columns, channels = of_x.shape
    row = kernel * channels
    target, rows_of_weights = of_x.reshape(-1), weights.reshape(-1)
    parts = (filters + _FILTERS_OF_INPUT - 1) // _FILTERS_OF_INPUT
    share = (_REGISTERS_OF_3 if kernel == 3 else _REGISTERS_OF_5) * _LANES
    band = max(1, _PIXELS_OF_INPUT // width)
    shape = (parts, band * width, _FILTERS_OF_INPUT + 1)
    first, factors, counts = np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape[:2], np.int64)
    flat_first, flat_factors = first.reshape(-1), factors.reshape(-1)
    for i in parallel.share(part, n):
        of_x[i] = np.float32(0)
        for top in range(0, height, band):
            bottom = min(top + band, height)
            _list_by_pixel(gradient, i, top, bottom, row, first, factors, counts)
            for task in range(blocks * kernel * parts):
                block, line, part = task // parts // kernel, task // parts % kernel, task % parts
                start = ((block * kernel + line) * filters + part * _FILTERS_OF_INPUT) * row
                for offset in range(0, row, share):
                    for pixel in range((bottom - top) * width):
                        y, column = top + pixel // width + line, pixel % width
                        _add_share(
                            target, (((i * blocks + block) * rows + y) * columns + column) * channels + offset,
                            rows_of_weights, start + offset,
                            flat_first, flat_factors, (part * shape[1] + pixel) * shape[2], counts[part, pixel], kernel,
                        )  # fmt: skip


@parallel.loop
def _block(part, x, padding, blocked):
    """Set `blocked`, (N, blocks, rows, columns, channels of a block), to x padded with zeros."""
    n, _, rows, columns = x.shape
    _, blocks, padded_rows, padded_columns, channels = blocked.shape
    source, target = x.reshape(-1), blocked.reshape(-1)
    starts, row, margin = np.empty(channels, np.int64), padded_columns * channels, padding * channels
    for task in parallel.share(part, n * padded_rows):
        i, y = task // padded_rows, task % padded_rows
        for block in range(blocks):
            at = ((i * blocks + block) * padded_rows + y) * row
            if y < padding or y >= padding + rows:
                target[at : at + row] = np.float32(0)
                continue
            target[at : at + margin] = np.float32(0)
            target[at + row - margin : at + row] = np.float32(0)
            _set_starts(starts, i * blocks + block, rows * columns)
            take_rows(source, starts, channels, (y - padding) * columns, columns, target, at + margin, channels)


@parallel.loop
def _unblock(part, blocked, padding, x):
    """Set x to what `blocked` holds, without the padding."""
    n, _, rows, columns = x.shape
    _, blocks, padded_rows, padded_columns, channels = blocked.shape
    source, target = blocked.reshape(-1), x.reshape(-1)
    starts = np.empty(channels, np.int64)
    for task in parallel.share(part, n * rows):
        i, y = task // rows, task % rows
        for block in range(blocks):
            at = (((i * blocks + block) * padded_rows + padding + y) * padded_columns + padding) * channels
            _set_starts(starts, i * blocks + block, rows * columns)
            give_rows(source, at, channels, columns, np.float32(1), target, starts, channels, y * columns)


@numba.njit(error_model="numpy")
def _set_starts(starts, block, plane):
    """Where the channels of a block, of so many pixels each, begin in a plain array."""
    for c in range(starts.size):
        starts[c] = (block * starts.size + c) * plane
