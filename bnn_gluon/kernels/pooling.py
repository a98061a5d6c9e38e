"""Pooling on the CPU; of maxima with the two rules for the gradient of windows whose maximum is there more than once.

Memory, float32 (N, channels, rows, columns), C-contiguous; a thread has whole planes, each one image's channel::

    x, dx: plane of rows x columns       y, dy: plane of (rows // size) x (columns // size)
    | a b | c d | .                      | max(a b e f) | max(c d g h) |
    | e f | g h | .                      windows are size x size, stride size;
    ............. .                      a remainder of rows and columns (the dots) is dropped, its gradient is 0

The papers' windows of 2 x 2 are compiled on their own. Of their gradient, two rows of four windows are worked on at a
time, in vectors, which a loop over windows, with the rows of each apart, is not compiled to.
At the end of the file are windows that may overlap, or reach over the edge, and means of them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from bnn_gluon.kernels import parallel, vectors

_ONE, _ZERO = np.float32(1), np.float32(0)
_WINDOWS = 4  # of 2 x 2, worked on at a time
_ROW = ir.VectorType(ir.FloatType(), 2 * _WINDOWS)


@numba.njit(inline="always")
def _pool(x, size, y):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            largest = x[i * size, j * size]
            for a in range(size):
                for b in range(size):
                    largest = max(largest, x[i * size + a, j * size + b])
            y[i, j] = largest


@numba.njit(inline="always")
def _spread(x, y, dy, size, every, dx):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            largest, gradient, left = y[i, j], dy[i, j], _ONE
            for a in range(size):
                for b in range(size):  # in arithmetic: choices would not become vector code
                    wins = _ONE if x[i * size + a, j * size + b] == largest else _ZERO
                    dx[i * size + a, j * size + b] = gradient * (wins * left)
                    if not every:
                        left = min(left, _ONE - wins)


@intrinsic(prefer_literal=True)
def _spread_windows(typing_context, x, at, columns, y, dy, window, every, dx):
    """Set dx for the windows of 2 x 2 whose maxima are y[window] and the next ones; at[0] is their first pixel.

    Flat float32 arrays; `columns` are those of x and dx, `every`, a literal, is the rule.
    """

    def generate(context, builder, signature, arguments):
        top, maxima, gradients, out = (
            vectors.address(context, builder, signature, arguments, *place)
            for place in ((0, 1), (3, 5), (4, 5), (7, 1))
        )
        largest, gradient = (_twice(builder, pointer) for pointer in (maxima, gradients))
        even = ir.Constant(ir.VectorType(ir.IntType(1), _ROW.count), [1, 0] * _WINDOWS)
        before = None  # whether an earlier row of the window has the maximum
        for number in range(2):
            offset = builder.mul(arguments[2], vectors.INDEX(number))
            row = vectors.load(builder, builder.gep(top, [offset]), _ROW, 0)
            has = wins = builder.fcmp_ordered("==", row, largest)
            if not every.literal_value:
                other = builder.shuffle_vector(has, has, _indices([i ^ 1 for i in range(_ROW.count)]))
                wins = builder.and_(wins, builder.or_(even, builder.not_(other)))
                wins = wins if before is None else builder.and_(wins, builder.not_(before))
                before = builder.or_(has, other)
            share = builder.select(wins, ir.Constant(_ROW, [1.0] * _ROW.count), _ROW(None))
            vectors.store(builder, builder.fmul(gradient, share), builder.gep(out, [offset]), 0)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(x, whole, whole, y, dy, whole, every, dx), generate


def _twice(builder: Any, pointer: Any) -> Any:
    """Each of the next values twice, side by side."""
    values = vectors.load(builder, pointer, ir.VectorType(ir.FloatType(), _WINDOWS), 0)
    return builder.shuffle_vector(values, values, _indices([i // 2 for i in range(_ROW.count)]))


def _indices(places: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)


@numba.njit(error_model="numpy")
def _spread_plane(x, y, dy, plane, shape, every, dx):
    """Do what `_spread` does with windows of 2 x 2, for plane number `plane` of flat arrays; at least _WINDOWS columns.

    `shape`: rows and columns of x, then of y.
    """
    rows, columns, height, width = shape
    for i in range(height):
        at, window = (plane * rows + 2 * i) * columns, (plane * height + i) * width
        for block in range(0, width, _WINDOWS):
            j = min(block, width - _WINDOWS)  # the last windows overlap those before
            if every:
                _spread_windows(x, at + 2 * j, columns, y, dy, window + j, 1, dx)
            else:
                _spread_windows(x, at + 2 * j, columns, y, dy, window + j, 0, dx)


@parallel.loop
def max_pool(part, x, size, y):
    """y = max over each window of x."""
    n, channels = y.shape[:2]
    for image in parallel.share(part, n * channels):
        i, c = image // channels, image % channels
        if size == 2:
            _pool(x[i, c], 2, y[i, c])
        else:
            _pool(x[i, c], size, y[i, c])


@parallel.loop
def gradient_of_max_pool(part, x, y, dy, size, every, dx):
    """Set dx to the gradient of x: dy where x is the maximum y of its window, else 0.

    Where the maximum is there more than once, `every` one gets dy, the rule of Theano on the CPU, or else the first
    alone, row by row. One winner is what cuDNN, PyTorch and MXNet have.
    """
    n, channels, rows, columns = y.shape
    flat_x, flat_y, flat_dy, flat_dx = x.reshape(-1), y.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    shape = (x.shape[2], x.shape[3], rows, columns)
    for image in parallel.share(part, n * channels):
        i, c = image // channels, image % channels
        if x.shape[2] > rows * size:
            dx[i, c, rows * size :] = _ZERO
        if x.shape[3] > columns * size:
            dx[i, c, :, columns * size :] = _ZERO
        if size == 2 and columns >= _WINDOWS:
            _spread_plane(flat_x, flat_y, flat_dy, image, shape, every, flat_dx)
        else:
            _spread(x[i, c], y[i, c], dy[i, c], size, every, dx[i, c])


# -- any windows: `stride` apart, `padding` pixels around the image ----------------------------------------------------


@numba.njit(inline="always")
def _clipped(first, size, side):
    """The pixels of a window that are within the image."""
    return max(first, 0), min(first + size, side)


@parallel.loop
def max_pool_windows(part, x, size, stride, padding, y):
    """y = max over each window of x; what is around the image is no maximum."""
    n, channels, rows, columns = y.shape
    for image in parallel.share(part, n * channels):
        plane, target = x[image // channels, image % channels], y[image // channels, image % channels]
        for i in range(rows):
            top, bottom = _clipped(i * stride - padding, size, plane.shape[0])
            for j in range(columns):
                left, right = _clipped(j * stride - padding, size, plane.shape[1])
                largest = plane[top, left]
                for a in range(top, bottom):
                    for b in range(left, right):
                        largest = max(largest, plane[a, b])
                target[i, j] = largest


@parallel.loop
def gradient_of_max_pool_windows(part, x, y, dy, size, stride, padding, dx):
    """Set dx to the gradient of x: each window's dy goes to the first pixel, row by row, that is its maximum y."""
    n, channels, rows, columns = y.shape
    for image in parallel.share(part, n * channels):
        one, channel = image // channels, image % channels
        plane, largest, g, target = x[one, channel], y[one, channel], dy[one, channel], dx[one, channel]
        target[:] = _ZERO
        for i in range(rows):
            top, bottom = _clipped(i * stride - padding, size, plane.shape[0])
            for j in range(columns):
                left, right = _clipped(j * stride - padding, size, plane.shape[1])
                found = False
                for a in range(top, bottom):
                    for b in range(left, right):
                        if not found and plane[a, b] == largest[i, j]:
                            target[a, b] += g[i, j]
                            found = True


@parallel.loop
def mean_pool_windows(part, x, size, stride, padding, y):
    """y = mean over each window of x, zeros around the image included."""
    n, channels, rows, columns = y.shape
    share = np.float32(1 / size**2)
    for image in parallel.share(part, n * channels):
        plane, target = x[image // channels, image % channels], y[image // channels, image % channels]
        for i in range(rows):
            top, bottom = _clipped(i * stride - padding, size, plane.shape[0])
            for j in range(columns):
                left, right = _clipped(j * stride - padding, size, plane.shape[1])
                total = _ZERO
                for a in range(top, bottom):
                    for b in range(left, right):
                        total += plane[a, b]
                target[i, j] = total * share


@parallel.loop
def gradient_of_mean_pool_windows(part, dy, size, stride, padding, dx):
    """Set dx to the gradient of x: dy / size^2 of each window."""
    n, channels, rows, columns = dy.shape
    share = np.float32(1 / size**2)
    for image in parallel.share(part, n * channels):
        g, target = dy[image // channels, image % channels], dx[image // channels, image % channels]
        target[:] = _ZERO
        for i in range(rows):
            top, bottom = _clipped(i * stride - padding, size, target.shape[0])
            for j in range(columns):
                left, right = _clipped(j * stride - padding, size, target.shape[1])
                for a in range(top, bottom):
                    for b in range(left, right):
                        target[a, b] += g[i, j] * share
