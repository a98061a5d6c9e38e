"""Squares of 8 x 8 floats transposed in registers on the way from one array to another, where values that lie side by
side in the one lie apart in the other: so neither is read or written value by value.

Memory, flat float32 arrays; a lane is a channel, a filter or a band of an image, and begins where `starts` says::

    plain   lane l: row r = 0 1 2 3 ... side by side, from starts[l] + offset on
    side    row r:  lane l = 0 1 2 3 ... side by side, from at + r * pitch on
"""

from __future__ import annotations

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from bnn_gluon.kernels import vectors
from bnn_gluon.kernels.tables import transposed

SIDE = 8
_SQUARE = ir.VectorType(ir.FloatType(), SIDE)


@intrinsic
def take_square(typing_context, plain, starts, lane, offset, side, at, pitch):
    """side[at + r * pitch + l] = plain[starts[lane + l] + offset + r] for l and r from 0 to 7."""

    def generate(context, builder, signature, arguments):
        first, begins, out = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 3), (1, 2), (4, 5))
        )
        lines = []
        for number in range(SIDE):
            start = builder.load(builder.gep(begins, [vectors.INDEX(number)]))
            lines.append(vectors.load(builder, builder.gep(first, [start]), _SQUARE, 0))
        for number, line in enumerate(transposed(builder, lines)):
            to_line = builder.gep(out, [builder.mul(arguments[6], vectors.INDEX(number))])
            vectors.store(builder, line, to_line, 0)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(plain, starts, whole, whole, side, whole, whole), generate


@intrinsic
def give_square(typing_context, side, at, pitch, scale, plain, starts, lane, offset):
    """plain[starts[lane + l] + offset + r] = scale * side[at + r * pitch + l] for l and r from 0 to 7."""

    def generate(context, builder, signature, arguments):
        first, begins, out = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (5, 6), (4, 7))
        )
        lines = []
        for number in range(SIDE):
            line = builder.gep(first, [builder.mul(arguments[2], vectors.INDEX(number))])
            lines.append(vectors.load(builder, line, _SQUARE, 0))
        factor = vectors.everywhere(builder, arguments[3], _SQUARE)
        for number, line in enumerate(transposed(builder, lines)):
            start = builder.load(builder.gep(begins, [vectors.INDEX(number)]))
            vectors.store(builder, builder.fmul(factor, line), builder.gep(out, [start]), 0)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(side, whole, whole, types.float32, plain, starts, whole, whole), generate


@numba.njit(error_model="numpy")
def take_rows(plain, starts, lanes, offset, count, side, at, pitch):
    """side[at + r * pitch + l] = plain[starts[l] + offset + r] for l < lanes, a multiple of 8, and r < count."""
    for lane in range(0, lanes, SIDE):
        if count >= SIDE:
            for square in range(0, count, SIDE):
                r = min(square, count - SIDE)  # the last square overlaps the one before
                take_square(plain, starts, lane, offset + r, side, at + r * pitch + lane, pitch)
        else:
            for r in range(count):
                for own in range(lane, lane + SIDE):
                    side[at + r * pitch + own] = plain[starts[own] + offset + r]


@numba.njit(error_model="numpy")
def give_rows(side, at, pitch, count, scale, plain, starts, lanes, offset):
    """plain[starts[l] + offset + r] = scale * side[at + r * pitch + l] for l < lanes and r < count."""
    whole = lanes // SIDE * SIDE if count >= SIDE else 0
    for lane in range(0, whole, SIDE):
        for square in range(0, count, SIDE):
            r = min(square, count - SIDE)
            give_square(side, at + r * pitch + lane, pitch, scale, plain, starts, lane, offset + r)
    for lane in range(whole, lanes):
        for r in range(count):
            plain[starts[lane] + offset + r] = scale * side[at + r * pitch + lane]
