"""Products of -1 and +1 on the CPU: as bits, a word at a time, by exclusive or and the count of what differs.

A sum of n such products is n - 2 d, where the signs of d pairs of factors differ: a whole number, and the sum of float
products comes to the same, because all its partial sums are whole numbers that float32 holds (n <= 2^24). So no result
depends on which of the two is used.

Memory; a word is uint32 up to 32 channels, else uint64::

    x       float32 (N, channels, rows, columns)   -> bits    (N, rows, columns, words): a pixel's channels lie together
                                                      word w, bit b = sign of channel w * width + b; missing ones 0
    weights float32 (filters, channels, k, k)      -> weights (blocks, k * k * words, units): row tap * words + w; the
                                                      units of a block are filters, those missing in the last are zeros
    differing int32 (pixels of a chunk, units of a block)
    product float32 (N, filters, height, width)

The units of a block fill 4 registers, and they are counted for 2 pixels at a time, which share each load of weights. A
chunk is some rows of the product: the weights of a block, the counts of a chunk and the bits it needs stay in the
core's caches. What threads share out is blocks of chunks. Of a fully connected layer an image is one pixel, with bits
(N, words), and images lie side by side as pixels of a row do; what threads share out is blocks. Source:
arXiv 1602.02830, section 4.1 (XNOR and popcount in place of multiply-adds).
"""

from __future__ import annotations

import itertools

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bnn_gluon.kernels import parallel, vectors
from bnn_gluon.kernels.fetching import fetch, fetch_line
from bnn_gluon.kernels.tables import transposed

_SIDE = 8  # of the squares of filters and pixels that are given at a time
_REGISTERS, _PIXELS = 4, 2  # of units, and pixels, that are counted at a time
_CHUNK = 256  # pixels
_LINE = 16  # floats of a cache line
_LANES = vectors.REGISTER // 4  # 32-bit values of a register
_HALF = 32  # signs that are packed at a time
_MAGNITUDE, _ONE = np.uint32(0x7FFFFFFF), 0x3F800000  # of a float32: all bits but the sign; the bits of 1


def dense(x: np.ndarray, weights: np.ndarray, product: np.ndarray) -> bool:
    """Set `product`, float32 (N, units), to x @ weights.T, or do nothing if there are other values than -1 and +1.

    Args:
        x: float32 (N, inputs).
        weights: float32 (units, inputs).

    Returns:
        Whether the product was set.
    """
    bits = _pack(x[:, :, None])
    bits_of_weights = None if bits is None else _pack(weights[:, :, None])
    if bits is None or bits_of_weights is None:
        return False
    _dense(bits[:, 0], _by_word(bits_of_weights), x.shape[1], product)
    return True


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
    bits = bits_of(x)
    return bits is not None and convolution_of_bits(bits, weights, padding, product)


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


def _pack(values: np.ndarray) -> np.ndarray | None:
    """Signs (N, channels, pixels) as bits (N, pixels, words), uint64 or uint32; None if there are other values."""
    n, channels, pixels = values.shape
    if not may_be_signs(values):
        return None
    word = np.dtype(np.uint32 if channels <= 32 else np.uint64)
    bits = np.empty((n, pixels, -(-channels // (8 * word.itemsize))), word)
    others = np.empty(n, np.int32)
    if pixels > 1:
        _pack_pixels(values, bits.view(np.uint32), others)
    else:
        _pack_rows(values[:, :, 0], bits[:, 0], others)
    return None if others.any() else bits


def _by_word(bits: np.ndarray) -> np.ndarray:
    """Bits of weights (filters, taps, words) as (blocks, taps * words, units)."""
    filters, taps, words = bits.shape
    units = _REGISTERS * vectors.REGISTER // bits.itemsize
    filled = np.zeros((-(-filters // units), units, taps * words), bits.dtype)
    filled.reshape(-1, taps * words)[:filters] = bits.reshape(filters, -1)
    return np.ascontiguousarray(filled.transpose(0, 2, 1))


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
def _count_differing(
    typing_context, differing, to, bits, at, step, pitch, weights, start, stride, lines, count, pixels
):
    """differing[to + p * units + u] = how many bits of pixel p differ from those of the weights of unit u of a block,
    for all units and for `pixels` pixels, `_PIXELS` or 1.

    Line l of pixel p is bits[at + p * step + l * pitch] and the words next to it, `count` in all; its weights are
    weights[start + l * stride + u], and those every `units` from there on. Flat arrays: int32, words, words.
    """

    def generate(context, builder, signature, arguments):
        differing, bits, weights = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (2, 3), (6, 7))
        )
        step, pitch, stride, lines, count = (arguments[place] for place in (4, 5, 8, 9, 10))
        several = builder.icmp_signed("==", arguments[11], vectors.INDEX(_PIXELS))
        with builder.if_else(several) as (then, otherwise):
            for branch, together in ((then, _PIXELS), (otherwise, 1)):
                with branch:
                    sums = _Sums(builder, bits.type.pointee, together)
                    with cgutils.for_range(builder, lines, intp=vectors.INDEX) as line:
                        of_line = builder.gep(bits, [builder.mul(line.index, pitch)])
                        weights_of_line = builder.gep(weights, [builder.mul(line.index, stride)])
                        with cgutils.for_range(builder, count, intp=vectors.INDEX) as word:
                            row = builder.mul(word.index, vectors.INDEX(sums.units))
                            sums.add(builder.gep(of_line, [word.index]), step, builder.gep(weights_of_line, [row]))
                    sums.store(differing)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(differing, whole, bits, *[whole] * 3, weights, *[whole] * 5), generate


class _Sums:
    """The registers in which is counted for the units of a block and some pixels, as code that is being generated."""

    def __init__(self, builder: ir.IRBuilder, word: ir.IntType, pixels: int) -> None:
        """They begin at zero. `word`: the type of a word."""
        self._builder, self._vector = builder, ir.VectorType(word, 8 * vectors.REGISTER // word.width)
        self._population = vectors.function(builder, "ctpop", self._vector, 1)
        self._of_pixels = [
            [cgutils.alloca_once(builder, self._vector) for _ in range(_REGISTERS)] for _ in range(pixels)
        ]
        for kept in itertools.chain(*self._of_pixels):
            builder.store(self._vector(None), kept)
        self.units = _REGISTERS * self._vector.count

    def add(self, word: ir.Value, step: ir.Value, weights: ir.Value) -> None:
        """Count for a word of each pixel, every `step` from `word` on, and the units' weights, from `weights` on."""
        builder, words = self._builder, []
        for pixel in range(len(self._of_pixels)):
            own = builder.load(builder.gep(word, [builder.mul(step, vectors.INDEX(pixel))]))
            words.append(vectors.everywhere(builder, own, self._vector))
        for number in range(_REGISTERS):
            of_units = vectors.load(builder, weights, self._vector, number)
            for own, sums in zip(words, self._of_pixels, strict=True):
                found = builder.call(self._population, [builder.xor(own, of_units)])
                builder.store(builder.add(builder.load(sums[number]), found), sums[number])

    def store(self, differing: ir.Value) -> None:
        """Store the counts, int32 (pixels, units)."""
        for number, kept in enumerate(itertools.chain(*self._of_pixels)):
            total = self._builder.load(kept)
            if self._vector.element.width == 64:
                total = self._builder.trunc(total, ir.VectorType(ir.IntType(32), self._vector.count))
            vectors.store(self._builder, total, differing, number)


@intrinsic
def _give_square(typing_context, product, to, plane, differing, at, units, taps, first, channels):
    """product[to + f * plane + p] = taps[first + p] * channels - 2 * differing[at + p * units + f] for f and p from 0
    to 7. Flat arrays: float32, int32, int32."""

    def generate(context, builder, signature, arguments):
        target, counts, inside = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (3, 4), (6, 7))
        )
        plane, units = arguments[2], arguments[5]
        wholes, floats = (ir.VectorType(kind, _SIDE) for kind in (ir.IntType(32), ir.FloatType()))
        channels = builder.trunc(arguments[8], wholes.element)
        pixels = []
        for p in range(_SIDE):
            found = vectors.load(builder, builder.gep(counts, [builder.mul(units, vectors.INDEX(p))]), wholes, 0)
            total = builder.mul(builder.load(builder.gep(inside, [vectors.INDEX(p)])), channels)
            total = vectors.everywhere(builder, total, wholes)
            pixels.append(builder.sitofp(builder.sub(total, builder.add(found, found)), floats))
        for f, row in enumerate(transposed(builder, pixels)):
            vectors.store(builder, row, builder.gep(target, [builder.mul(plane, vectors.INDEX(f))]), 0)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(product, whole, whole, differing, whole, whole, taps, whole, whole), generate


@parallel.loop
def _convolution(part, bits, weights, channels, kernel, padding, product):
    """Set `product` for bits (N, rows, columns, words) and weights as `_by_word` gives them."""
    _, rows, columns, words = bits.shape
    n, filters, height, width = product.shape
    blocks, of_block, units = weights.shape
    plane = height * width
    flat_bits, flat_weights, target = bits.reshape(-1), weights.reshape(-1), product.reshape(-1)
    together = max(1, _CHUNK // width)  # rows of a chunk
    chunks = -(-height // together)
    differing, taps = np.empty(together * width * units, np.int32), np.empty(together * width, np.int32)
    for piece in parallel.share(part, n * chunks * blocks):
        block, chunk = piece % blocks, piece // blocks
        image, top = chunk // chunks, chunk % chunks * together
        bottom = min(height, top + together)
        first = block * units
        some = min(units, filters - first)  # filters of the block
        to = ((image * filters + first) * height + top) * width
        for y in range(top, bottom):
            line = max(0, padding - y)
            lines = max(0, min(kernel, rows + padding - y) - line)  # inside of the image
            x = 0
            while x < width:
                column = max(0, padding - x)
                count = max(0, min(kernel, columns + padding - x) - column)
                # Those counted together have the same taps inside.
                pixels = _PIXELS if column == 0 and x + _PIXELS + kernel - 1 <= columns + padding else 1
                at = ((image * rows + y + line - padding) * columns + x + column - padding) * words
                start = (block * of_block + (line * kernel + column) * words) * units
                p = (y - top) * width + x
                _count_differing(
                    differing, p * units, flat_bits, at, words, columns * words,
                    flat_weights, start, kernel * words * units, lines, count * words, pixels,
                )  # fmt: skip
                for pixel in range(p, p + pixels):
                    taps[pixel] = lines * count
                    # The product's lines, which are written below: one for each filter and _LINE pixels.
                    turn = pixel % _LINE
                    for f in range(turn * some // _LINE, (turn + 1) * some // _LINE):
                        fetch(target, to + f * plane + pixel - turn, 1)
                x += pixels
        pixels = (bottom - top) * width
        if pixels >= _SIDE and some >= _SIDE:
            for square in range(0, some, _SIDE):
                f = min(square, some - _SIDE)  # the last squares overlap those before
                for place in range(0, pixels, _SIDE):
                    p = min(place, pixels - _SIDE)
                    _give_square(target, to + f * plane + p, plane, differing, p * units + f, units, taps, p, channels)
        else:
            for f in range(some):
                for p in range(pixels):
                    target[to + f * plane + p] = taps[p] * channels - 2 * np.int64(differing[p * units + f])


@parallel.loop
def _dense(part, bits, weights, inputs, product):
    """Set `product`, (N, filters), for bits (N, words) and weights as `_by_word` gives them."""
    n, words = bits.shape
    filters = product.shape[1]
    blocks, _, units = weights.shape
    flat_bits, flat_weights = bits.reshape(-1), weights.reshape(-1)
    differing = np.empty(_PIXELS * units, np.int32)
    for block in parallel.share(part, blocks):
        first, start = block * units, block * words * units
        some = min(units, filters - first)
        i = 0
        while i < n:
            images = _PIXELS if i + _PIXELS <= n else 1
            _count_differing(differing, 0, flat_bits, i * words, words, 0, flat_weights, start, 0, 1, words, images)
            for image in range(images):
                for unit in range(some):
                    found = differing[image * units + unit]
                    product[i + image, first + unit] = np.int32(inputs) - np.int32(2) * found
            i += images
