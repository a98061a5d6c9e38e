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
    MAGNITUDE,
    ROWS,
    TABLES,
    add_chunk,
    build_tables,
    first_of_line,
    groups_of,
    pack_columns,
    pack_row,
    pack_some,
    scale_of,
    transpose,
)

_NO_CODES = np.empty(0, np.uint16)
_COLUMNS = 4 * GROUPS * ROWS  # of a matrix that are packed at a time
# What a cost model needs to know, in units of one look-up, an addition of one line of a table; measured with AVX-512
# (0.3 ns), and with AVX2, where all but packing takes twice as long, the ratios are about the same.
_BUILDING = 60  # a table
_PACKING = 0.8  # a sign
_MULTIPLYING = 0.75  # as many multiply-adds as a line has floats, of a matrix product


class TableProduct:
    """The product of a matrix of -scale and +scale with real ones, with the memory of its codes."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint16)

    def pack_transposed(self, matrix: np.ndarray) -> bool:
        """Take the transpose of a matrix (sums, rows), float32; see `pack`."""
        return pack(matrix, transposed=self)

    def pack(self, matrix: np.ndarray) -> bool:
        """Take a matrix (rows, sums), float32.

        Returns:
            Whether all its values are -scale or +scale, for some scale above 0; otherwise there is no product.
        """
        return pack(matrix, straight=self)

    def room(self, rows: int, sums: int, scale: np.float32) -> np.ndarray:
        """The memory for the codes of a matrix of this shape."""
        self._rows, self._sums, self._scale = rows, sums, scale
        return self._codes()

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
        _multiply(real, by_row, self._codes(), self._rows, self._scale, pieces, product)


def pack(matrix: np.ndarray, *, straight: TableProduct | None = None, transposed: TableProduct | None = None) -> bool:
    """Have products take a matrix, float32, or its transpose, or both at once, in one pass over its memory: see
    `TableProduct.pack`."""
    scale = scale_of(matrix)
    if scale is None:
        return False
    others = np.empty(len(matrix), np.int32)
    codes = rooms(matrix.shape, scale, straight, transposed)
    _pack(matrix, matrix.view(np.int32), scale.view(np.int32), *codes, others)
    return not others.any()


def rooms(
    shape: tuple[int, ...], scale: np.float32, straight: TableProduct | None, transposed: TableProduct | None
) -> tuple[np.ndarray, np.ndarray]:
    """The memory for the codes of a matrix's transpose, and for its own; empty where no product is given."""
    height, width = shape
    by_rows = _NO_CODES if transposed is None else transposed.room(width, height, scale)
    by_columns = _NO_CODES if straight is None else straight.room(height, width, scale)
    return by_rows, by_columns


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
        other |= (patterns[i] & MAGNITUDE) ^ one
    return other


@numba.njit(error_model="numpy")
def _pack_codes_of_rows(values, at, pitch, count, rows, sums, first, last, s, codes):
    """Set the codes of sums s, s + 1, ..., `count` of them, and groups `first` to `last` - 1.

    Their rows, `rows` in all, lie side by side, those of sum s from values[at] on, of the next one `pitch` behind.
    """
    padded = sums + sums % 2
    for group in range(first, last, GROUPS):
        row, together = group * ROWS, min(GROUPS, last - group)
        to = group * padded + s * together
        for i in range(count):
            start, to_own = at + i * pitch + row, to + i * together
            if row + ROWS * together > rows:
                pack_some(codes, to_own, values, start, 1, rows - row, together)
            elif together == GROUPS:
                pack_row(codes, to_own, values, start, GROUPS)
            else:
                pack_row(codes, to_own, values, start, FEW_GROUPS)


@numba.njit(error_model="numpy")
def _pack_columns(values, at, pitch, count, sums, first, together, low, high, codes):
    """Set the codes of sums `low` to `high` - 1 and so many groups, from group `first` on.

    Their rows, of which `count` are there, begin at values[at] and every `pitch` behind.
    """
    padded, whole = sums + sums % 2, low + (high - low) // LANES * LANES
    for s in range(low, whole, LANES):
        to = first * padded + s * together
        if together == GROUPS:
            pack_columns(codes, to, values, at + s, pitch, count, GROUPS)
        else:
            pack_columns(codes, to, values, at + s, pitch, count, FEW_GROUPS)
    for s in range(whole, high):
        pack_some(codes, first * padded + s * together, values, at + s, pitch, count, together)


@numba.njit(error_model="numpy")
def pack_chunk(values, at, pitch, height, width, first, by_rows, by_columns):
    """Set the codes that a chunk of rows of a matrix (height, width) has part in: those that begin with group `first`.

    These rows begin at values[at] and every `pitch`. `by_rows` are the codes of the transposed matrix, `by_columns` its
    own; either may be empty. Columns are taken so many at a time as the first-level cache holds of all rows.
    """
    top, together = first * ROWS, min(GROUPS, groups_of(height) - first)
    count = min(height - top, together * ROWS)
    for low in range(0, width, _COLUMNS):
        high = min(width, low + _COLUMNS)
        if by_rows.size:
            last = min(groups_of(width), (low + _COLUMNS) // ROWS)
            _pack_codes_of_rows(values, at, pitch, count, width, height, low // ROWS, last, top, by_rows)
        if by_columns.size:
            _pack_columns(values, at, pitch, count, width, first, together, low, high, by_columns)


@parallel.loop
def _pack(part, matrix, patterns, one, by_rows, by_columns, others):
    """Set the codes of the matrix, `by_columns`, and of its transpose, `by_rows`, unless these are empty;
    `others`, int32, tells which rows have values of another magnitude. `patterns`: the matrix, seen as int32."""
    height, width = matrix.shape
    values, groups = matrix.reshape(-1), groups_of(height)
    for chunk in parallel.share(part, -(-groups // GROUPS)):  # which the second-level cache holds
        first = chunk * GROUPS
        top, together = first * ROWS, min(GROUPS, groups - first)
        for row in range(top, min(height, top + together * ROWS)):
            others[row] = _differ(patterns[row], one)
        pack_chunk(values, top * width, width, height, width, first, by_rows, by_columns)


@numba.njit(error_model="numpy")
def take_lines(real, by_row, line, rows, lines):
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
            transpose(flat, line * rows + row, rows, np.float32(1), lines, first + row * LANES, LANES)
        for lane in range(count):
            for row in range(whole, rows):
                lines[first + row * LANES + lane] = real[line + lane, row]
    return first


@numba.njit(error_model="numpy")
def give_sums(sums, first, count, scale, product, line, column):
    """Set the block of `product` that begins at line and column to scale times its sums, lines from sums[first] on."""
    flat, columns = product.reshape(-1), product.shape[1]
    lines = min(LANES, product.shape[0] - line)
    whole = count // LANES * LANES if lines == LANES else 0
    for s in range(0, whole, LANES):
        transpose(sums, first + s * LANES, LANES, scale, flat, line * columns + column + s, columns)
    for lane in range(lines):
        for s in range(whole, count):
            product[line + lane, column + s] = scale * sums[first + s * LANES + lane]


@parallel.loop
def _multiply(part, real, by_row, codes, rows, scale, pieces, product):
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
        first_line = take_lines(real, by_row, line, rows, lines)
        for first in range(0, groups, GROUPS):
            together = min(GROUPS, groups - first)
            start = first_line + first * ROWS * LANES
            build_tables(tables, table, lines, start, together)
            code = first * padded + column * together
            add_chunk(sums, first_sum, codes, code, tables, table, even, together, first == 0)
        give_sums(sums, first_sum, count, scale, product, line, column)
