"""AP2, the "approximate power of 2" that BinaryNet's shift-based rules round factors to.

Memory: element by element, any shape and layout.
"""

from __future__ import annotations

import math

import torch

_FACTOR = 1.5 / math.sqrt(2)
_HALF, _SIGN_AND_EXPONENT = 0x00400000, -0x00800000  # of a float32's bits, as int32


def ap2(x: torch.Tensor) -> torch.Tensor:
    """AP2(x) = sign(x) * 2^round(log2|x|), and 0 for 0: the power of two nearest to x on a logarithmic scale.

    Between 2^k and 2^(k+1) the power changes at 2^(k + 1/2): x is multiplied by 1.5 / sqrt(2), and what reaches 1.5 is
    rounded up. That is done on the bits of the numbers, because compilers may fuse a product with a sum, which the
    usual trick of adding and subtracting a large number does not survive. Equal to `bnn_gluon.kernels.ap2` for absolute
    values of 2^-125 to 2^100. No gradient. Source: arXiv 1602.02830, section 1.4.

    Args:
        x: float32, any shape.
    """
    bits = (x * _FACTOR).view(torch.int32)
    return ((bits + _HALF) & _SIGN_AND_EXPONENT).view(torch.float32)
