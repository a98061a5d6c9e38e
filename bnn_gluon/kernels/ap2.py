"""AP2, the "approximate power of 2" that BinaryNet's shift-based rules round factors to.

Kept apart because the batch normalization and compiled updates use the same arithmetic.
Memory: element by element, so any shape and layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_FACTOR = np.float32(1.5 / np.sqrt(2))
_SPLIT = np.float32(2**23 + 1)


def ap2(x: Any) -> Any:
    """AP2(x) = sign(x) * 2^round(log2|x|), and 0 for 0: the power of two nearest to x on a logarithmic scale.

    Between 2^k and 2^(k+1) the power changes at 2^(k + 1/2), for every float32 of absolute value 2^-125 to 2^100. There
    is no logarithm in it: w - (w - x), w = (2^23 + 1) x, keeps the first of a float32's 24 binary digits, rounded at
    1.5 * 2^k (T. J. Dekker, Numerische Mathematik 18, 1971); so x is multiplied by 1.5 / sqrt(2) first. Gradient:
    meant to be blocked. Source: arXiv 1602.02830, section 1.4.

    Args:
        x: float32, a NumPy number or array, an MXNet array or symbol, or what numba compiles; the result is alike.
    """
    scaled = x * _FACTOR
    wide = scaled * _SPLIT
    return wide - (wide - scaled)
