"""The gradient of a fully connected layer's weights where its input is -H, 0 and +H, from tables: see `tables`.

A binary input that is dropped out is such a one. With zeros, four rows have 81 signed sums, so that one addition stands
for four multiply-adds; of six rows there would be 729, more than the first-level cache holds.

    product[line, sum] = sum over rows of real[row, line] * ternary[row, sum]; lines are units, rows images, sums inputs

Memory as in `tables`, but::

    tables  (groups, 81, 16)    float32: digit i of e, to base 3, tells the sign of row i: 0 minus, 1 zero, 2 plus
    codes   (sums, groups)      uint16: 64 * e

A chunk is 5 groups, 20 rows; or 3 at the end, where no more are needed. What is multiplied by zero is multiplied, so
values that are not finite give such values, as in a matrix product.
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic, register_jitable

from bnn_gluon.kernels import parallel, vectors
from bnn_gluon.kernels.table_products import give_sums, pays, take_lines
from bnn_gluon.kernels.tables import (
    LANES,
    LINE_BYTES,
    MAGNITUDE,
    PARTS,
    add_entries,
    first_of_line,
    load_part,
    store_part,
)

_ROWS = 4  # that a table has the sums of
_GROUPS, _FEW_GROUPS = 5, 3  # of a chunk
_TABLE = 3**_ROWS * LANES  # floats of a table
_COLUMNS = 256  # whose signs are packed at a time


class TernaryProduct:
    """The product of real numbers with a matrix of -scale, 0 and +scale, with the memory of its codes."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint16)

    def pack(self, matrix: np.ndarray) -> bool:
        """Take a matrix (rows, sums), float32; tells whether all its values are -scale, 0 and +scale, of some scale."""
        scale = _scale_of(matrix)
        if scale is None:
            return False
        self._rows, self._sums, self._scale = *matrix.shape, scale
        others = np.empty(-(-self._sums // _COLUMNS), np.int32)
        _pack(matrix.view(np.int32), scale.view(np.int32), self._codes(), others)
        return not others.any()

    def multiply(self, real: np.ndarray, product: np.ndarray) -> None:
        """Set `product`, float32 (lines, sums), for real numbers, float32 (rows, lines)."""
        _multiply(real, self._codes(), self._scale, product)

    def _codes(self) -> np.ndarray:
        size = _groups_of(self._rows) * (self._sums + self._sums % 2)
        if self._memory.size < size:
            self._memory = np.zeros(size, np.uint16)
        return self._memory[:size]


def pays_if_ternary(lines: int, rows: int, sums: int) -> bool:
    """Whether tables are faster than a matrix product, as `table_products.pays`: look-ups are half as many again."""
    return pays(lines, rows, sums) and pays(lines, -(-rows * 3 // 2), sums)


def _scale_of(values: np.ndarray) -> np.float32 | None:
    """H if a sample of float32 values is -H, 0 and +H, else None: so real values cost nothing."""
    flat = values.reshape(-1)
    some = np.abs(flat[:: -(-flat.size // 64)])
    scale: np.float32 = some.max()
    return scale if 0 < scale < np.inf and ((some == scale) | (some == 0)).all() else None


# -- compiled ----------------------------------------------------------------------------------------------------------


@register_jitable(error_model="numpy")
def _groups_of(rows):
    """How many groups the chunks of so many rows have, all together."""
    whole, rest = divmod(-(-rows // _ROWS), _GROUPS)
    return whole * _GROUPS + (0 if rest == 0 else (_FEW_GROUPS if rest <= _FEW_GROUPS else _GROUPS))


@intrinsic
def _build_table(typing_context, tables, to, rows, start, stride):
    """Set tables[to : to + _TABLE] to the sums of four rows; arguments as of `tables.build_table`."""

    def generate(context, builder, signature, arguments):
        table = vectors.address(context, builder, signature, arguments, 0, 1)
        first = vectors.address(context, builder, signature, arguments, 2, 3)
        for part in range(PARTS):
            signed = []
            for i in range(_ROWS):
                line = builder.gep(first, [builder.mul(arguments[4], vectors.INDEX(i))])
                value = load_part(builder, line, part)
                signed.append((builder.fneg(value), builder.fmul(value, value.type(None)), value))
            low, high = ([builder.fadd(a, b) for b in signed[i + 1] for a in signed[i]] for i in (0, 2))
            for entry in range(3**_ROWS):
                line = builder.gep(table, [vectors.INDEX(entry * LANES)])
                store_part(builder, builder.fadd(high[entry // 9], low[entry % 9]), line, part)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(tables, whole, rows, whole, whole), generate


@parallel.loop
def _pack(part, patterns, magnitude, codes, others):
    """Set the codes of a matrix (rows, sums), seen as int32; `others`: which pieces have other values."""
    rows, sums = patterns.shape
    padded, groups = sums + sums % 2, _groups_of(rows)
    some = np.empty(_COLUMNS, np.uint16)
    for piece in parallel.share(part, (sums + _COLUMNS - 1) // _COLUMNS):
        other = np.int32(0)
        column, count = piece * _COLUMNS, min(_COLUMNS, sums - piece * _COLUMNS)
        for first in range(0, groups, _GROUPS):
            together = min(_GROUPS, groups - first)
            for group in range(together):
                some[:] = 0
                unit = LINE_BYTES
                for i in range(_ROWS):
                    row = first * _ROWS + i * together + group
                    if row < rows:
                        values, plus, zero = patterns[row], np.uint16(2 * unit), np.uint16(unit)
                        for c in range(count):
                            value = values[column + c]
                            size = value & MAGNITUDE
                            other |= np.int32(0) if size == 0 else size ^ magnitude
                            some[c] += zero if size == 0 else (plus if value > 0 else np.uint16(0))
                    unit *= 3
                to = first * padded + column * together + group
                for c in range(count):
                    codes[to + c * together] = some[c]
        others[piece] = other


@parallel.loop
def _multiply(part, real, codes, scale, product):
    total_lines, total = product.shape
    rows, even = real.shape[0], total + total % 2
    groups = _groups_of(rows)
    lines = np.zeros(groups * _ROWS * LANES + LANES, np.float32)
    tables = np.empty(_GROUPS * _TABLE + LANES, np.float32)
    sums = np.empty(even * LANES + LANES, np.float32)
    table, first_sum = first_of_line(tables), first_of_line(sums)
    for block in parallel.share(part, (total_lines + LANES - 1) // LANES):
        first_line = take_lines(real, True, block * LANES, rows, lines)
        for first in range(0, groups, _GROUPS):
            together = min(_GROUPS, groups - first)
            for group in range(together):
                start = first_line + (first * _ROWS + group) * LANES
                _build_table(tables, table + group * _TABLE, lines, start, together * LANES)
            code = first * even
            if together == _GROUPS:
                add_entries(sums, first_sum, codes, code, tables, table, even, _GROUPS, _TABLE, first == 0)
            else:
                add_entries(sums, first_sum, codes, code, tables, table, even, _FEW_GROUPS, _TABLE, first == 0)
        give_sums(sums, first_sum, total, scale, product, block * LANES, 0)
