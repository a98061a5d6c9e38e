"""Padding a convolution's input by copies of its outermost pixels, and the gradient of that.

Memory, float32 (N, channels, rows, columns), C-contiguous; a thread has whole planes, each one image's channel::

    x: | a b |      y, padding 1: | a a b b |
       | c d |                    | a a b b |
                                  | c c d d |
                                  | c c d d |
"""

from __future__ import annotations

import numpy as np

from bnn_gluon.kernels import parallel


@parallel.loop
def pad_edge(part, x, padding, y):
    """y = x with its outermost pixels repeated `padding` times on each side; float32 (N, channels, rows, columns).

    Source: RWTH-IDS/efficient-binary-neural-networks, binary_modules.py, BinaryConv2d_pad: F.pad(mode="replicate").
    """
    n, channels, rows, columns = x.shape
    for image in parallel.share(part, n * channels):
        i, c = image // channels, image % channels
        for r in range(rows + 2 * padding):
            source, target = x[i, c, min(max(r - padding, 0), rows - 1)], y[i, c, r]
            target[:padding] = source[0]
            target[padding : padding + columns] = source
            target[padding + columns :] = source[columns - 1]


@parallel.loop
def fold_edge(part, dy, padding, dx):
    """Set dx to the gradient of x in `pad_edge`: the sum over all copies of a pixel."""
    n, channels, rows, columns = dx.shape
    for image in parallel.share(part, n * channels):
        i, c = image // channels, image % channels
        dx[i, c] = np.float32(0)
        for r in range(rows + 2 * padding):
            source, target = dy[i, c, r], dx[i, c, min(max(r - padding, 0), rows - 1)]
            for p in range(padding):
                target[0] += source[p]
                target[columns - 1] += source[padding + columns + p]
            for p in range(columns):
                target[p] += source[padding + p]
