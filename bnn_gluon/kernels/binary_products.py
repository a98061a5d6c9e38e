"""Products of -1 and +1 on the CPU: as bits, a word at a time, by exclusive or and the count of what differs.

A sum of n such products is n - 2 d, where the signs of d pairs of factors differ: a whole number, and the sum of float
products comes to the same, because all its partial sums are whole numbers that float32 holds (n <= 2^24). So no result
depends on which of the two is used.

Memory; a word is uint32 up to 32 channels, else uint64, and a fully connected layer is a convolution of one pixel::

    x       float32 (N, channels, rows, columns)   -> bits    (N, rows, columns, words): a pixel's channels lie together
                                                      word w, bit b = sign of channel w * width + b; missing ones 0
    weights float32 (filters, channels, k, k)      -> weights (k * k * words, units): row tap * words + w; units are
                                                      contiguous: filters, with zeros up to whole sets of 4 registers
    differing (columns of a row of the product, units): counted for 4 registers of units at a time
    product float32 (N, filters, height, width)

A thread has rows of the product. Source: arXiv 1602.02830, section 4.1 (XNOR and popcount in place of multiply-adds).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bnn_gluon.kernels import parallel, vectors
from bnn_gluon.kernels.tables import transposed

_SIDE = 8  # of the squares of filters and columns that are given at a time
_REGISTERS = 4  # that units are counted in at a time
_MAGNITUDE, _ONE = np.int32(0x7FFFFFFF), np.int32(0x3F800000)  # of a float32: all bits but the sign; the bits of 1


def dense(x: np.ndarray, weights: np.ndarray, product: np.ndarray) -> bool:
    """Set `product`, float32 (N, units), to x @ weights.T, or do nothing if there are other values than -1 and +1.

    Args:
        x: float32 (N, inputs).
        weights: float32 (units, inputs).

    Returns:
        Whether the product was set.
    """
    return _set_product(x[:, :, None, None], weights[:, :, None, None], 0, product[:, :, None, None])


def convolution(x: np.ndarray, weights: np.ndarray, padding: int, product: np.ndarray) -> bool:
    """Set `product` to the convolution of x, or do nothing if there are other values than -1 and +1.

    Args:
        x: float32 (N, channels, rows, columns).
        weights: float32 (filters, channels, kernel, kernel).
        padding: with zeros, on each side.
        product: float32 (N, filters, rows + 2 padding - kernel + 1, columns + 2 padding - kernel + 1).

    Returns:
        Whether the product was set.
    """
    return _set_product(x, weights, padding, product)


def bits_of(x: np.ndarray) -> np.ndarray | None:
    """The signs of x, float32 (N, channels, rows, columns), as bits (N, rows, columns, words); None if there are other
    values than -1 and +1."""
    n, channels, *sides = x.shape
    bits = _pack(x.reshape(n, channels, -1))
    return None if bits is None else bits.reshape(n, *sides, -1)


def convolution_of_bits(bits: np.ndarray, weights: np.ndarray, padding: int, product: np.ndarray) -> bool:
    """As `convolution`, of an x that `bits_of` has as bits."""
    filters, channels, kernel, _ = weights.shape
    bits_of_weights = _pack(weights.reshape(filters, channels, -1))
    if bits_of_weights is None:
        return False
    _convolution(bits, _by_word(bits_of_weights), channels, kernel, padding, product)
    return True


def may_be_signs(values: np.ndarray) -> bool:
    """Whether the first values are -1 and +1: so real values cost nothing."""
    return bool((np.abs(values.reshape(-1)[:64]) == 1).all())


def _set_product(x: np.ndarray, weights: np.ndarray, padding: int, product: np.ndarray) -> bool:
    bits = bits_of(x)
    return bits is not None and convolution_of_bits(bits, weights, padding, product)


def _pack(values: np.ndarray) -> np.ndarray | None:
    """Signs (N, channels, pixels) as bits (N, pixels, words), uint64 or uint32; None if there are other values."""
    n, channels, pixels = values.shape
    if not may_be_signs(values):
        return None
    word = np.dtype(np.uint32 if channels <= 32 else np.uint64)
    bits = np.empty((n, pixels, -(-channels // (8 * word.itemsize))), word)
    others = np.empty(n, np.int32)
    if pixels > 1:
        _pack_pixels(values.view(np.int32), bits, others)
    else:
        _pack_rows(values[:, :, 0], bits[:, 0], others)
    return None if others.any() else bits


def _by_word(bits: np.ndarray) -> np.ndarray:
    """Bits of weights (filters, taps, words) as (taps * words, filters), where filters fill registers."""
    filters, taps, words = bits.shape
    together = _REGISTERS * vectors.REGISTER // bits.itemsize
    arranged = np.zeros((taps * words, -(-filters // together) * together), bits.dtype)
    arranged[:, :filters] = bits.reshape(filters, -1).T
    return arranged


# -- compiled ----------------------------------------------------------------------------------------------------------


@parallel.loop
def _pack_pixels(part, patterns, bits, others):
    """Set `bits`, (N, pixels, words), to the signs; `others`, int32 (N,), tells which images have values that are
    neither -1 nor +1.

    `patterns`: float32 (N, channels, pixels), seen as int32.
    """
    n, channels, pixels = patterns.shape
    width = 8 * bits.itemsize
    word_of = bits.dtype.type
    packed = np.empty(pixels, bits.dtype)
    for i in parallel.share(part, n):
        other = np.int32(0)
        for word in range(bits.shape[2]):
            first = word * width
            packed[:] = 0
            for c in range(min(width, channels - first)):
                source = patterns[i, first + c]
                for p in range(pixels):
                    other |= (source[p] & _MAGNITUDE) ^ _ONE
                    packed[p] |= word_of(source[p] >= 0) << word_of(c)
            bits[i, :, word] = packed
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


@parallel.loop
def _pack_rows(part, values, bits, others):
    """Set `bits`, (N, words), to the signs of (N, channels); `others`, int32 (N,): rows with other values."""
    n, channels = values.shape
    width = 8 * bits.itemsize
    word_of = bits.dtype.type
    flat_values, flat_bits = values.reshape(-1), bits.reshape(-1)
    whole = channels // width
    for i in parallel.share(part, n):
        other = False
        for c in range(channels):
            other |= np.abs(values[i, c]) != np.float32(1)
        others[i] = other
        for word in range(whole):
            _set_to_signs(flat_bits, i * bits.shape[1] + word, flat_values, i * channels + word * width)
        if whole < bits.shape[1]:
            packed = word_of(0)
            for c in range(channels - whole * width):
                packed |= word_of(values[i, whole * width + c] > 0) << word_of(c)
            bits[i, whole] = packed


@intrinsic
def _count_differing(typing_context, differing, to, words, at, pitch, weights, start, stride, row, lines, count):
    """differing[to + u] = how many bits of `lines` lines of `count` words differ from those of the weights of unit u.

    Line l has words[at + l * pitch] and those next to it; their weights are weights[start + l * stride + u], and from
    there on every `row`. u goes over what `_REGISTERS` registers hold. Flat arrays of one type.
    """

    def generate(context, builder, signature, arguments):
        bits = signature.args[0].dtype.bitwidth
        vector = ir.VectorType(ir.IntType(bits), 8 * vectors.REGISTER // bits)
        target, first_word, first_weights = (
            vectors.address(context, builder, signature, arguments, *at) for at in ((0, 1), (2, 3), (5, 6))
        )
        pitch, stride, row, lines, count = (arguments[place] for place in (4, 7, 8, 9, 10))
        population = vectors.function(builder, "ctpop", vector, 1)
        sums = [cgutils.alloca_once(builder, vector) for _ in range(_REGISTERS)]
        for kept in sums:
            builder.store(vector(None), kept)
        with cgutils.for_range(builder, lines, intp=vectors.INDEX) as line:
            word_of_line = builder.gep(first_word, [builder.mul(line.index, pitch)])
            weights_of_line = builder.gep(first_weights, [builder.mul(line.index, stride)])
            with cgutils.for_range(builder, count, intp=vectors.INDEX) as inner:
                word = builder.load(builder.gep(word_of_line, [inner.index]))
                word = vectors.everywhere(builder, word, vector)
                of_units = builder.gep(weights_of_line, [builder.mul(inner.index, row)])
                for number, kept in enumerate(sums):
                    differing = builder.xor(word, vectors.load(builder, of_units, vector, number))
                    builder.store(builder.add(builder.load(kept), builder.call(population, [differing])), kept)
        for number, kept in enumerate(sums):
            vectors.store(builder, builder.load(kept), target, number)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(differing, whole, words, whole, whole, weights, whole, whole, whole, whole, whole), generate


@intrinsic
def _give_square(typing_context, product, to, plane, differing, at, units, taps, first, channels):
    """product[to + f * plane + x] = taps[first + x] * channels - 2 * differing[at + x * units + f] for f and x from 0
    to 7. Flat arrays: float32, words, int64."""

    def generate(context, builder, signature, arguments):
        target, counts, inside = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (3, 4), (6, 7))
        )
        plane, units, channels = arguments[2], arguments[5], arguments[8]
        words, wholes, floats = (
            ir.VectorType(kind, _SIDE) for kind in (counts.type.pointee, ir.IntType(32), ir.FloatType())
        )
        columns = []
        for x in range(_SIDE):
            found = vectors.load(builder, builder.gep(counts, [builder.mul(units, vectors.INDEX(x))]), words, 0)
            found = found if words.element.width == 32 else builder.trunc(found, wholes)
            total = builder.mul(builder.load(builder.gep(inside, [vectors.INDEX(x)])), channels)
            total = vectors.everywhere(builder, builder.trunc(total, wholes.element), wholes)
            columns.append(builder.sitofp(builder.sub(total, builder.add(found, found)), floats))
        for f, row in enumerate(transposed(builder, columns)):
            vectors.store(builder, row, builder.gep(target, [builder.mul(plane, vectors.INDEX(f))]), 0)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(product, whole, whole, differing, whole, whole, taps, whole, whole), generate


@parallel.loop
def _convolution(part, bits, weights, channels, kernel, padding, product):
    """Set `product` for bits (N, rows, columns, words) and weights as `_by_word` gives them."""
    _, rows, columns, words = bits.shape
    n, filters, height, width = product.shape
    units = weights.shape[1]
    together = _REGISTERS * vectors.REGISTER // weights.itemsize
    flat_bits, flat_weights, target = bits.reshape(-1), weights.reshape(-1), product.reshape(-1)
    differing, taps = np.empty(width * units, weights.dtype), np.empty(width, np.int64)
    for i in parallel.share(part, n * height):
        image, y = i // height, i % height
        line = max(0, padding - y)
        lines = max(0, min(kernel, rows + padding - y) - line)  # inside of the image
        for x in range(width):
            column = max(0, padding - x)
            count = max(0, min(kernel, columns + padding - x) - column)
            taps[x] = lines * count
            at = ((image * rows + y + line - padding) * columns + x + column - padding) * words
            tap = (line * kernel + column) * words
            for unit in range(0, units, together):
                _count_differing(
                    differing, x * units + unit, flat_bits, at, columns * words,
                    flat_weights, tap * units + unit, kernel * words * units, units, lines, count * words,
                )  # fmt: skip
        if width >= _SIDE and filters >= _SIDE:
            for square in range(0, filters, _SIDE):
                f = min(square, filters - _SIDE)  # the last squares overlap those before
                to = ((image * filters + f) * height + y) * width
                for column in range(0, width, _SIDE):
                    x = min(column, width - _SIDE)
                    _give_square(target, to + x, height * width, differing, x * units + f, units, taps, x, channels)
        else:
            for f in range(filters):
                for x in range(width):
                    product[image, f, y, x] = taps[x] * channels - 2 * np.int64(differing[x * units + f])
