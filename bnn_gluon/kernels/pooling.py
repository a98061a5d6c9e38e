"""Max pooling on the CPU, with the two rules for the gradient of windows whose maximum is there more than once.

Memory, float32 (N, channels, rows, columns), C-contiguous; a thread has whole planes, each one image's channel::

    x, dx: plane of rows x columns       y, dy: plane of (rows // size) x (columns // size)
    | a b | c d | .                      | max(a b e f) | max(c d g h) |
    | e f | g h | .                      windows are size x size, stride size;
    ............. .                      a remainder of rows and columns (the dots) is dropped, its gradient is 0

The papers' windows of 2 x 2 are compiled on their own: with the size and the
rule known, the loops become vector code that goes as fast as memory does.
"""

from __future__ import annotations

import numba
import numpy as np

from bnn_gluon.kernels import parallel

_ONE, _ZERO = np.float32(1), np.float32(0)


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
    for image in parallel.share(part, n * channels):
        i, c = image // channels, image % channels
        dx[i, c, rows * size :] = _ZERO
        dx[i, c, :, columns * size :] = _ZERO
        if size == 2 and every:
            _spread(x[i, c], y[i, c], dy[i, c], 2, True, dx[i, c])
        elif size == 2:
            _spread(x[i, c], y[i, c], dy[i, c], 2, False, dx[i, c])
        else:
            _spread(x[i, c], y[i, c], dy[i, c], size, every, dx[i, c])
