"""Binary weights that products take straight from the real-valued ones: not written unless something else needs them.

A pass over memory would write them, and others read them to pack their signs, for bits and for tables. Here the weights
of 36 rows are binarized, in the second-level cache, packed and forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from bnn_gluon.kernels import parallel
from bnn_gluon.kernels.sign_bits import pack_row
from bnn_gluon.kernels.table_products import TableProduct, pack_chunk, rooms
from bnn_gluon.kernels.tables import GROUPS, LANES, ROWS, groups_of
from bnn_gluon.quantize import CHUNK, Draw, compare_with_uniforms, fill_uniform_chunk, probability_of_plus, quantize

# What is compared with the probability of +1, by the words of `ModelSettings.weights` and `zero_weight`.
_PLUS_AT_HALF, _MINUS_AT_HALF, _UNIFORM = range(3)
_SCALED = ("layer_scaled", "loss_aware")  # weights -1 and +1
_PAD = 3 * LANES  # floats between rows, so that those below each other are not in one place of the first-level cache
_ONE, _HALF = np.float32(1), np.float32(0.5)
_NO_BITS = np.empty((0, 0), np.uint64)


class UnwrittenWeights(NamedTuple):
    """The weights that a coming step uses, as the arguments of `quantize`."""

    kind: str
    zero_weight: str
    weights: np.ndarray
    limit: np.float32
    draw: Draw

    def write(self, quantized: np.ndarray) -> None:
        """Set `quantized`, float32 (n,), to them."""
        quantize(self.kind, self.zero_weight, self.weights, self.limit, self.draw, quantized)

    @property
    def binary(self) -> bool:
        """Whether they are -H and +H."""
        return self.kind in ("deterministic", "stochastic", *_SCALED)

    def pack(
        self,
        shape: tuple[int, ...],
        *,
        straight: TableProduct | None = None,
        transposed: TableProduct | None = None,
        bits: np.ndarray | None = None,
    ) -> bool:
        """As `dense_tables.pack_written`, of the weights as a matrix (units, inputs): they are `binary`."""
        scale = np.float32(1) if self.kind in _SCALED else self.limit
        if bits is not None and scale != 1:
            return False
        rule = _UNIFORM if self.kind == "stochastic" else (_PLUS_AT_HALF, _MINUS_AT_HALF)[self.zero_weight != "plus"]
        by_rows, by_columns = rooms(shape, scale, straight, transposed)
        bits = _NO_BITS if bits is None else bits
        _pack(self.weights.reshape(shape), self.limit, rule, *self.draw, by_rows, by_columns, bits)
        return True


# -- compiled ----------------------------------------------------------------------------------------------------------


@numba.njit(error_model="numpy")
def _set_signs(weights, limit, uniforms, rule, signs):
    """Set `signs` to numbers with the signs that `quantize` gives."""
    if rule == _UNIFORM:
        compare_with_uniforms(weights, limit, uniforms, signs)
    elif limit == _ONE:
        _compare_with_half(weights, _ONE, rule, signs)
    else:
        _compare_with_half(weights, limit, rule, signs)


@numba.njit(inline="always")
def _compare_with_half(weights, limit, rule, signs):
    if rule == _PLUS_AT_HALF:
        for i in range(weights.size):
            signs[i] = _ONE if probability_of_plus(weights[i], limit) >= _HALF else -_ONE
    else:
        for i in range(weights.size):
            signs[i] = _ONE if probability_of_plus(weights[i], limit) > _HALF else -_ONE


@parallel.loop
def _pack(part, weights, limit, rule, tensor, step, k0, k1, by_rows, by_columns, bits):
    height, width = weights.shape
    words, flat_bits = bits.shape[1], bits.reshape(-1)
    values, groups, pitch = weights.reshape(-1), groups_of(height), width + _PAD
    uniforms, drawn = np.empty(CHUNK, np.float32), -1
    signs = np.empty(GROUPS * ROWS * pitch, np.float32)
    for chunk in parallel.share(part, (groups + GROUPS - 1) // GROUPS):
        first = chunk * GROUPS
        top, together = first * ROWS, min(GROUPS, groups - first)
        bottom = min(height, top + together * ROWS)
        for row in range(top, bottom):
            start, stop, to = row * width, (row + 1) * width, (row - top) * pitch
            while start < stop:
                end = stop
                if rule == _UNIFORM:
                    end = min(stop, (start // CHUNK + 1) * CHUNK)
                    if drawn != start // CHUNK:
                        drawn = start // CHUNK
                        fill_uniform_chunk(uniforms, drawn, tensor, step, k0, k1)
                own = start % CHUNK if rule == _UNIFORM else 0
                count = end - start
                _set_signs(values[start:end], limit, uniforms[own : own + count], rule, signs[to : to + count])
                to += end - start
                start = end
            if words:
                pack_row(signs, (row - top) * pitch, width, flat_bits, row * words, words)
        pack_chunk(signs, 0, pitch, height, width, first, by_rows, by_columns)
