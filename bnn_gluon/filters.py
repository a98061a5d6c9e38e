"""What a filter, the weights of one output, has of its own: XNOR-Net's sizes of binary weights, their part in the
gradient, and the mean over the input channels that is taken off.

Memory, float32, C-contiguous; a thread has whole filters::

    weights (filters, channels, places)    a convolution's windows have k * k places, fully connected layers 1
    filter 0: | channel 0: place 0 1 2 ... | channel 1: ... |    centered: each place less its mean over the channels

Sums are in double precision, one value after the other, so they do not depend on the number of threads.
Source: jiecaoyu/XNOR-Net-PyTorch@ebccb50, MNIST/util.py.
"""

from __future__ import annotations

import numpy as np

from bnn_gluon.kernels import parallel


def mean_absolute(weights: np.ndarray, filters: int) -> np.ndarray:
    """mean|W| of each filter, float32 (filters,); `weights` are float32 (n,)."""
    means = np.empty(filters, np.float32)
    _mean_absolute(weights.reshape(filters, -1), means)
    return means


@parallel.loop
def _mean_absolute(part, weights, means):
    for f in parallel.share(part, means.size):
        total = 0.0
        for i in range(weights.shape[1]):
            total += abs(weights[f, i])
        means[f] = np.float32(total / weights.shape[1])


@parallel.loop
def center(part, weights, limit):
    """Take the mean over the channels off, then clip to +-limit; in place, float32 (filters, channels, places)."""
    channels, places = weights.shape[1:]
    means = np.empty(places)
    for f in parallel.share(part, weights.shape[0]):
        means[:] = 0
        for c in range(channels):
            for p in range(places):
                means[p] += weights[f, c, p]
        for c in range(channels):
            for p in range(places):
                weights[f, c, p] = min(max(weights[f, c, p] - np.float32(means[p] / channels), -limit), limit)


@parallel.loop
def gradient_of_real(part, gradient, signs, scales, channels, found):
    """found = n (1 - 1 / c) (a g + s mean(g s)) of each filter of n weights.

    The second term is there because a is a function of the weights; the factor in front of both is the authors'.

    Args:
        gradient: g, with respect to a s, float32 (filters, n).
        signs: s, -1 and +1, of the same shape.
        scales: a, float32 (filters,).
        channels: c.
        found: of the same shape, receives the gradient with respect to the real-valued weights.
    """
    n = gradient.shape[1]
    rest, count = np.float32(1 - 1 / channels), np.float32(n)
    for f in parallel.share(part, scales.size):
        g, s, a, target, total = gradient[f], signs[f], scales[f], found[f], 0.0
        for i in range(n):
            total += g[i] * s[i]
        mean = np.float32(total / n)
        for i in range(n):
            target[i] = (a * g[i] + mean * s[i]) * rest * count


@parallel.loop
def multiply(part, x, factors):
    """Multiply each channel of x, float32 (N, channels, pixels), by its factor, float32 (channels,)."""
    n, channels, pixels = x.shape
    for i in parallel.share(part, n):
        for c in range(channels):
            for p in range(pixels):
                x[i, c, p] *= factors[c]
