"""What a benchmark costs, against numbers worked out by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.recipe import load_recipe
from benchmarks.recipe.architecture import layer_shapes, parse_architecture
from benchmarks.recipe.cost import cost, training_flop


def test_mlp():
    counted = cost(load_recipe("binaryconnect-mnist"))
    weights = 784 * 2048 + 2 * 2048 * 2048 + 2048 * 10
    channels = 3 * 2048 + 10
    assert counted.parameters.weights == counted.parameters.binary_weights == weights == 10_014_720
    assert counted.parameters.biases == counted.parameters.gammas == counted.parameters.betas == channels
    assert counted.parameters.total == weights + 3 * channels
    assert counted.parameters.binary_bytes == 1_251_840
    assert counted.multiply_adds == weights
    # No gradient of the images.
    assert counted.training_flop_per_image == 6 * weights - 2 * 784 * 2048
    assert counted.training_steps == 250 * 500
    assert counted.training_images == 250 * 50_000
    assert counted.evaluation_images == 250 * 20_000
    assert counted.training_flop == counted.training_images * counted.training_flop_per_image


def test_convolutional_network():
    text = "2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-2x1024FC-10FC"
    shapes = layer_shapes(parse_architecture(text), (3, 32, 32))
    filters = [3 * 128, 128 * 128, 128 * 256, 256 * 256, 256 * 512, 512 * 512]
    pixels = [32 * 32, 32 * 32, 16 * 16, 16 * 16, 8 * 8, 8 * 8]
    dense = 512 * 4 * 4 * 1024 + 1024 * 1024 + 1024 * 10
    multiply_adds = sum(9 * f * p for f, p in zip(filters, pixels, strict=True)) + dense
    parameters = cost(load_recipe("binarynet-cifar10")).parameters
    assert parameters.weights == 9 * sum(filters) + dense
    assert parameters.biases == 2 * (128 + 256 + 512 + 1024) + 10
    assert sum(shape.multiply_adds for shape in shapes) == multiply_adds == 616_966_144
    assert training_flop(shapes) == 6 * multiply_adds - 2 * 9 * 3 * 128 * 32 * 32
    assert round(50 * training_flop(shapes) / 1e9) == 185  # of one step with 50 images


def test_overrides_count_and_partial_batches_do_not():
    counted = cost(
        load_recipe("binaryconnect-mnist", ["train.epochs=3", "data.train_images=1050", "data.valid_images=70"])
    )
    assert (counted.training_steps, counted.training_images) == (30, 3000)
    assert counted.evaluation_images == 3 * (70 + 10_000)


def test_a_kept_remainder_is_a_step_and_evaluated_training_images_count():
    dropped = ["train.epochs=3", "data.train_images=1050", "data.valid_images=70"]
    counted = cost(load_recipe("binaryconnect-mnist", [*dropped, "protocol.remainder=kept"]))
    assert (counted.training_steps, counted.training_images) == (33, 3150)
    counted = cost(load_recipe("binaryconnect-mnist", [*dropped, "protocol.evaluates_training=true"]))
    assert counted.evaluation_images == 3 * (70 + 10_000 + 1050)


def test_binary_bytes_are_rounded_up():
    recipe = load_recipe("binaryconnect-mnist", ["model.architecture=3FC-10FC"])
    assert cost(recipe).parameters.binary_bytes == 298  # 2382 bits


# Of models/lenet.py and models/vgg.py: nn.Conv2d(in, out, (k, k)) has in * out * k * k weights.
LENET = 1 * 32 * 5 * 5 + 32 * 64 * 5 * 5 + 64 * 5 * 5 * 512 + 512 * 10
VGG_CONVOLUTIONS = 9 * (3 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512)
VGG = VGG_CONVOLUTIONS + 512 * 3 * 3 * 1024 + 1024 * 1024 + 1024 * 10
LENET_CHANNELS, VGG_CHANNELS = 32 + 64 + 512, 2 * (128 + 256 + 512 + 1024)


@pytest.mark.parametrize(
    ("benchmark", "weights", "biases", "channels", "binary_bytes"),
    [
        # No biases; the last batch normalization has no gamma and beta.
        ("rwth-lenet5-mnist-binary", LENET, 0, LENET_CHANNELS, 109_540),
        ("rwth-vgg7-cifar10-binary", VGG, 0, VGG_CHANNELS, 1_294_000),
        ("rwth-lenet5-mnist-float", LENET, LENET_CHANNELS + 10, LENET_CHANNELS, 0),
        ("rwth-vgg7-cifar10-float", VGG, VGG_CHANNELS + 10, VGG_CHANNELS, 0),
        # Two bits a ternary weight, none for a real one.
        ("rwth-vgg7-cifar10-tern5", VGG, 0, VGG_CHANNELS, 2 * 1_294_000),
        ("rwth-vgg7-cifar10-l1t", VGG, 0, VGG_CHANNELS, 1_294_000 + 9 * 3 * 128 // 8),
        ("rwth-vgg7-cifar10-l1nfp", VGG, 0, VGG_CHANNELS, 1_294_000 - (9 * 3 * 128 + 1024 * 10) // 8),
        # Of layers.py, Dense and Conv2D: no batch normalization.
        ("chawla-mlp-mnist-binary", 10_014_720, 3 * 2048 + 10, 0, 1_251_840),
        ("chawla-cnn-cifar10-float", 9 * (150 + 5000 + 20_000) + 3200 * 500 + 5000, 350 + 500 + 10, 0, 0),
    ],
)
def test_parameters_are_those_of_the_original(benchmark, weights, biases, channels, binary_bytes):
    counted = cost(load_recipe(benchmark)).parameters
    assert (counted.weights, counted.biases, counted.gammas, counted.betas) == (weights, biases, channels, channels)
    assert counted.total == weights + biases + 2 * channels
    assert counted.binary_bytes == binary_bytes


def test_lines_say_what_is_not_stored_as_bits():
    lines = {name: cost(load_recipe(f"rwth-vgg7-cifar10-{name}")).lines()[0] for name in ("float", "l1nfp", "tern5")}
    assert "weights (39.5 MiB as float32)" in lines["float"]
    assert "1.23 MiB as bits beside 0.05 MiB that stay real, 39.5 MiB as float32" in lines["l1nfp"]
    assert "2.47 MiB as one or two bits, " in lines["tern5"]


def test_lines_name_the_numbers():
    text = "\n".join(cost(load_recipe("binaryconnect-mnist")).lines())
    for number in ("10,033,182 parameters", "10,014,720 weights", "12,500,000 images", "125,000 steps", "5,000,000"):
        assert number in text


def test_imports_nothing_heavy():
    code = "import sys, benchmarks.recipe.cost; print(sorted({'numpy', 'mxnet', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
