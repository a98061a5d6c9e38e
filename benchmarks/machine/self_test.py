"""A product of each kind, compared with whole numbers, before an engine may train.

Operands are small whole numbers, so every correct product is exact, in whatever order it is summed. Each is checked
without multiplying matrices again (Freivalds, 1977): for a random vector r of whole numbers, C r must equal A (B r).
A wrong element of C goes unnoticed with a probability below one in a million. Small whole numbers are exact in fewer
bits, too: so in float32 products of real numbers are compared with float64. All in all it takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.errors import EngineError

_BATCH, _INPUTS, _UNITS = 128, 512, 192  # large enough that every library shares the work among its threads
_IMAGES, _CHANNELS, _SIDE, _FILTERS, _KERNEL = 8, 16, 14, 16, 3
# (input channels, kernel) of convolutions of real numbers. Libraries choose among many ways of computing them: on an
# H100 cuDNN's gradient of the weights of one channel was wrong by a thousandth, others right.
_CONVOLUTIONS = ((_CHANNELS, _KERNEL), (1, 5), (32, 5))
_BFLOAT16 = 2.0**-8  # largest relative error of rounding to bfloat16
# Of products in float32, by root mean squares: theirs was below 1e-6 on CPUs and GPUs, that of TF32 is 3e-4.
_FLOAT32 = 2e-5


class Products(NamedTuple):
    """What a framework makes of x, w and the gradient g of the product x w: product, gradient of x, gradient of w."""

    product: np.ndarray
    x_gradient: np.ndarray
    w_gradient: np.ndarray


# (x, w, g) float32 -> Products. Dense: x (batch, inputs), w (units, inputs), g (batch, units). Convolution, without
# padding: x (images, channels, rows, columns), w (filters, channels, 3, 3), g as its output.
Multiply = Callable[[np.ndarray, np.ndarray, np.ndarray], Products]


def check_products(engine: str, dense: Multiply, convolution: Multiply, precision: str = "float32") -> None:
    """Compare an engine's products, and NumPy's, with whole numbers.

    Raises:
        EngineError: one of them is wrong, with its kind.
    """
    check_arithmetic()
    tolerance = _BFLOAT16 if precision == "bf16" else 0.0
    x, w, g = _dense_operands()
    _check_dense(engine, x, w, g, dense(x, w, g), tolerance)
    for dtype in ("float32", "float64"):
        a, b, c = x.astype(dtype), w.astype(dtype), g.astype(dtype)
        _check_dense(f"NumPy ({dtype})", x, w, g, Products(np.matmul(a, b.T), np.matmul(c, b), np.matmul(c.T, a)), 0.0)
    x, w, g = _convolution_operands()
    _check_convolution(engine, x, w, g, convolution(x, w, g), tolerance)
    if precision == "float32":
        _check_rounding(engine, dense, convolution)


def check_arithmetic() -> None:
    """Whether this thread's processor computes as IEEE 754 says by default; a library may have set it otherwise.

    Raises:
        EngineError: it does not.
    """
    one, little = np.float32(1), np.float32(2.0**-26)  # a quarter of the distance to the number below
    complaint = ""
    if not one + little == one == one - little:  # first: powers of two are not exact either then
        complaint = "sums are not rounded to the nearest number"
    elif np.float32(2.0**-149) * one == 0:
        complaint = "numbers below 1e-38 are taken for zero"
    if complaint:
        raise EngineError(
            f"{complaint} in this process (a library was loaded that set the processor so): the results would differ;"
            " start again without LD_PRELOAD and PYTHONPATH"
        )


def _dense_operands() -> tuple[np.ndarray, ...]:
    return _whole_numbers((_BATCH, _INPUTS), (_UNITS, _INPUTS), (_BATCH, _UNITS))


def _convolution_operands() -> tuple[np.ndarray, ...]:
    side = _SIDE - _KERNEL + 1
    return _whole_numbers(
        (_IMAGES, _CHANNELS, _SIDE, _SIDE), (_FILTERS, _CHANNELS, _KERNEL, _KERNEL), (_IMAGES, _FILTERS, side, side)
    )


def _whole_numbers(*shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    draws = np.random.default_rng(0)
    return tuple(draws.integers(-3, 4, shape).astype(np.float32) for shape in shapes)


def _real_numbers(*shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    draws = np.random.default_rng(0)
    return tuple(draws.normal(size=shape).astype(np.float32) for shape in shapes)


def _check_rounding(engine: str, dense: Multiply, convolution: Multiply) -> None:
    """Whether operands keep the 24 bits of float32; TF32 rounds them to 11, bfloat16 to 8."""
    operands = _real_numbers((_BATCH, _INPUTS), (_UNITS, _INPUTS), (_BATCH, _UNITS))
    x, w, g = (operand.astype(np.float64) for operand in operands)
    _compare_rounding(engine, "a dense product", dense(*operands), Products(x @ w.T, g @ w, g.T @ x))
    for channels, kernel in _CONVOLUTIONS:
        _check_rounding_of_convolution(engine, convolution, channels, kernel)


def _check_rounding_of_convolution(engine: str, convolution: Multiply, channels: int, kernel: int) -> None:
    side = _SIDE - kernel + 1
    operands = _real_numbers(
        (_IMAGES, channels, _SIDE, _SIDE), (_FILTERS, channels, kernel, kernel), (_IMAGES, _FILTERS, side, side)
    )
    x, w, g = operands
    expected = convolution_in_float64(x, w, g)
    kind = f"a convolution of {kernel} x {kernel}, {channels} input channel{'s' if channels > 1 else ''}"
    _compare_rounding(engine, kind, convolution(*operands), expected)


def convolution_in_float64(x: np.ndarray, w: np.ndarray, g: np.ndarray, padding: int = 0) -> Products:
    """What `Multiply` says of a convolution, padded with zeros; exact for small whole numbers."""
    x, w, g = (np.asarray(operand, np.float64) for operand in (x, w, g))
    around = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    x, (rows, columns) = np.pad(x, around), x.shape[2:]
    found = Products(np.zeros_like(g), np.zeros_like(x), np.zeros_like(w))
    for i, j in np.ndindex(w.shape[2:]):
        window = (..., slice(i, i + g.shape[2]), slice(j, j + g.shape[3]))
        part = x[window]
        found.product[:] += np.tensordot(w[:, :, i, j], part, ([1], [1])).swapaxes(0, 1)
        found.x_gradient[window] += np.tensordot(w[:, :, i, j], g, ([0], [1])).swapaxes(0, 1)
        found.w_gradient[:, :, i, j] = np.tensordot(g, part, ([0, 2, 3], [0, 2, 3]))
    inside = found.x_gradient[..., padding : padding + rows, padding : padding + columns]
    return found._replace(x_gradient=inside)


def _compare_rounding(engine: str, kind: str, got: Products, expected: Products) -> None:
    for part, result, right in zip(Products._fields, got, expected, strict=True):
        error = float(np.linalg.norm(result - right) / np.linalg.norm(right))
        if not error <= _FLOAT32:
            raise EngineError(
                f"{engine} computes {kind} ({part.replace('_', ' ')}) with a relative error of {error:.1g}, expected"
                f" at most {_FLOAT32:.1g} in float32: something rounds its operands to fewer bits; `python cli.py"
                " doctor` says what is unusual here"
            )


def _random_vector(size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 2**20, size)


def _check_dense(engine: str, x: np.ndarray, w: np.ndarray, g: np.ndarray, got: Products, tolerance: float) -> None:
    x, w, g = (operand.astype(np.int64) for operand in (x, w, g))
    for kind, result, left, right in (
        ("a dense product", got.product, x, w.T),
        ("the gradient of a dense product's input", got.x_gradient, g, w),
        ("the gradient of a dense product's weights", got.w_gradient, g.T, x),
    ):
        r = _random_vector(right.shape[1])
        _compare(engine, kind, result, r, left @ (right @ r), tolerance)


def _check_convolution(
    engine: str, x: np.ndarray, w: np.ndarray, g: np.ndarray, got: Products, tolerance: float
) -> None:
    x, w, g = (operand.astype(np.int64) for operand in (x, w, g))
    side = _SIDE - _KERNEL + 1
    taps = [(i, j, (slice(i, i + side), slice(j, j + side))) for i in range(_KERNEL) for j in range(_KERNEL)]

    r = _random_vector(_FILTERS)
    combined = np.tensordot(r, w, 1)  # of all filters: (channels, 3, 3)
    expected = sum(np.einsum("ncyx,c->nyx", x[:, :, *part], combined[:, i, j]) for i, j, part in taps)
    _compare(engine, "a convolution", np.moveaxis(got.product, 1, -1), r, np.asarray(expected), tolerance)
    combined = np.einsum("nfyx,f->nyx", g, r)
    expected = np.stack([np.einsum("nyx,ncyx->c", combined, x[:, :, *part]) for *_, part in taps], axis=-1)
    w_gradient = np.moveaxis(got.w_gradient, 0, -1)
    _compare(
        engine, "the gradient of a convolution's weights", w_gradient, r,
        expected.reshape(w_gradient.shape[:-1]), tolerance,
    )  # fmt: skip

    r = _random_vector(_CHANNELS)
    combined = np.einsum("fcij,c->fij", w, r)
    expected = np.zeros((_IMAGES, _SIDE, _SIDE), np.int64)
    for i, j, part in taps:
        expected[:, *part] += np.einsum("nfyx,f->nyx", g, combined[:, i, j])
    x_gradient = np.moveaxis(got.x_gradient, 1, -1)
    _compare(engine, "the gradient of a convolution's input", x_gradient, r, expected, tolerance)


def _compare(engine: str, kind: str, result: np.ndarray, r: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Whether `result` (..., n), times `r` (n,), is `expected` (...), up to rounding of each element by `tolerance`."""
    # Whole numbers from here on, which NumPy multiplies without a library. Rounded to bfloat16 they stay whole.
    values = np.where(np.isfinite(result), result, 0).astype(np.int64)
    allowed = tolerance * (np.abs(values) @ r)
    if np.any(values != result) or np.any(np.abs(values @ r - expected) > allowed):
        raise EngineError(
            f"{engine} computes {kind} wrongly on this machine: a product of whole numbers is not what it must be;"
            " `python cli.py doctor` says what is unusual here"
        )
