"""Products of a matrix of -H and +H with a real one on the CPU, from tables of signed sums: see `tables`.

    product[line, sum] = sum over rows of real[row, line] * signs[row, sum]

Of a fully connected layer these are: the output, for binary weights (lines are images, rows inputs, sums units); the
gradient of the input, for binary weights (images, units, inputs); the gradient of the weights, for a binary input
(lines are units, rows images, sums inputs).

A thread has blocks of 16 lines, or pieces of the sums of one: what is added to what, and in which order, is the same.
"""

from __future__ import annotations

import numba
import numpy as np

from bnn_gluon.kernels import parallel
from bnn_gluon.kernels.tables import (
    FEW_GROUPS,
    GROUPS,
    LANES,
    ROWS,
    TABLE,
    TABLES,
    add_entries,
    build_table,
    first_of_line,
    groups_of,
    pack_columns,
    pack_row,
    pack_some,
    transpose,
)

_MAGNITUDE = np.int32(0x7FFFFFFF)  # of a float32: all bits but the sign
# What a cost model needs to know, in units of one look-up, an addition of one line of a table; measured with AVX-512
# (0.3 ns), and with AVX2, where all but packing takes twice as long, the ratios are about the same.
_BUILDING = 60  # a table
_PACKING = 0.8  # a sign
_MULTIPLYING = 0.75  # as many multiply-adds as a line has floats, of a matrix product


class TableProduct:
    """The product of a matrix of -scale and +scale with real ones, with the memory of its codes."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint16)

    def pack_transposed(self, matrix: np.ndarray) -> np.float32 | None:
        """Take the transpose of a matrix (sums, rows), float32.

        Returns:
            The scale; None if there are values of several magnitudes, or it is 0 or not finite: nothing is taken.
        """
        self._sums, self._rows = matrix.shape
        return self._pack(matrix, transposed=True)

    def pack(self, matrix: np.ndarray) -> np.float32 | None:
        """Take a matrix (rows, sums), float32; returns the same."""
        self._rows, self._sums = matrix.shape
        return self._pack(matrix, transposed=False)

    def _pack(self, matrix: np.ndarray, *, transposed: bool) -> np.float32 | None:
        flat = matrix.reshape(-1)
        self._scale = abs(flat[0])
        some = flat[:: -(-flat.size // 64)]
        if not 0 < self._scale < np.inf or (np.abs(some) != self._scale).any():  # so real values cost nothing
            return None
        pack = _pack_rows if transposed else _pack_columns
        others = np.empty(len(matrix), np.int32)
        pack(matrix, matrix.view(np.int32), self._scale.view(np.int32), self._codes(), others)
        return None if others.any() else self._scale

    def _codes(self) -> np.ndarray:
        size = groups_of(self._rows) * _even(self._sums)
        if self._memory.size < size:
            self._memory = np.zeros(size, np.uint16)
        return self._memory[:size]

    def multiply(self, real: np.ndarray, product: np.ndarray, *, by_row: bool = False) -> None:
        """Set `product`, float32 (lines, sums).

        Args:
            real: float32 (lines, rows), or if `by_row` (rows, lines).
            product: receives the result.
        """
        pieces = _pieces(len(product), self._sums)
        _multiply(real, by_row, self._codes(), self._rows, pieces, product)
        if self._scale != 1:
            product *= self._scale


class DenseTables:
    """The products of a fully connected layer that have an operand of two values, -a and +a, where tables are faster.

    Each method sets its last argument if that is so, and tells whether it did. All are float32 and C-contiguous.
    """

    def __init__(self) -> None:
        self._product = TableProduct()

    def output(self, x: np.ndarray, weights: np.ndarray, product: np.ndarray) -> bool:
        """product = x @ weights.T; (N, inputs), (units, inputs), (N, units)."""
        n, (units, inputs) = len(x), weights.shape
        if not pays(n, inputs, units) or self._product.pack_transposed(weights) is None:
            return False
        self._product.multiply(x, product)
        return True

    def gradient_of_input(self, weights: np.ndarray, gradient: np.ndarray, of_x: np.ndarray) -> bool:
        """of_x = gradient @ weights; (units, inputs), (N, units), (N, inputs)."""
        n, (units, inputs) = len(gradient), weights.shape
        if not pays(n, units, inputs) or self._product.pack(weights) is None:
            return False
        self._product.multiply(gradient, of_x)
        return True

    def gradient_of_weights(self, x: np.ndarray, gradient: np.ndarray, of_weights: np.ndarray) -> bool:
        """of_weights = gradient.T @ x; (N, inputs), (N, units), (units, inputs)."""
        n, (units, inputs) = len(x), of_weights.shape
        if not pays(units, n, inputs) or self._product.pack(x) is None:
            return False
        self._product.multiply(gradient, of_weights, by_row=True)
        return True


def pays(lines: int, rows: int, sums: int) -> bool:
    """Whether tables are faster than a matrix product, signs packed for it alone: by shape, not by a measurement, so
    that equal runs have equal bits."""
    blocks, groups = -(-lines // LANES), groups_of(rows)
    by_tables = blocks * groups * (sums + _BUILDING) + rows * sums * _PACKING
    return bool(by_tables < lines * rows * sums / LANES * _MULTIPLYING)


def _even(sums: int) -> int:
    return sums + sums % 2


def _pieces(lines: int, sums: int) -> int:
    """Of the sums of a block of lines, for which tables are built anew: so many that all threads have work."""
    threads, blocks = numba.get_num_threads(), -(-lines // LANES)
    return min(range(1, 5), key=lambda pieces: -(-blocks * pieces // threads) * (sums / pieces + _BUILDING))


# -- compiled ----------------------------------------------------------------------------------------------------------


@numba.njit(error_model="numpy")
def _differ(patterns, one):
    """Not 0 if one of the floats, seen as int32, has another magnitude."""
    other = np.int32(0)
    for i in range(patterns.size):
        other |= (patterns[i] & _MAGNITUDE) ^ one
    return other


@parallel.loop
def _pack_rows(part, matrix, patterns, one, codes, others):
    sums, rows = matrix.shape
    padded = sums + sums % 2
    values = matrix.reshape(-1)
    groups = groups_of(rows)
    for s in parallel.share(part, sums):
        others[s] = _differ(patterns[s], one)
        for first in range(0, groups, GROUPS):
            start, row = s * rows + first * ROWS, first * ROWS
            if groups - first < GROUPS:
                to = first * padded + s * FEW_GROUPS
                if row + ROWS * FEW_GROUPS <= rows:
                    pack_row(codes, to, values, start, FEW_GROUPS)
                else:
                    pack_some(codes, to, values, start, 1, rows - row, FEW_GROUPS)
            else:
                to = first * padded + s * GROUPS
                if row + ROWS * GROUPS <= rows:
                    pack_row(codes, to, values, start, GROUPS)
                else:
                    pack_some(codes, to, values, start, 1, rows - row, GROUPS)


@parallel.loop
def _pack_columns(part, matrix, patterns, one, codes, others):
    rows, sums = matrix.shape
    padded = sums + sums % 2
    values = matrix.reshape(-1)
    groups = groups_of(rows)
    for chunk in parallel.share(part, -(-groups // GROUPS)):
        first = chunk * GROUPS
        row = first * ROWS
        count = min(rows - row, ROWS * GROUPS)
        few = groups - first < GROUPS
        for r in range(row, row + count):
            others[r] = _differ(patterns[r], one)
        together = FEW_GROUPS if few else GROUPS
        for s in range(0, sums // LANES * LANES, LANES):
            to, start = first * padded + s * together, row * sums + s
            if few:
                pack_columns(codes, to, values, start, sums, count, FEW_GROUPS)
            else:
                pack_columns(codes, to, values, start, sums, count, GROUPS)
        for s in range(sums // LANES * LANES, sums):
            pack_some(codes, first * padded + s * together, values, row * sums + s, sums, count, together)


@numba.njit(error_model="numpy")
def _take_lines(real, by_row, line, rows, lines):
    """Set lines, (rows or more) * LANES floats, to those of all rows; what is missing is 0."""
    first = first_of_line(lines)
    flat = real.reshape(-1)
    count = min(LANES, real.shape[1 if by_row else 0] - line)
    if by_row:
        for row in range(rows):
            for lane in range(count):
                lines[first + row * LANES + lane] = real[row, line + lane]
    else:
        whole = rows // LANES * LANES if count == LANES else 0
        for row in range(0, whole, LANES):
            transpose(flat, line * rows + row, rows, lines, first + row * LANES, LANES)
        for lane in range(count):
            for row in range(whole, rows):
                lines[first + row * LANES + lane] = real[line + lane, row]
    return first


@numba.njit(error_model="numpy")
def _give_sums(sums, first, count, product, line, column):
    flat, columns = product.reshape(-1), product.shape[1]
    lines = min(LANES, product.shape[0] - line)
    whole = count // LANES * LANES if lines == LANES else 0
    for s in range(0, whole, LANES):
        transpose(sums, first + s * LANES, LANES, flat, line * columns + column + s, columns)
    for lane in range(lines):
        for s in range(whole, count):
            product[line + lane, column + s] = sums[first + s * LANES + lane]


@parallel.loop
def _multiply(part, real, by_row, codes, rows, pieces, product):
    total_lines, total = product.shape
    padded = total + total % 2
    groups = groups_of(rows)
    blocks = -(-total_lines // LANES)
    at_once = -(-total // (pieces * LANES)) * LANES
    lines = np.zeros(groups * ROWS * LANES + LANES, np.float32)
    tables = np.empty(TABLES, np.float32)
    sums = np.empty(at_once * LANES + LANES, np.float32)
    table, first_sum = first_of_line(tables), first_of_line(sums)
    for task in parallel.share(part, blocks * pieces):
        line, column = task // pieces * LANES, task % pieces * at_once
        count = min(at_once, total - column)
        if count <= 0:
            continue
        even = count + count % 2
        first_line = _take_lines(real, by_row, line, rows, lines)
        for first in range(0, groups, GROUPS):
            together = min(GROUPS, groups - first)
            start = first_line + first * ROWS * LANES
            for group in range(together):
                build_table(tables, table + group * TABLE, lines, start + group * LANES, together * LANES)
            code = first * padded + column * together
            if together == GROUPS:
                add_entries(sums, first_sum, codes, code, tables, table, even, GROUPS, first == 0)
            else:
                add_entries(sums, first_sum, codes, code, tables, table, even, FEW_GROUPS, first == 0)
        _give_sums(sums, first_sum, count, product, line, column)
