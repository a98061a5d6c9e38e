"""Each network of RWTH-IDS and of akshaychawla has as many parameters, and layers of the shapes, as the original."""

from __future__ import annotations

import math

import pytest

from benchmarks.engine.layers import layers_of
from benchmarks.recipe import benchmark_ids, load_recipe

# RWTH-IDS/efficient-binary-neural-networks@0c76a5e: the parameters of LeNet5, LeNet5_binary, VGGNet7 and VGGNet7_binary
# (models/lenet.py, models/vgg.py), made with the options of each study and counted in PyTorch.
LENET5, VGGNET7 = 877_536, 10_359_680
# akshaychawla/Binary-Neural-Networks, n_in * n_out + n_out of each layer of mnist_baseline.py and mnist_binary.py, and
# (input_channels * 3 * 3 + 1) * num_filters of each convolution of cifar_conv_baseline.py and cifar_conv_binary.py.
MLP = 785 * 2048 + 2 * 2049 * 2048 + 2049 * 10
CNN = 28 * 50 + 451 * 100 + 901 * 200 + 3201 * 500 + 501 * 10
OTHERS = {
    "rwth-lenet5-mnist-float": 878_154,
    "rwth-lenet5-mnist-xnor": 877_600,
    "rwth-vgg7-cifar10-float": 10_363_530,
    # Less a bias of each real-valued layer, 128 and 10, which batch normalization takes off: the recipes have none.
    "rwth-vgg7-cifar10-l1fp": 10_359_808 - 128,
    "rwth-vgg7-cifar10-lnfp": 10_359_690 - 10,
    "rwth-vgg7-cifar10-l1nfp": 10_359_818 - 138,
    "rwth-vgg7-cifar10-widen2": 28_798_720,
    "rwth-vgg7-cifar10-widen4": 93_103_616,
}
FAMILIES = {"rwth-lenet5": LENET5, "rwth-vgg7": VGGNET7, "chawla-mlp": MLP, "chawla-cnn": CNN}
# Of each linear layer, before pooling; those of RWTH-IDS by forward hooks.
SHAPES = {
    "rwth-lenet5": [(32, 28, 28), (64, 10, 10), (512,), (10,)],
    "rwth-vgg7": [
        *[(128, 30, 30), (128, 30, 30), (256, 15, 15), (256, 15, 15), (512, 7, 7), (512, 7, 7)],
        *[(1024,), (1024,), (10,)],
    ],
    "chawla-mlp": [(2048,), (2048,), (2048,), (10,)],
    "chawla-cnn": [(50, 32, 32), (100, 16, 16), (200, 8, 8), (500,), (10,)],
}
IDS = [name for name in benchmark_ids() if name.startswith(tuple(FAMILIES))]


def family(benchmark: str) -> str:
    return "-".join(benchmark.split("-")[:2])


def test_no_family_is_left_out():
    assert {family(name) for name in IDS} == set(FAMILIES)


@pytest.mark.parametrize("benchmark", IDS)
def test_parameters_and_shapes(benchmark):
    recipe = load_recipe(benchmark)
    layers = layers_of(recipe.model, recipe.image_shape)
    sizes = {name: math.prod(shape) for layer in layers for name, shape in layer.parameters.items()}
    trained = sum(size for name, size in sizes.items() if ".running_" not in name)
    assert trained == OTHERS.get(benchmark, FAMILIES[family(benchmark)])
    widened = {"widen2": 2, "widen4": 4}.get(benchmark.rpartition("-")[2], 1)
    expected = [(shape[0] * widened, *shape[1:]) if len(shape) == 3 else shape for shape in SHAPES[family(benchmark)]]
    assert [layer.shape.output_shape for layer in layers] == expected
