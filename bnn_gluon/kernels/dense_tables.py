"""The products of a fully connected layer on the CPU that come from tables: which, and when that pays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnn_gluon.kernels.table_products import TableProduct, pays
from bnn_gluon.kernels.ternary_products import TernaryProduct, pays_if_ternary

# As `table_products.pack` of the weights: pack(straight=..., transposed=...).
Pack = Callable[..., bool]


class DenseTables:
    """The products of a fully connected layer that have an operand of two values, -a and +a, or an input of three, with
    0, where tables are faster.

    Methods set their last array if that is so, and tell whether they did. All are float32 and C-contiguous.
    """

    def __init__(self) -> None:
        self._transposed, self._straight, self._ternary = TableProduct(), TableProduct(), TernaryProduct()
        self._training = self._has_weights = False

    def begin(self, *, training: bool) -> None:
        """There are other weights. In training they stay as they are until the gradient of the input is made."""
        self._training, self._has_weights = training, False

    def output(self, x: np.ndarray, pack: Pack, product: np.ndarray) -> bool:
        """product = x @ weights.T; (N, inputs), (units, inputs), (N, units)."""
        (n, inputs), units = x.shape, product.shape[1]
        if not pays(n, inputs, units):
            return False
        both = self._training and pays(n, units, inputs)
        if not pack(transposed=self._transposed, straight=self._straight if both else None):
            return False
        self._has_weights = both
        self._transposed.multiply(x, product)
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
