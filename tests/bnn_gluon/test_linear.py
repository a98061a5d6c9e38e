"""Padding by a convolution's outermost pixels: NumPy's own, and its adjoint."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.recipe.architecture import Conv, LayerShape
from bnn_gluon.kernels.padding import fold_edge, pad_edge

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))


def random(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(SHAPES, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_padding_is_numpys_and_folding_its_adjoint(shape, padding, seed):
    x = random(shape, seed)
    expected = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode="edge")
    padded = np.empty_like(expected)
    pad_edge(x, padding, padded)
    np.testing.assert_array_equal(padded, expected)
    dy, dx = random(expected.shape, seed + 1), np.empty_like(x)
    fold_edge(dy, padding, dx)
    direction = random(shape, seed + 2)
    moved = np.pad(direction, ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode="edge")
    along = np.vdot(dy.astype(np.float64), moved)
    np.testing.assert_allclose(np.vdot(dx.astype(np.float64), direction), along, rtol=1e-4, atol=1e-4)


def test_a_convolution_of_padded_pixels_has_the_gradients_of_mxnets_operators(mx):
    from bnn_gluon.linear import Linear

    linear = Linear(LayerShape(Conv(4, 3), (2, 6, 5), (4, 6, 5)), add_bias=False, edge=True)
    linear.weight.initialize()
    linear.weight.set_data(mx.nd.array(random((4, 2, 3, 3), 1)))
    x, g = mx.nd.array(random((3, 2, 6, 5), 2)), mx.nd.array(random((3, 4, 6, 5), 3))
    x.attach_grad()
    y = linear.forward(x).asnumpy()
    linear.backward(g)
    found = x.grad.asnumpy(), linear.weight.grad().asnumpy()

    weight = mx.nd.array(random((4, 2, 3, 3), 1))
    weight.attach_grad()
    with mx.autograd.record():
        padded = mx.nd.pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 1, 1))
        z = mx.nd.Convolution(padded, weight, kernel=(3, 3), num_filter=4, no_bias=True)
    z.backward(g)
    np.testing.assert_allclose(y, z.asnumpy(), rtol=1e-5, atol=1e-5)
    for value, expected in zip(found, (x.grad.asnumpy(), weight.grad.asnumpy()), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(linear.evaluate(x).asnumpy(), y, rtol=1e-6, atol=1e-6)
