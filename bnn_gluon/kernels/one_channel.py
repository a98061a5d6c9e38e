"""Convolutions of images with one channel, on the CPU: the first layer of a network for MNIST.

MXNet keeps the output of a convolution in blocks of channels, which what follows has to bring into the plain layout:
here, with 25 multiply-adds a value, that takes longer than the convolution. These write the plain layout, and what
they sum stays in registers.

Memory, float32, C-contiguous; lanes are the floats of a register, pitch = columns + 2 padding + 2 lanes::

    x        (N, 1, rows, columns) -> padded (N, rows + 2 padding, pitch): zeros around, and 2 lanes more on the right
    weights  (filters, 1, k, k)
    product  (N, filters, height, width): registers go over the columns of a row, 2 at a time, for 4 filters at once
    sums     (filters, k, k, lanes), of the gradient of the weights: added up over the lanes at the end

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
_REGISTERS = 2  # of columns at a time
# Filters at a time, in the product and in the gradient of the weights: so many that their sums fit in the registers.
_FILTERS, _FILTERS_OF_WEIGHTS = 4, vectors.REGISTER // 16


def applies_to(shape: LayerShape) -> bool:
    """Whether a linear layer can be computed and differentiated here."""
    return isinstance(shape.layer, Conv) and shape.layer.kernel in _KERNELS and shape.input_shape[0] == 1


def convolution(x: np.ndarray, weights: np.ndarray, padding: int, product: np.ndarray) -> None:
    """Set `product` to the convolution of x. All are float32.

    Args:
        x: (N, 1, rows, columns).
        weights: (filters, 1, kernel, kernel).
        padding: with zeros, on each side.
        product: (N, filters, rows + 2 padding - kernel + 1, columns + 2 padding - kernel + 1).
    """
    _convolution(_padded(x, padding), weights, product)


def gradient_of_weights(x: np.ndarray, gradient: np.ndarray, padding: int, of_weights: np.ndarray) -> None:
    """Set `of_weights`, shaped as the weights, for the gradient of the product. Arguments as `convolution`."""
    filters, _, kernel, _ = of_weights.shape
    sums = np.empty((filters, kernel, kernel, _LANES), np.float32)
    _gradient_of_weights(_padded(x, padding), gradient, sums)
    np.sum(sums, axis=3, out=of_weights[:, 0])


def _padded(x: np.ndarray, padding: int) -> np.ndarray:
    """(N, rows, columns), with zeros around, and on the right so many that registers can be read from any pixel on."""
    n, _, rows, columns = x.shape
    padded = np.zeros((n, rows + 2 * padding, columns + 2 * padding + _REGISTERS * _LANES), np.float32)
    padded[:, padding : padding + rows, padding : padding + columns] = x[:, 0]
    return padded


# -- compiled ----------------------------------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def _set_columns(typing_context, product, to, step, x, at, pitch, weights, first, columns, filters, kernel):
    """Set as many columns of a row of the product as `_REGISTERS` hold, at most `columns`, for some filters.

    Those of filter f begin at product[to + f * step], the pixels under the first one at x[at], with `pitch` from row to
    row, the weights at weights[first]. Flat arrays; `filters` and `kernel` are literals.
    """

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), _LANES)
        target, pixels, of_filters = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (3, 4), (6, 7))
        )
        step, pitch, columns = (arguments[place] for place in (2, 5, 8))
        multiply_add = vectors.function(builder, "fmuladd", vector, 3)
        size = kernel.literal_value
        sums = [[vector(None)] * _REGISTERS for _ in range(filters.literal_value)]
        for line in range(size):
            row = builder.gep(pixels, [builder.mul(pitch, vectors.INDEX(line))])
            for column in range(size):
                first_pixel = builder.gep(row, [vectors.INDEX(column)])
                loaded = [vectors.load(builder, first_pixel, vector, number) for number in range(_REGISTERS)]
                for f, of_filter in enumerate(sums):
                    tap = vectors.INDEX((f * size + line) * size + column)
                    weight = vectors.everywhere(builder, builder.load(builder.gep(of_filters, [tap])), vector)
                    for number, values in enumerate(loaded):
                        of_filter[number] = builder.call(multiply_add, [weight, values, of_filter[number]])
        for f, of_filter in enumerate(sums):
            first_column = builder.gep(target, [builder.mul(step, vectors.INDEX(f))])
            for number, value in enumerate(of_filter):
                vectors.store_some(builder, value, first_column, number, columns)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(product, whole, whole, x, whole, whole, weights, whole, whole, filters, kernel), generate


@numba.njit(error_model="numpy")
def _set_rows(product, to, x, at, pitch, weights, first, height, width, filters, kernel):
    """Do what `_set_columns` does, for the whole product of an image."""
    for y in range(height):
        for column in range(0, width, _REGISTERS * _LANES):
            _set_columns(
                product, to + y * width + column, height * width, x, at + y * pitch + column, pitch,
                weights, first, width - column, filters, kernel,
            )  # fmt: skip


@parallel.loop
def _convolution(part, x, weights, product):
    """Set `product`, (N, filters, height, width), for x (N, rows, pitch) and weights (filters, 1, kernel, kernel)."""
    _, rows, pitch = x.shape
    n, filters, height, width = product.shape
    kernel = weights.shape[2]
    flat_x, flat_weights, target = x.reshape(-1), weights.reshape(-1), product.reshape(-1)
    for i in parallel.share(part, n):
        f = 0
        while f < filters:
            to, at, first = (i * filters + f) * height * width, i * rows * pitch, f * kernel * kernel
            several = f + _FILTERS <= filters
            if kernel == 3 and several:
                _set_rows(target, to, flat_x, at, pitch, flat_weights, first, height, width, _FILTERS, 3)
            elif kernel == 3:
                _set_rows(target, to, flat_x, at, pitch, flat_weights, first, height, width, 1, 3)
            elif several:
                _set_rows(target, to, flat_x, at, pitch, flat_weights, first, height, width, _FILTERS, 5)
            else:
                _set_rows(target, to, flat_x, at, pitch, flat_weights, first, height, width, 1, 5)
            f += _FILTERS if several else 1


@intrinsic(prefer_literal=True)
def _add_products(typing_context, sums, to, gradient, at, x, start, pitch, height, width, filters, kernel):
    """Add the products of an image's gradient with the pixels under one row of the kernel, for some filters.

    Those of filter f and a column of the kernel are added up in a register: sums[to + (f * kernel * kernel + column) *
    lanes], and those next to it. The gradient of filter f begins at gradient[at + f * height * width], the pixels at
    x[start], with `pitch` from row to row. Flat arrays; `filters` and `kernel` are literals.
    """

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), _LANES)
        target, of_product, pixels = (
            vectors.address(context, builder, signature, arguments, *place) for place in ((0, 1), (2, 3), (4, 5))
        )
        pitch, height, width = arguments[6:9]
        multiply_add = vectors.function(builder, "fmuladd", vector, 3)
        size = kernel.literal_value
        places = [(f, column) for f in range(filters.literal_value) for column in range(size)]
        kept = {place: cgutils.alloca_once(builder, vector) for place in places}
        for (f, column), register in kept.items():
            builder.store(vectors.load(builder, target, vector, f * size * size + column), register)
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
            vectors.store(builder, builder.load(register), target, f * size * size + column)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(sums, whole, gradient, whole, x, whole, whole, whole, whole, filters, kernel), generate


@parallel.loop
def _gradient_of_weights(part, x, gradient, sums):
    """Set `sums`, (filters, kernel, kernel, lanes), which are to be added up over the lanes."""
    _, rows, pitch = x.shape
    n, filters, height, width = gradient.shape
    kernel = sums.shape[1]
    flat_x, flat_gradient, target = x.reshape(-1), gradient.reshape(-1), sums.reshape(-1)
    for task in parallel.share(part, (filters + _FILTERS_OF_WEIGHTS - 1) // _FILTERS_OF_WEIGHTS):
        low, high = task * _FILTERS_OF_WEIGHTS, min(filters, (task + 1) * _FILTERS_OF_WEIGHTS)
        sums[low:high] = np.float32(0)
        for i in range(n):
            f = low
            while f < high:
                at = (i * filters + f) * height * width
                several = high - f == _FILTERS_OF_WEIGHTS
                for line in range(kernel):
                    to, start = (f * kernel + line) * kernel * _LANES, (i * rows + line) * pitch
                    if kernel == 3 and several:
                        _add_products(
                            target, to, flat_gradient, at, flat_x, start, pitch, height, width, _FILTERS_OF_WEIGHTS, 3
                        )
                    elif kernel == 3:
                        _add_products(target, to, flat_gradient, at, flat_x, start, pitch, height, width, 1, 3)
                    elif several:
                        _add_products(
                            target, to, flat_gradient, at, flat_x, start, pitch, height, width, _FILTERS_OF_WEIGHTS, 5
                        )
                    else:
                        _add_products(target, to, flat_gradient, at, flat_x, start, pitch, height, width, 1, 5)
                f += _FILTERS_OF_WEIGHTS if several else 1
