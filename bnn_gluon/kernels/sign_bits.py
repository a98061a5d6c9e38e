"""Signs as bits, for `binary_products`: of images, and of matrices.

Memory; a word is uint32 up to 32 channels, else uint64::

    float32 (N, channels, rows, columns) -> bits (N, rows, columns, words): a pixel's channels lie together
    float32 (rows, channels)             -> bits (rows, words)

Word w, bit b is the sign of channel w * width + b, 1 for plus; missing ones are 0.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bnn_gluon.kernels import parallel, vectors
from bnn_gluon.kernels.fetching import fetch_line

_LANES = vectors.REGISTER // 4  # 32-bit values of a register
_HALF = 32  # signs that are packed at a time
_MAGNITUDE, _ONE = np.uint32(0x7FFFFFFF), 0x3F800000  # of a float32: all bits but the sign; the bits of 1


def bits_of(x: np.ndarray) -> np.ndarray | None:
    """The signs of x, float32 (N, channels, rows, columns), as bits (N, rows, columns, words); None if there are other
    values than -1 and +1."""
    n, channels, *sides = x.shape
    bits = bits_of_pixels(x.reshape(n, channels, -1))
    return None if bits is None else bits.reshape(n, *sides, -1)


def bits_of_pixels(values: np.ndarray) -> np.ndarray | None:
    """The same of (N, channels, pixels): (N, pixels, words)."""
    n, channels, pixels = values.shape
    if pixels == 1:
        bits = bits_of_rows(values[:, :, 0])
        return None if bits is None else bits[:, None]
    if not _may_be_signs(values):
        return None
    others = np.empty(n, np.int32)
    bits = room(n * pixels, channels).reshape(n, pixels, -1)
    _pack_pixels(values, bits.view(np.uint32), others)
    return None if others.any() else bits


def bits_of_rows(matrix: np.ndarray) -> np.ndarray | None:
    """The same of (rows, channels): (rows, words)."""
    if not _may_be_signs(matrix):
        return None
    bits, others = room(*matrix.shape), np.empty(len(matrix), np.int32)
    _pack_rows(matrix, bits, others)
    return None if others.any() else bits


def room(rows: int, channels: int) -> np.ndarray:
    """Memory for the bits of so many rows, or pixels."""
    word = np.dtype(np.uint32 if channels <= 32 else np.uint64)
    return np.empty((rows, -(-channels // (8 * word.itemsize))), word)


def _may_be_signs(values: np.ndarray) -> bool:
    """Whether the first values are -1 and +1: so real values cost nothing."""
    return bool((np.abs(values.reshape(-1)[:64]) == 1).all())


# -- compiled ----------------------------------------------------------------------------------------------------------


@intrinsic
def _pack_register(typing_context, packed, to, seen, values, at, pitch, channels, pixels):
    """Set packed[to + p] to signs, bit c to that of values[at + c * pitch + p], 1 for plus, for p below the lanes of a
    register and c below `channels`, at most 32. And set what is 1 in seen[p] besides: the bits that differ from 1.0's.

    `pixels`: None, or how many of the lanes there are; the others are as if values were 1.0 there. Flat arrays: uint32,
    uint32, float32.
    """
    whole = types.int64

    def generate(context, builder, signature, arguments):
        vector, floats = (ir.VectorType(kind, _LANES) for kind in (ir.IntType(32), ir.FloatType()))
        target, first = (vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (3, 4)))
        differences = context.make_array(signature.args[2])(context, builder, arguments[2]).data
        one, last_bit = (ir.Constant(vector, [value] * _LANES) for value in (_ONE, 31))
        signs, others = (cgutils.alloca_once(builder, vector) for _ in range(2))
        builder.store(vector(None), signs)
        builder.store(vectors.load(builder, differences, vector, 0), others)
        with cgutils.for_range(builder, arguments[6], intp=vectors.INDEX) as loop:
            source = builder.gep(first, [builder.mul(loop.index, arguments[5])])
            later = builder.mul(arguments[5], vectors.INDEX(_HALF))  # to the channels that are packed after these
            fetch_line(builder, builder.gep(source, [later]), written=False)
            if isinstance(signature.args[7], types.NoneType):
                value = vectors.load(builder, source, floats, 0)
            else:
                value = vectors.load_some(builder, source, floats, arguments[7], 1)
            value = builder.bitcast(value, vector)
            place = vectors.everywhere(builder, builder.trunc(loop.index, vector.element), vector)
            plus = builder.shl(builder.lshr(builder.not_(value), last_bit), place)
            builder.store(builder.or_(builder.load(signs), plus), signs)
            builder.store(builder.or_(builder.load(others), builder.xor(value, one)), others)
        vectors.store(builder, builder.load(signs), target, 0)
        vectors.store(builder, builder.load(others), differences, 0)
        return context.get_dummy_value()

    return types.void(packed, whole, seen, values, whole, whole, whole, pixels), generate


@parallel.loop
def _pack_pixels(part, values, halves, others):
    """Set the bits of (N, channels, pixels), and `others`, int32 (N,): images with values that are neither -1 nor +1.

    `halves`: uint32 (N, pixels, words), or their halves where words are uint64, the lower one first.
    """
    n, channels, pixels = values.shape
    flat = values.reshape(-1)
    packed, seen = np.empty(max(pixels, _LANES), np.uint32), np.empty(_LANES, np.uint32)
    for i in parallel.share(part, n):
        seen[:] = 0
        for half in range(halves.shape[2]):
            first = half * _HALF
            at, count = (i * channels + first) * pixels, max(0, min(_HALF, channels - first))
            if pixels < _LANES:
                _pack_register(packed, 0, seen, flat, at, pixels, count, pixels)
            else:
                for register in range(0, pixels, _LANES):
                    p = min(register, pixels - _LANES)  # the last register overlaps the one before
                    _pack_register(packed, p, seen, flat, at + p, pixels, count, None)
            for p in range(pixels):
                halves[i, p, half] = packed[p]
        other = np.uint32(0)
        for lane in range(_LANES):
            other |= seen[lane] & _MAGNITUDE
        others[i] = other != 0


@intrinsic
def _set_to_signs(typing_context, bits, at, values, start):
    """bits[at] = which of values[start], values[start + 1], ... are positive, from the lowest bit on. Flat arrays."""

    def generate(context, builder, signature, arguments):
        floats = ir.VectorType(ir.FloatType(), signature.args[0].dtype.bitwidth)
        word = vectors.address(context, builder, signature, arguments, 0, 1)
        value = vectors.load(builder, vectors.address(context, builder, signature, arguments, 2, 3), floats, 0)
        builder.store(builder.bitcast(builder.fcmp_ordered(">", value, floats(None)), word.type.pointee), word)
        return context.get_dummy_value()

    return types.void(bits, types.int64, values, types.int64), generate


@numba.njit(error_model="numpy")
def pack_row(values, at, channels, bits, to, words):
    """Set `words` of bits, from bits[to] on, to the signs of so many values, from values[at] on. Flat arrays."""
    width, word_of = 8 * bits.itemsize, bits.dtype.type
    whole = channels // width
    for word in range(whole):
        _set_to_signs(bits, to + word, values, at + word * width)
    if whole < words:
        packed = word_of(0)
        for c in range(channels - whole * width):
            packed |= word_of(values[at + whole * width + c] > 0) << word_of(c)
        bits[to + whole] = packed


@parallel.loop
def _pack_rows(part, values, bits, others):
    """Set `bits`, (N, words), to the signs of (N, channels); `others`, int32 (N,): rows with other values."""
    n, channels = values.shape
    flat_values, flat_bits, words = values.reshape(-1), bits.reshape(-1), bits.shape[1]
    for i in parallel.share(part, n):
        other = False
        for c in range(channels):
            other |= np.abs(values[i, c]) != np.float32(1)
        others[i] = other
        pack_row(flat_values, i * channels, channels, flat_bits, i * words, words)
