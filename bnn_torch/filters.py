"""What a filter, the weights of one output, has of its own: XNOR-Net's sizes of binary weights, their part in the
gradient, and the mean over the input channels that is taken off.

Weights are float32 (filters, channels, rows, columns) or (filters, channels); sums are in double precision, so that
they do not depend on their order.
Source: jiecaoyu/XNOR-Net-PyTorch@ebccb50, MNIST/util.py.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_absolute(weights: Tensor) -> Tensor:
    """mean|W| of each filter, float32 (filters,)."""
    return weights.flatten(1).abs().mean(1, dtype=torch.float64).to(torch.float32)


def centered(weights: Tensor, limit: float) -> Tensor:
    """Less the mean over the channels, then clipped to +-limit."""
    mean = weights.mean(1, keepdim=True, dtype=torch.float64).to(torch.float32)
    return (weights - mean).clamp(-limit, limit)


def gradient_of_real(gradient: Tensor, signs: Tensor, scales: Tensor) -> Tensor:
    """n (1 - 1 / c) (a g + s mean(g s)) of each filter of n weights with c channels, float32.

    The second term is there because a is a function of the weights; the factor in front of both is the authors'.

    Args:
        gradient: g, with respect to a s.
        signs: s, -1 and +1.
        scales: a, float32 (filters,).
    """
    g, s = gradient.flatten(1).to(torch.float32), signs.flatten(1).to(torch.float32)
    mean = (g * s).mean(1, keepdim=True, dtype=torch.float64).to(torch.float32)
    found = (scales[:, None] * g + mean * s) * (1 - 1 / gradient.shape[1]) * g.shape[1]
    return found.reshape(gradient.shape)
