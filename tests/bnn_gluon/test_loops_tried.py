"""A compiled loop that computes wrongly is found when an engine opens."""

from __future__ import annotations

import importlib

import pytest

from benchmarks.engine import open_engine
from benchmarks.errors import EngineError
from benchmarks.recipe import load_recipe

# Settings of a small network that may have a kind of product, and the loop that makes it; all of these are loops that
# write their last argument.
KINDS = {
    "dense tables": ("binaryconnect-mnist", "128FC-10FC", "table_products", "_multiply"),
    "convolution by tables": ("binaryconnect-cifar10", "64C3-64C3-10FC", "table_convolutions", "_convolve"),
    "its gradient": ("binarynet-cifar10", "64C3-64C3-10FC", "table_convolutions", "_set_gradient_of_weights"),
    "signs": ("binarynet-mnist", "16FC-16FC-10FC", "binary_products", "_dense"),
    "convolution of signs": ("binarynet-cifar10", "8C3-8C3-10FC", "binary_products", "_convolution"),
    "dropped out": ("binarynet-mnist", "128FC-128FC-10FC", "ternary_products", "_multiply"),
    "one channel": ("rwth-lenet5-mnist-float", "8C5-MP2-10FC", "few_channels", "_convolution"),
    "gradient of one channel": ("rwth-lenet5-mnist-float", "8C5-MP2-10FC", "few_channels", "_gradient_of_weights"),
    "three channels": ("binarynet-cifar10", "64C3-64C3-10FC", "few_channels", "_convolution"),
    "sparse": ("rwth-lenet5-mnist-float", "32C5-MP2-32C5-MP2-10FC", "sparse_gradients", "_set_gradient_of_weights"),
    "sparse, input": ("rwth-lenet5-mnist-float", "32C5-MP2-32C5-MP2-10FC", "sparse_gradients", "_unblock"),
}


def forget():
    """As in a new process: nothing was tried before."""
    from bnn_gluon.kernels import self_test

    for check in vars(self_test).values():
        if hasattr(check, "cache_clear"):
            check.cache_clear()


def opened(benchmark: str, architecture: str):
    recipe = load_recipe(benchmark, [f"model.architecture={architecture}"])
    return open_engine("gluon", recipe.model, recipe.image_shape, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_that_has_one_number_wrong_is_found(mx, kind, monkeypatch):
    benchmark, architecture, module, name = KINDS[kind]
    kernels = importlib.import_module(f"bnn_gluon.kernels.{module}")
    right = getattr(kernels, name)

    def spoilt(*operands):
        right(*operands)
        operands[-1].reshape(-1)[-1] += 1

    forget()
    opened(benchmark, architecture)
    forget()
    monkeypatch.setattr(kernels, name, spoilt)
    with pytest.raises(
        EngineError, match=r"the compiled loops compute .* wrongly on this machine: .* BNN_KERNELS=mxnet"
    ):
        opened(benchmark, architecture)
    monkeypatch.setenv("BNN_KERNELS", "mxnet")
    opened(benchmark, architecture)


def test_signs_are_tried_as_words_of_64_bits_where_the_network_has_them(mx, monkeypatch):
    from bnn_gluon.kernels import binary_products

    right = binary_products._convolution

    def spoilt(bits, *operands):
        right(bits, *operands)
        operands[-1].reshape(-1)[-1] += bits.itemsize == 8

    monkeypatch.setattr(binary_products, "_convolution", spoilt)
    forget()
    opened("binarynet-cifar10", "32C3-32C3-10FC")
    with pytest.raises(EngineError, match="compute a product of signs wrongly"):
        opened("binarynet-cifar10", "33C3-33C3-10FC")


@pytest.mark.parametrize("architecture", ["64C11v-64C2v-10FC", "64C1-64C9-10FC"])
def test_kernels_of_any_size_are_tried(mx, architecture):
    opened("binarynet-cifar10", architecture)
