"""Products of -1 and +1 with real numbers on the CPU, from tables of signed sums: what they are made of.

Of each six rows of real numbers the 64 sums with all signs are put into a table; six products and their sum are then
one entry of it, which the six signs choose: one addition stands for six multiply-adds. The tables of six groups of rows
stay in the first-level cache (24 KiB). All is float32, and a sum is the same on every processor, whatever its
registers.

Memory; a line is 16 floats side by side, one cache line, of 16 images or of 16 units::

    rows    (rows, 16)          float32: the real numbers; zeros fill up the last group
    tables  (groups, 64, 16)    float32: entry e of group j is the sum over i of +-rows[start + i * groups + j], where
                                bit i of e tells the sign (1: plus)
    codes   (sums, groups)      uint16: 64 * e, where an entry begins in its table, in bytes
    sums    (sums, 16)          float32

A chunk is what is added at a time: 6 groups, 36 rows; or 3 groups at the end, where no more are needed.
Source: known as the method of four Russians; for inference arXiv 2005.09904 (BiQGEMM).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable

from bnn_gluon.kernels import vectors

LANES = 16  # floats of a line
ROWS = 6  # that a table has the sums of
GROUPS, FEW_GROUPS = 6, 3  # of a chunk
TABLE = 2**ROWS * LANES  # floats of a table
TABLES = GROUPS * TABLE + LANES  # floats to allocate for those of a chunk, from `first_of_line` on
LINE_BYTES = 4 * LANES  # bytes
MAGNITUDE = np.int32(0x7FFFFFFF)  # of a float32: all bits but the sign
_UNROLLED = 2  # sums worked on side by side
_FLOATS = ir.VectorType(ir.FloatType(), vectors.REGISTER // 4)
PARTS = LANES // _FLOATS.count  # registers of a line
_WORD = ir.IntType(32)
_CODE = ir.IntType(16)


@register_jitable(error_model="numpy")
def groups_of(rows: int) -> int:
    """How many groups the chunks of so many rows have, all together: a multiple of FEW_GROUPS."""
    return -(-rows // (ROWS * FEW_GROUPS)) * FEW_GROUPS


def scale_of(values: np.ndarray) -> np.float32 | None:
    """H if a sample of float32 values is -H and +H, else None: so real values cost nothing."""
    flat = values.reshape(-1)
    some = np.abs(flat[:: -(-flat.size // 64)])
    return some[0] if 0 < some[0] < np.inf and (some == some[0]).all() else None


@intrinsic
def first_of_line(typing_context, array):
    """The index of the first element of a flat float32 array where a cache line begins."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        missing = builder.neg(builder.ptrtoint(data, vectors.INDEX))
        return builder.lshr(builder.and_(missing, vectors.INDEX(LINE_BYTES - 1)), vectors.INDEX(2))

    return types.int64(array), generate


def _place(builder: Any, line: Any, part: int) -> Any:
    """The address of a register's part of a line, from a pointer to its first float."""
    return builder.bitcast(builder.gep(line, [vectors.INDEX(part * _FLOATS.count)]), _FLOATS.as_pointer())


def load_part(builder: Any, line: Any, part: int) -> Any:
    """What a register holds of a line, from a pointer to the line's first float."""
    return builder.load(_place(builder, line, part), align=vectors.REGISTER)


def store_part(builder: Any, value: Any, line: Any, part: int) -> None:
    """Store what `load_part` would load."""
    builder.store(value, _place(builder, line, part), align=vectors.REGISTER)


@intrinsic
def build_table(typing_context, tables, to, rows, start, stride):
    """Set tables[to : to + TABLE] to the sums of ROWS rows, of which row i begins at rows[start + i * stride].

    Flat float32 arrays; `to` and all rows begin where a cache line does.
    """

    def generate(context, builder, signature, arguments):
        table = vectors.address(context, builder, signature, arguments, 0, 1)
        first = vectors.address(context, builder, signature, arguments, 2, 3)
        for part in range(PARTS):
            lines = [builder.gep(first, [builder.mul(arguments[4], vectors.INDEX(i))]) for i in range(ROWS)]
            values = [load_part(builder, line, part) for line in lines]
            low, high = (_signed_sums(builder, some) for some in (values[: ROWS // 2], values[ROWS // 2 :]))
            for entry in range(len(low) * len(high)):
                line = builder.gep(table, [vectors.INDEX(entry * LANES)])
                upper, lower = high[entry // len(low)], low[entry % len(low)]
                store_part(builder, builder.fadd(upper, lower), line, part)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(tables, whole, rows, whole, whole), generate


def _signed_sums(builder: Any, values: list[Any]) -> list[Any]:
    """All sums of +-values: bit i of an index tells the sign of value i."""
    sums = [builder.fneg(values[0]), values[0]]
    for value in values[1:]:
        sums = [operation(kept, value) for operation in (builder.fsub, builder.fadd) for kept in sums]
    return sums


@intrinsic(prefer_literal=True)
def add_entries(typing_context, sums, at, codes, start, tables, first, count, groups, size, begins):
    """Add to each of `count` sums, lines from sums[at] on, one entry of each of `groups` tables, from tables[first] on.

    Flat arrays: float32 `sums` and `tables`, where lines begin where cache lines do, and uint16 `codes`, from
    codes[start] on. `count` is even; `groups` and `size`, the floats of a table, are literals; `begins`: sums begin at
    zero, whatever is there.
    """
    whole = types.int64
    signature = types.void(sums, whole, codes, whole, tables, whole, whole, groups, size, types.boolean)

    def generate(context, builder, signature, arguments):
        target, code, table = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (2, 3), (4, 5))
        )
        zeros = cgutils.alloca_once(builder, ir.ArrayType(ir.FloatType(), LANES))
        zeros.align = LINE_BYTES
        builder.store(zeros.type.pointee(None), zeros)
        zeros = builder.bitcast(zeros, target.type)
        source = builder.select(arguments[9], zeros, target)
        step = builder.select(arguments[9], vectors.INDEX(0), vectors.INDEX(LANES))
        together = groups.literal_value
        turns = builder.sdiv(arguments[6], vectors.INDEX(_UNROLLED))
        with cgutils.for_range(builder, turns, intp=vectors.INDEX) as loop:
            for number in range(_UNROLLED):
                index = builder.add(builder.mul(loop.index, vectors.INDEX(_UNROLLED)), vectors.INDEX(number))
                own = builder.gep(code, [builder.mul(index, vectors.INDEX(together))])
                entries = _chosen_entries(builder, own, table, together, size.literal_value)
                line = builder.gep(source, [builder.mul(index, step)])
                to = builder.gep(target, [builder.mul(index, vectors.INDEX(LANES))])
                for part in range(PARTS):
                    total = load_part(builder, entries[0], part)
                    for entry in entries[1:]:
                        total = builder.fadd(total, load_part(builder, entry, part))
                    store_part(builder, builder.fadd(load_part(builder, line, part), total), to, part)
        return context.get_dummy_value()

    return signature, generate


def _chosen_entries(builder: Any, codes: Any, table: Any, groups: int, size: int) -> list[Any]:
    """Pointers to the entries that codes choose from tables of `size` floats. Four codes are loaded at a time: the
    ports for loads are what the loop waits for."""
    offsets: list[Any] = []
    while len(offsets) < groups:
        begin, many = builder.gep(codes, [vectors.INDEX(len(offsets))]), min(4, groups - len(offsets))
        width = ir.IntType(64 if many == 4 else 32 if many >= 2 else 16)
        word = builder.load(builder.bitcast(begin, width.as_pointer()), align=2)
        for number in range(width.width // 16):
            shifted = builder.lshr(word, width(16 * number))
            code = builder.trunc(shifted, _CODE) if width.width > 16 else shifted
            offsets.append(builder.zext(code, vectors.INDEX))
    in_bytes = builder.bitcast(table, ir.IntType(8).as_pointer())
    return [
        builder.bitcast(builder.gep(in_bytes, [builder.add(offset, vectors.INDEX(4 * size * number))]), table.type)
        for number, offset in enumerate(offsets)
    ]


@numba.njit(error_model="numpy")
def build_tables(tables, first, rows, start, groups):
    """Set the tables of a chunk, from tables[first] on, to the sums of its rows, lines from rows[start] on."""
    for group in range(groups):
        build_table(tables, first + group * TABLE, rows, start + group * LANES, groups * LANES)


@numba.njit(error_model="numpy")
def add_chunk(sums, at, codes, start, tables, first, count, groups, begins):
    """What `add_entries` does, for either number of groups that a chunk may have."""
    if groups == GROUPS:
        add_entries(sums, at, codes, start, tables, first, count, GROUPS, TABLE, begins)
    else:
        add_entries(sums, at, codes, start, tables, first, count, FEW_GROUPS, TABLE, begins)


# -- arrangement -------------------------------------------------------------------------------------------------------


@intrinsic
def transpose(typing_context, source, at, stride, scale, target, to, pitch):
    """target[to + r * pitch + c] = scale * source[at + c * stride + r] for r and c from 0 to 15. Flat, float32."""

    def generate(context, builder, signature, arguments):
        first, out = (vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (4, 5)))
        side, scale = _FLOATS.count, vectors.everywhere(builder, arguments[3], _FLOATS)
        for top in range(0, LANES, side):
            for left in range(0, LANES, side):
                lines = [
                    vectors.load(builder, _element(builder, first, top + i, arguments[2], left), _FLOATS, 0)
                    for i in range(side)
                ]
                for number, line in enumerate(transposed(builder, lines)):
                    to = _element(builder, out, left + number, arguments[6], top)
                    vectors.store(builder, builder.fmul(scale, line), to, 0)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(source, whole, whole, types.float32, target, whole, whole), generate


def _element(builder: Any, first: Any, row: int, stride: Any, column: int) -> Any:
    index = builder.add(builder.mul(stride, vectors.INDEX(row)), vectors.INDEX(column))
    return builder.gep(first, [index])


def transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """As many vectors as each has elements, transposed: blocks of 1, 2, 4, ... elements change places in pairs of
    them."""
    lines, side, block = list(lines), len(lines), 1
    while block < side:
        kept = [i if i & block == 0 else side + i - block for i in range(side)]
        moved = [i + block if i & block == 0 else side + i for i in range(side)]
        for i in range(side):
            if i & block == 0:
                pair = lines[i], lines[i + block]
                lines[i], lines[i + block] = (
                    builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(_WORD, side), mask))
                    for mask in (kept, moved)
                )
        block *= 2
    return lines


# -- codes -------------------------------------------------------------------------------------------------------------

_ALL_PLUS = (2**ROWS - 1) * LINE_BYTES


@intrinsic(prefer_literal=True)
def pack_row(typing_context, codes, to, values, start, groups):
    """Set codes[to : to + groups] to those of one sum and a chunk: of the signs of ROWS * groups values side by side.

    Flat arrays, uint16 and float32; `groups` is a literal.
    """
    signature = types.void(codes, types.int64, values, types.int64, groups)

    def generate(context, builder, signature, arguments):
        target, first = (vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (2, 3)))
        together = groups.literal_value
        words, halves = (ir.VectorType(kind, together) for kind in (_WORD, _CODE))
        patterns = builder.bitcast(first, words.element.as_pointer())
        found = words(None)
        for i in range(ROWS):
            some = builder.bitcast(builder.gep(patterns, [vectors.INDEX(i * together)]), words.as_pointer())
            found = builder.or_(found, _sign_at(builder, builder.load(some, align=4), words, _bit(i)))
        found = builder.trunc(builder.xor(found, _constant(words, _ALL_PLUS)), halves)
        builder.store(found, builder.bitcast(target, halves.as_pointer()), align=2)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def pack_columns(typing_context, codes, to, values, start, stride, rows, groups):
    """Set codes[to : to + 16 * groups] to those of 16 sums and a chunk: of the signs of 16 columns of values.

    Row r of the chunk begins at values[start + r * stride]; only `rows` of them are there, and what stands for the
    others is multiplied by zero. Flat arrays, uint16 and float32; `groups` is a literal.
    """
    whole = types.int64
    signature = types.void(codes, whole, values, whole, whole, whole, groups)

    def generate(context, builder, signature, arguments):
        target, first = (vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (2, 3)))
        together, stride = groups.literal_value, arguments[4]
        words = ir.VectorType(_WORD, LANES)
        last = builder.sub(arguments[5], vectors.INDEX(1))
        patterns = builder.bitcast(first, _WORD.as_pointer())
        pairs = [words(None) for _ in range(-(-together // 2))]  # of codes of one column: the first in the lower half
        for i in range(ROWS):
            for group in range(together):
                row = vectors.INDEX(i * together + group)
                row = builder.select(builder.icmp_signed("<", row, last), row, last)
                line = builder.bitcast(builder.gep(patterns, [builder.mul(row, stride)]), words.as_pointer())
                bit = _bit(i) + 16 * (group % 2)
                signs = _sign_at(builder, builder.load(line, align=4), words, bit)
                pairs[group // 2] = builder.or_(pairs[group // 2], signs)
        pairs = [builder.xor(pair, _constant(words, _ALL_PLUS << 16 | _ALL_PLUS)) for pair in pairs]
        _store_by_column(builder, pairs, together, target)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def pack_bits(typing_context, codes, to, bits, start, stride, shift, rows, groups):
    """Set codes[to : to + 16 * groups] to those of 16 sums and a chunk: of 16 bits, from bit `shift` on, of some words.

    A set bit is a plus; the word of the chunk's row r is bits[start + r * stride]. The rest as `pack_columns`.
    """
    whole = types.int64
    signature = types.void(codes, whole, bits, whole, whole, whole, whole, groups)

    def generate(context, builder, signature, arguments):
        target, first = (vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (2, 3)))
        together, stride = groups.literal_value, arguments[4]
        words = ir.VectorType(_WORD, LANES)
        last = builder.sub(arguments[6], vectors.INDEX(1))
        word = first.type.pointee
        shift = arguments[5] if word.width == 64 else builder.trunc(arguments[5], word)
        pairs = [words(None) for _ in range(-(-together // 2))]
        for i in range(ROWS):
            for group in range(together):
                row = vectors.INDEX(i * together + group)
                row = builder.select(builder.icmp_signed("<", row, last), row, last)
                own = builder.lshr(builder.load(builder.gep(first, [builder.mul(row, stride)])), shift)
                plus = builder.bitcast(builder.trunc(own, ir.IntType(LANES)), ir.VectorType(ir.IntType(1), LANES))
                bit = _constant(words, 1 << _bit(i) + 16 * (group % 2))
                pairs[group // 2] = builder.or_(pairs[group // 2], builder.select(plus, bit, words(None)))
        _store_by_column(builder, pairs, together, target)
        return context.get_dummy_value()

    return signature, generate


def _bit(i: int) -> int:
    """Where in a code the sign of row i of a group is."""
    return (LINE_BYTES - 1).bit_length() + i


def _constant(vector: ir.VectorType, value: int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def _sign_at(builder: Any, patterns: Any, words: ir.VectorType, bit: int) -> Any:
    """The sign bits of floats, seen as words, at another bit."""
    moved = builder.lshr(patterns, _constant(words, 31 - bit))
    return builder.and_(moved, _constant(words, 1 << bit))


def _store_by_column(builder: Any, pairs: list[Any], groups: int, target: Any) -> None:
    """Store, from pairs of codes of 16 columns each, all codes, column by column."""
    found = _by_column(builder, pairs, groups)
    builder.store(found, builder.bitcast(target, found.type.as_pointer()), align=2)


def _by_column(builder: Any, pairs: list[Any], groups: int) -> Any:
    if groups % 2 == 0:
        count = len(pairs)
    else:
        count = groups
        halves = ir.VectorType(_CODE, 2 * LANES)
        pairs = [builder.bitcast(pair, halves) for pair in pairs]
    width = pairs[0].type.count
    while len(pairs) > 1 and len(pairs) & (len(pairs) - 1):  # to a power of two
        pairs = [*pairs, pairs[0].type(ir.Undefined)]
    while len(pairs) > 1:
        mask = ir.Constant(ir.VectorType(_WORD, 2 * pairs[0].type.count), list(range(2 * pairs[0].type.count)))
        pairs = [builder.shuffle_vector(*two, mask) for two in zip(pairs[::2], pairs[1::2], strict=True)]
    per_word = width // LANES  # codes of a pair that are elements of their own
    order = [g // per_word * width + lane * per_word + g % per_word for lane in range(LANES) for g in range(count)]
    undefined = ir.Constant(pairs[0].type, ir.Undefined)
    return builder.shuffle_vector(pairs[0], undefined, ir.Constant(ir.VectorType(_WORD, len(order)), order))


@numba.njit(error_model="numpy")
def pack_some(codes, to, values, start, stride, rows, groups):
    """Set codes[to : to + groups] to those of a sum and a chunk; its row r < rows is values[start + r * stride]."""
    for group in range(groups):
        code = 0
        for i in range(ROWS):
            row = i * groups + group
            if row < rows and values[start + row * stride] > 0:
                code |= 1 << i
        codes[to + group] = code * LINE_BYTES
