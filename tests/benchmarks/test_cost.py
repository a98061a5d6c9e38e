"""What a benchmark costs, against numbers worked out by hand."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.architecture import layer_shapes, parse_architecture
from benchmarks.cost import cost, count_parameters, training_flop
from benchmarks.recipe import load_recipe


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
    parameters = count_parameters(shapes)
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


def test_binary_bytes_are_rounded_up():
    assert count_parameters(layer_shapes(parse_architecture("3FC"), (1, 1, 3))).binary_bytes == 2  # 9 bits


def test_lines_name_the_numbers():
    text = "\n".join(cost(load_recipe("binaryconnect-mnist")).lines())
    for number in ("10,033,182 parameters", "10,014,720 weights", "12,500,000 images", "125,000 steps", "5,000,000"):
        assert number in text


def test_imports_nothing_heavy():
    code = "import sys, benchmarks.cost; print(sorted({'numpy', 'mxnet', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
