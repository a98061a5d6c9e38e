from __future__ import annotations

import ctypes
import platform

import numpy as np
import pytest

from benchmarks.errors import EngineError
from benchmarks.machine import self_test
from benchmarks.machine.self_test import Products


def dense(x, w, g):
    return Products(x @ w.T, g @ w, g.T @ x)


def convolution(x, w, g):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    of_x = np.zeros_like(x)
    for i, j in np.ndindex(w.shape[2:]):
        part = of_x[:, :, i : i + g.shape[2], j : j + g.shape[3]]
        part += np.tensordot(g, w[:, :, i, j], ([1], [0])).transpose(0, 3, 1, 2)
    product = np.tensordot(windows, w, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)
    return Products(product, of_x, np.tensordot(g, windows, ([0, 2, 3], [0, 2, 3])))


def test_right_products_pass():
    self_test.check_products("engine", dense, convolution)


def rounded(multiply):
    """Its results with the 8 bits of a bfloat16."""

    def to_bfloat16(values):
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
        kept = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) & np.uint64(0xFFFF0000)
        return kept.astype(np.uint32).view(np.float32)

    return lambda *operands: Products(*map(to_bfloat16, multiply(*operands)))


def test_bfloat16_is_right_where_it_is_asked_for_and_wrong_elsewhere():
    self_test.check_products("engine", rounded(dense), rounded(convolution), "bf16")
    with pytest.raises(EngineError, match="engine computes a dense product wrongly"):
        self_test.check_products("engine", rounded(dense), rounded(convolution))


@pytest.mark.parametrize("which", ["dense", "convolution"])
def test_operands_rounded_to_tf32_are_found(which):
    """Which the whole numbers do not show: they fit into its 11 bits."""

    def to_tf32(values):
        bits = np.ascontiguousarray(values).view(np.uint32)
        return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)

    multiply = {"dense": dense, "convolution": convolution}
    right = multiply[which]
    multiply[which] = lambda *operands: right(*map(to_tf32, operands))
    self_test.check_products("engine", **multiply, precision="tf32")
    with pytest.raises(EngineError, match=f"engine computes a {which}.* with a relative error of"):
        self_test.check_products("engine", **multiply)


@pytest.mark.parametrize("channels", [1, 16, 32])
def test_a_gradient_that_is_imprecise_for_one_number_of_channels_is_found(channels):
    def imprecise(x, w, g):
        products = convolution(x, w, g)
        is_real = not np.array_equal(x, np.round(x))
        return products._replace(w_gradient=products.w_gradient * (1 + 1e-4 * (is_real and x.shape[1] == channels)))

    with pytest.raises(EngineError, match=f"{channels} input channels? .w gradient. with a relative error of 0.0001"):
        self_test.check_products("engine", dense, imprecise)


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("which", ["dense", "convolution"])
@pytest.mark.parametrize("change", [1.0, np.nan, np.inf, 0.5])
def test_one_wrong_element_of_any_product_is_found(which, kind, change):
    def spoilt(multiply):
        def spoil(*operands):
            products = list(map(np.array, multiply(*operands)))
            products[kind].flat[-1] += change
            return Products(*products)

        return spoil

    multiply = {"dense": dense, "convolution": convolution}
    multiply[which] = spoilt(multiply[which])
    with pytest.raises(EngineError, match=f"engine computes .*{which}.* wrongly"):
        self_test.check_products("engine", **multiply)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of fenv.h are those of x86-64")
@pytest.mark.parametrize("mode", [0x400, 0x800, 0xC00])  # FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO
def test_a_processor_that_rounds_otherwise_is_found(mode):
    """Which products of whole numbers do not show, and those of real numbers hardly."""
    mathematics = ctypes.CDLL("libm.so.6")
    self_test.check_arithmetic()
    mathematics.fesetround(mode)
    try:
        with pytest.raises(EngineError, match="sums are not rounded to the nearest number in this process"):
            self_test.check_arithmetic()
    finally:
        mathematics.fesetround(0)


@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_in_float64_is_that_of_its_definition(padding):
    draws = np.random.default_rng(0)
    x, w = draws.normal(size=(2, 3, 6, 5)), draws.normal(size=(4, 3, 3, 3))
    g = draws.normal(size=(2, 4, 4 + 2 * padding, 3 + 2 * padding))
    found = self_test.convolution_in_float64(x, w, g, padding)
    around = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    product, of_x, of_w = convolution(np.pad(x, around), w, g)
    np.testing.assert_allclose(found.product, product)
    np.testing.assert_allclose(found.w_gradient, of_w)
    np.testing.assert_allclose(found.x_gradient, of_x[..., padding : 6 + padding, padding : 5 + padding])
