"""Products of -1 and +1 on the CPU: as bits, a word at a time, by exclusive or and the count of what differs.

A sum of n such products is n - 2 d, where the signs of d pairs of factors differ: a whole number, and the sum of float
products comes to the same, because all its partial sums are whole numbers that float32 holds (n <= 2^24). So no result
depends on which of the two is used.

Memory::

    x       float32 (N, channels, rows, columns)   -> bits    (N, rows, columns, words): see `sign_bits`
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
from bnn_gluon.kernels.fetching import fetch
from bnn_gluon.kernels.sign_bits import bits_of, bits_of_pixels, bits_of_rows
from bnn_gluon.kernels.tables import transposed

_SIDE = 8  # of the squares of filters and pixels that are given at a time
_REGISTERS, _PIXELS = 4, 2  # of units, and pixels, that are counted at a time
_CHUNK = 256  # pixels
_LINE = 16  # floats of a cache line


def dense(x: np.ndarray, weights: np.ndarray, product: np.ndarray) -> bool:
    """Set `product`, float32 (N, units), to x @ weights.T, or do nothing if there are other values than -1 and +1.

    Args:
        x: float32 (N, inputs).
        weights: float32 (units, inputs).

    Returns:
        Whether the product was set.
    """
    bits = bits_of_rows(x)
    bits_of_weights = None if bits is None else bits_of_rows(weights)
    if bits is None or bits_of_weights is None:
        return False
    dense_of_bits(bits, bits_of_weights, x.shape[1], product)
    return True


def dense_of_bits(bits: np.ndarray, bits_of_weights: np.ndarray, inputs: int, product: np.ndarray) -> None:
    """As `dense`, of an x and weights that `bits_of_rows` has as bits."""
    _dense(bits, _by_word(bits_of_weights[:, None]), inputs, product)


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


def convolution_of_bits(bits: np.ndarray, weights: np.ndarray, padding: int, product: np.ndarray) -> bool:
    """As `convolution`, of an x that `bits_of` has as bits."""
    filters, channels, kernel, _ = weights.shape
    bits_of_weights = bits_of_pixels(weights.reshape(filters, channels, -1))
    if bits_of_weights is None:
        return False
    _convolution(bits, _by_word(bits_of_weights), channels, kernel, padding, product)
    return True


def _by_word(bits: np.ndarray) -> np.ndarray:
    """Bits of weights (filters, taps, words) as (blocks, taps * words, units)."""
    filters, taps, words = bits.shape
    units = _REGISTERS * vectors.REGISTER // bits.itemsize
    filled = np.zeros((-(-filters // units), units, taps * words), bits.dtype)
    filled.reshape(-1, taps * words)[:filters] = bits.reshape(filters, -1)
    return np.ascontiguousarray(filled.transpose(0, 2, 1))


# -- compiled ----------------------------------------------------------------------------------------------------------


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
