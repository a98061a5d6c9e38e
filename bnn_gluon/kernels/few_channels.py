"""Convolutions of images with at most three channels, on the CPU: the first layer of a network.

MXNet keeps the output of a convolution in blocks of channels, and it is brought into the plain layout afterwards: here,
with 25 to 75 multiply-adds a value, that takes longer than the convolution. These loops write the plain layout, and
what they sum stays in registers.

Memory, float32, C-contiguous; lanes are the floats of a register, pitch = columns + 2 padding + 2 lanes::

    x        (N, channels, rows, columns) -> padded (N, channels, rows + 2 padding, pitch): zeros around, and 2 lanes
                                             more on the right
    weights  (filters, channels, k, k)
    product  (N, filters, height, width): registers go over the columns of a row, 2 at a time, for 4 filters at once
    sums     (filters, channels, k, k, lanes), of the gradient of the weights: added up over the lanes at the end

A thread has images of the product, or a few filters of the gradient of the weights.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from benchmarks.recipe.architecture import Conv, LayerShape
from bnn_gluon.kernels import parallel, vectors

_LANES = vectors.REGISTER // 4  # floats in a register
_KERNELS = (3, 5)  # that are compiled
_MOST_CHANNELS = 3
_REGISTERS = 2  # of columns at a time
# Filters at a time, in the product and in the gradient of the weights: so many that their sums fit in the registers.
_FILTERS, _FILTERS_OF_WEIGHTS = 4, vectors.REGISTER // 16


def applies_to(shape: LayerShape) -> bool:
    """Whether a linear layer can be computed and differentiated here."""
    return isinstance(shape.layer, Conv) and shape.layer.kernel in _KERNELS and shape.input_shape[0] <= _MOST_CHANNELS


def convolution(x: np.ndarray, weights: np.ndarray, padding: int, product: np.ndarray) -> None:
    """Set `product` to the convolution of x. All are float32.

    Args:
        x: (N, channels, rows, columns).
        weights: (filters, channels, kernel, kernel).
        padding: with zeros, on each side.
        product: (N, filters, rows + 2 padding - kernel + 1, columns + 2 padding - kernel + 1).
    """
    _convolution(_padded(x, padding), weights, product)


def gradient_of_weights(x: np.ndarray, gradient: np.ndarray, padding: int, of_weights: np.ndarray) -> None:
    """Set `of_weights`, shaped as the weights, for the gradient of the product. Arguments as `convolution`."""
    sums = np.empty((*of_weights.shape, _LANES), np.float32)
    _gradient_of_weights(_padded(x, padding), gradient, sums)
    np.sum(sums, axis=4, out=of_weights)


def _padded(x: np.ndarray, padding: int) -> np.ndarray:
    """x with zeros around, and on the right so many that registers can be read from any pixel on."""
    n, channels, rows, columns = x.shape
    padded = np.zeros((n, channels, rows + 2 * padding, columns + 2 * padding + _REGISTERS * _LANES), np.float32)
    padded[:, :, padding : padding + rows, padding : padding + columns] = x
    return padded


# -- compiled ----------------------------------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def _set_columns(
    typing_context, product, to, step, x, at, pitch, plane, channels, weights, first, columns, filters, kernel
):
    """Set as many columns of a row of the product as `_REGISTERS` hold, at most `columns`, for some filters.

    Those of filter f begin at product[to + f * step], the pixels under the first one at x[at], with `pitch` from row to
    row and `plane` from channel to channel, the weights at weights[first]. Flat arrays; `filters` and `kernel` are
    literals.
    """

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), _LANES)
        target, pixels, of_filters = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (3, 4), (8, 9))
        )
        step, pitch, plane, channels, columns = (arguments[place] for place in (2, 5, 6, 7, 10))
        multiply_add = vectors.function(builder, "fmuladd", vector, 3)
        size = kernel.literal_value
        places = [(f, number) for f in range(filters.literal_value) for number in range(_REGISTERS)]
        sums = {place: cgutils.alloca_once(builder, vector) for place in places}
        for kept in sums.values():
            builder.store(vector(None), kept)
        with cgutils.for_range(builder, channels, intp=vectors.INDEX) as channel:
            of_channel = builder.gep(pixels, [builder.mul(plane, channel.index)])
            own = builder.gep(of_filters, [builder.mul(channel.index, vectors.INDEX(size * size))])
            for line in range(size):
                row = builder.gep(of_channel, [builder.mul(pitch, vectors.INDEX(line))])
                for column in range(size):
                    first_pixel = builder.gep(row, [vectors.INDEX(column)])
                    loaded = [vectors.load(builder, first_pixel, vector, number) for number in range(_REGISTERS)]
                    for f in range(filters.literal_value):
                        tap = builder.mul(channels, vectors.INDEX(f * size * size))
                        tap = builder.add(tap, vectors.INDEX(line * size + column))
                        weight = vectors.everywhere(builder, builder.load(builder.gep(own, [tap])), vector)
                        for number, values in enumerate(loaded):
                            kept = sums[f, number]
                            builder.store(builder.call(multiply_add, [weight, values, builder.load(kept)]), kept)
        for f in range(filters.literal_value):
            first_column = builder.gep(target, [builder.mul(step, vectors.INDEX(f))])
            for number in range(_REGISTERS):
                vectors.store_some(builder, builder.load(sums[f, number]), first_column, number, columns)
        return context.get_dummy_value()

    whole = types.int64
    return (
        types.void(product, whole, whole, x, whole, whole, whole, whole, weights, whole, whole, filters, kernel),
        generate,
    )


@numba.njit(error_model="numpy")
def _set_rows(product, to, x, at, pitch, plane, channels, weights, first, height, width, filters, kernel):
    """Do what `_set_columns` does, for the whole product of an image."""
    for y in range(height):
        for column in range(0, width, _REGISTERS * _LANES):
            _set_columns(
                product, to + y * width + column, height * width, x, at + y * pitch + column, pitch, plane, channels,
                weights, first, width - column, filters, kernel,
            )  # fmt: skip


@parallel.loop
def _convolution(part, x, weights, product):
    """Set `product`, (N, filters, height, width), for x (N, channels, rows, pitch) and weights (filters, channels,
    kernel, kernel)."""
    _, channels, rows, pitch = x.shape
    n, filters, height, width = product.shape
    kernel, plane = weights.shape[2], rows * pitch
    flat_x, flat_weights, target = x.reshape(-1), weights.reshape(-1), product.reshape(-1)
    for i in parallel.share(part, n):
        f = 0
        while f < filters:
            to, at = (i * filters + f) * height * width, i * channels * plane
            first, several = f * channels * kernel * kernel, f + _FILTERS <= filters
            if kernel == 3 and several:
                _set_rows(
                    target, to, flat_x, at, pitch, plane, channels, flat_weights, first, height, width, _FILTERS, 3
                )
            elif kernel == 3:
                _set_rows(target, to, flat_x, at, pitch, plane, channels, flat_weights, first, height, width, 1, 3)
            elif several:
                _set_rows(
                    target, to, flat_x, at, pitch, plane, channels, flat_weights, first, height, width, _FILTERS, 5
                )
            else:
                _set_rows(target, to, flat_x, at, pitch, plane, channels, flat_weights, first, height, width, 1, 5)
            f += _FILTERS if several else 1


@intrinsic(prefer_literal=True)
def _add_products(typing_context, sums, to, step, gradient, at, x, start, pitch, height, width, filters, kernel):
    """Add the products of an image's gradient with the pixels under one row of the kernel, for some filters.

    Those of filter f and a column of the kernel are added up in a register: sums[to + f * step + column * lanes], and
    those next to it. The gradient of filter f begins at gradient[at + f * height * width], the pixels at
    x[start], with `pitch` from row to row. Flat arrays; `filters` and `kernel` are literals.
    """

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), _LANES)
        target, of_product, pixels = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (3, 4), (5, 6))
        )
        step, (pitch, height, width) = arguments[2], arguments[7:10]
        targets = [builder.gep(target, [builder.mul(step, vectors.INDEX(f))]) for f in range(filters.literal_value)]
        multiply_add = vectors.function(builder, "fmuladd", vector, 3)
        size = kernel.literal_value
        places = [(f, column) for f in range(filters.literal_value) for column in range(size)]
        kept = {place: cgutils.alloca_once(builder, vector) for place in places}
        for (f, column), register in kept.items():
            builder.store(vectors.load(builder, targets[f], vector, column), register)
        with cgutils.for_range(builder, height, intp=vectors.INDEX) as line:
            row_of_product = builder.gep(of_product, [builder.mul(line.index, width)])
            row_of_pixels = builder.gep(pixels, [builder.mul(line.index, pitch)])
            lanes = vectors.INDEX(_LANES)
            blocks = builder.sdiv(builder.add(width, vectors.INDEX(_LANES - 1)), lanes)
            with cgutils.for_range(builder, blocks, intp=vectors.INDEX) as block:
                first = builder.mul(block.index, lanes)
                left = builder.sub(width, first)
                factors = []
                for f in range(filters.literal_value):
                    plane = builder.mul(builder.mul(height, width), vectors.INDEX(f))
                    of_filter = builder.gep(row_of_product, [builder.add(first, plane)])
                    factors.append(vectors.load_some(builder, of_filter, vector, left))
                for column in range(size):
                    first_pixel = builder.gep(row_of_pixels, [builder.add(first, vectors.INDEX(column))])
                    values = vectors.load(builder, first_pixel, vector, 0)
                    for f, factor in enumerate(factors):
                        register = kept[f, column]
                        builder.store(builder.call(multiply_add, [factor, values, builder.load(register)]), register)
        for (f, column), register in kept.items():
            vectors.store(builder, builder.load(register), targets[f], column)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(sums, whole, whole, gradient, whole, x, whole, whole, whole, whole, filters, kernel), generate


@parallel.loop
def _gradient_of_weights(part, x, gradient, sums):
    """Set `sums`, (filters, channels, kernel, kernel, lanes), which are to be added up over the lanes."""
    _, channels, rows, pitch = x.shape
    n, filters, height, width = gradient.shape
    kernel = sums.shape[2]
    step = channels * kernel * kernel * _LANES  # from filter to filter
    flat_x, flat_gradient, target = x.reshape(-1), gradient.reshape(-1), sums.reshape(-1)
    for task in parallel.share(part, (filters + _FILTERS_OF_WEIGHTS - 1) // _FILTERS_OF_WEIGHTS):
        low, high = task * _FILTERS_OF_WEIGHTS, min(filters, (task + 1) * _FILTERS_OF_WEIGHTS)
        sums[low:high] = np.float32(0)
        for i in range(n):
            f = low
            while f < high:
                at = (i * filters + f) * height * width
                several = high - f == _FILTERS_OF_WEIGHTS
                for row in range(channels * kernel):  # of the kernel, in all channels
                    to = f * step + row * kernel * _LANES
                    start = ((i * channels + row // kernel) * rows + row % kernel) * pitch
                    if kernel == 3 and several:
                        _add_products(
                            target, to, step, flat_gradient, at, flat_x, start, pitch, height, width,
                            _FILTERS_OF_WEIGHTS, 3,
                        )  # fmt: skip
                    elif kernel == 3:
                        _add_products(target, to, step, flat_gradient, at, flat_x, start, pitch, height, width, 1, 3)
                    elif several:
                        _add_products(
                            target, to, step, flat_gradient, at, flat_x, start, pitch, height, width,
                            _FILTERS_OF_WEIGHTS, 5,
                        )  # fmt: skip
                    else:
                        _add_products(target, to, step, flat_gradient, at, flat_x, start, pitch, height, width, 1, 5)
                f += _FILTERS_OF_WEIGHTS if several else 1
