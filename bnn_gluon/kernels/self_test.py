"""Products of the compiled loops, compared with exact ones before an engine may train, as MXNet's are.

Which loops a network may use follows from its layers. Each kind is tried once a process, on a small layer of whole
numbers: every correct product is exact, in whatever order it is summed. See `benchmarks.machine.self_test`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.errors import EngineError
from benchmarks.machine.self_test import convolution_in_float64
from benchmarks.recipe.architecture import Conv, LayerShape
from bnn_gluon.kernels import (
    binary_products,
    choice,
    few_channels,
    sparse_gradients,
    table_convolutions,
    table_products,
)
from bnn_gluon.kernels.convolution_codes import codes_of_bits, codes_of_input, codes_of_turned_weights, codes_of_weights
from bnn_gluon.kernels.dense_tables import DenseTables, pack_written
from bnn_gluon.kernels.sign_bits import bits_of
from bnn_gluon.kernels.sparse_gradients import SparseGradients

if TYPE_CHECKING:
    from benchmarks.engine.layers import Layer

# Large enough that the loops share the work among threads, and that tables are taken.
_BATCH, _INPUTS, _UNITS = 128, 510, 190
_IMAGES, _CHANNELS, _WIDE, _FILTERS, _SIDE = 16, 32, 80, 32, 8
_MANY = 10_000  # images of a batch: what does not pay for so many is not used
_SIGNS, _DROPPED_OUT, _WHOLE = (-1, 1), (-1, 0, 1), (-3, -2, -1, 0, 1, 2, 3)


def check_loops(layers: Sequence[Layer], *, signs: bool) -> None:
    """Try the kinds of products that these layers may have made by compiled loops.

    Args:
        signs: whether any activation has two values.

    Raises:
        EngineError: one of them is wrong, with its kind.
    """
    for layer in layers:
        conv = layer.shape.layer if isinstance(layer.shape.layer, Conv) else None
        place = (0, 0) if conv is None else (conv.kernel, conv.padding)
        if few_channels.applies_to(layer.shape):
            _check_few_channels(*place, layer.shape.input_shape[0])
        elif layer.pool is not None and sparse_gradients.applies_to(layer.shape):
            _check_sparse(*place)
        if layer.quantized and signs:
            _check_signs(*place, conv is not None and layer.shape.input_shape[0] > 32)
        if (layer.quantized or signs) and _may_use_tables(layer.shape):
            _check_dense_tables() if conv is None else _check_convolution_tables(*place)


def _may_use_tables(shape: LayerShape) -> bool:
    if isinstance(shape.layer, Conv):
        return table_convolutions.applies_to(shape)
    inputs, units = shape.fan_in, shape.output_shape[0]
    return table_products.pays(_MANY, inputs, units) or table_products.pays(_MANY, units, inputs)


@functools.cache
def _check_dense_tables() -> None:
    tables = DenseTables()
    for x_values, w_values in ((_WHOLE, _SIGNS), (_SIGNS, _WHOLE), (_DROPPED_OUT, _WHOLE)):
        x, w, g = _operands(0, 0, x_values, w_values)
        found = product, of_x, of_w = [np.empty_like(array) for array in (g, x, w)]
        tables.begin(gradient_of_input=True)
        pack = functools.partial(pack_written, w)
        done = (
            tables.output(x, pack, product),
            tables.gradient_of_input(pack, g, of_x),
            tables.gradient_of_weights(x, g, of_w),
        )
        assert any(done)
        for number, right in enumerate(_right_products(x, w, g, 0)):
            if done[number]:
                _compare("a dense product by tables", found[number], right)


@functools.cache
def _check_convolution_tables(kernel: int, padding: int) -> None:
    x, w, g = _operands(kernel, padding, _SIGNS, _SIGNS)
    product, of_x, of_w = _right_products(x, w, g, padding)
    of_weights, turned, of_input = codes_of_weights(w), codes_of_turned_weights(w), codes_of_input(x)
    assert of_weights is not None
    assert turned is not None
    assert of_input is not None
    convolution, found = table_convolutions.convolution, np.empty_like(g)
    convolution(x, of_weights, kernel, padding, found)
    _compare("a convolution by tables", found, product)
    convolution(g, turned, kernel, kernel - 1 - padding, found := np.empty_like(x))
    _compare("the gradient of a convolution's input by tables", found, of_x)
    table_convolutions.gradient_of_weights(g, of_input, padding, x, found := np.empty_like(w))
    _compare("the gradient of a convolution's weights by tables", found, of_w)
    bits = bits_of(x)
    assert bits is not None
    table_convolutions.gradient_of_weights(g, codes_of_bits(bits, _CHANNELS), padding, x, found := np.empty_like(w))
    _compare("the gradient of a convolution's weights by tables of bits", found, of_w)


@functools.cache
def _check_signs(kernel: int, padding: int, wide: bool) -> None:
    """`wide`: of a convolution of more channels than 32, whose signs are words of 64 bits."""
    x, w, g = _operands(kernel, padding, _SIGNS, _SIGNS, channels=_WIDE if wide else _CHANNELS)
    product = np.empty_like(g)
    done = binary_products.convolution(x, w, padding, product) if kernel else binary_products.dense(x, w, product)
    assert done
    _compare("a product of signs", product, _right_products(x, w, g, padding)[0])


@functools.cache
def _check_few_channels(kernel: int, padding: int, channels: int) -> None:
    x, w, g = _operands(kernel, padding, _WHOLE, _WHOLE, channels)
    right, product, of_w = _right_products(x, w, g, padding), np.empty_like(g), np.empty_like(w)
    few_channels.convolution(x, w, padding, product)
    few_channels.gradient_of_weights(x, g, padding, of_w)
    _compare("a convolution of few channels", product, right[0])
    _compare("the gradient of a convolution of few channels", of_w, right[2])


@functools.cache
def _check_sparse(kernel: int, padding: int) -> None:
    x, w, g = _operands(kernel, padding, _WHOLE, _WHOLE)
    g[..., ::2, :] = 0
    right, of_x, of_w = _right_products(x, w, g, padding), np.empty_like(x), np.empty_like(w)
    SparseGradients(padding).set(x, w, g, of_w, of_x)
    _compare("the gradient of a convolution's input below a pooling", of_x, right[1])
    _compare("the gradient of a convolution's weights below a pooling", of_w, right[2])


def _operands(
    kernel: int, padding: int, x_values: Sequence[int], w_values: Sequence[int], channels: int = _CHANNELS
) -> list[np.ndarray]:
    """x, w and the gradient of their product, of a convolution, or, for kernel 0, of a fully connected layer."""
    draws, side = np.random.default_rng(0), max(_SIDE, kernel)
    shapes: list[tuple[int, ...]] = [(_BATCH, _INPUTS), (_UNITS, _INPUTS), (_BATCH, _UNITS)]
    if kernel:
        shapes = [(_IMAGES, channels, side, side), (_FILTERS, channels, kernel, kernel)]
        shapes.append((_IMAGES, _FILTERS, *[side + 2 * padding - kernel + 1] * 2))
    kinds = zip((x_values, w_values, _WHOLE), shapes, strict=True)
    return [draws.choice(np.array(values, np.float32), shape) for values, shape in kinds]


def _right_products(x: np.ndarray, w: np.ndarray, g: np.ndarray, padding: int) -> tuple[np.ndarray, ...]:
    if x.ndim > 2:
        return tuple(convolution_in_float64(x, w, g, padding))
    x, w, g = (operand.astype(np.float64) for operand in (x, w, g))
    return x @ w.T, g @ w, g.T @ x


def _compare(kind: str, found: np.ndarray, expected: np.ndarray) -> None:
    if not np.array_equal(found, expected):
        raise EngineError(
            f"the compiled loops compute {kind} wrongly on this machine: a product of whole numbers is not what it must"
            f" be; {choice.VARIABLE}={choice.MXNET} in the environment does without them"
        )
