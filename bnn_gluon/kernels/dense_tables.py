"""The products of a fully connected layer on the CPU that come from bits or tables: which, and when that pays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnn_gluon.kernels import binary_products, sign_bits, table_products
from bnn_gluon.kernels.table_products import TableProduct, pays
from bnn_gluon.kernels.ternary_products import TernaryProduct, pays_if_ternary

# What products take of the weights, as `pack_written`: pack(straight=..., transposed=..., bits=...).
Pack = Callable[..., bool]


def pack_written(
    weights: np.ndarray,
    *,
    straight: TableProduct | None = None,
    transposed: TableProduct | None = None,
    bits: np.ndarray | None = None,
) -> bool:
    """Have products take weights, float32 (units, inputs), and their transpose; set `bits`, as `sign_bits.room` gives
    them, to their signs.

    Returns:
        Whether all of them are -a and +a, for some a above 0, which is 1 if there are `bits`.
    """
    if bits is not None:
        found = sign_bits.bits_of_rows(weights)
        if found is None:
            return False
        bits[:] = found
    return (straight is None and transposed is None) or table_products.pack(
        weights, straight=straight, transposed=transposed
    )


class DenseTables:
    """The products of a fully connected layer that have an operand of two values, -a and +a, or an input of three, with
    0, where bits or tables are faster.

    Methods set their last array if that is so, and tell whether they did. All are float32 and C-contiguous.
    """

    def __init__(self) -> None:
        self._transposed, self._straight, self._ternary = TableProduct(), TableProduct(), TernaryProduct()
        self._expected = self._has_weights = False

    def begin(self, *, gradient_of_input: bool) -> None:
        """There are other weights; whether the gradient of the input is made before there are others again."""
        self._expected, self._has_weights = gradient_of_input, False

    def output(self, x: np.ndarray, pack: Pack, product: np.ndarray) -> bool:
        """product = x @ weights.T; (N, inputs), (units, inputs), (N, units)."""
        (n, inputs), units = x.shape, product.shape[1]
        straight = self._straight if self._expected and pays(n, units, inputs) else None
        bits = sign_bits.bits_of_rows(x)
        if bits is not None and pack(straight=straight, bits=(of_weights := sign_bits.room(units, inputs))):
            binary_products.dense_of_bits(bits, of_weights, inputs, product)
        elif pays(n, inputs, units) and pack(straight=straight, transposed=self._transposed):
            self._transposed.multiply(x, product)
        else:
            return False
        self._has_weights = straight is not None
        return True

    def gradient_of_input(self, pack: Pack, gradient: np.ndarray, of_x: np.ndarray) -> bool:
        """of_x = gradient @ weights; (units, inputs), (N, units), (N, inputs)."""
        (n, units), inputs = gradient.shape, of_x.shape[1]
        if not pays(n, units, inputs) or not (self._has_weights or pack(straight=self._straight)):
            return False
        self._straight.multiply(gradient, of_x)
        return True

    def gradient_of_weights(self, x: np.ndarray, gradient: np.ndarray, of_weights: np.ndarray) -> bool:
        """of_weights = gradient.T @ x; (N, inputs), (N, units), (units, inputs)."""
        n, (units, inputs) = len(x), of_weights.shape
        if pays(units, n, inputs) and self._transposed.pack(x):
            self._transposed.multiply(gradient, of_weights, by_row=True)
            return True
        if pays_if_ternary(units, n, inputs) and self._ternary.pack(x):
            self._ternary.multiply(gradient, of_weights)
            return True
        return False
