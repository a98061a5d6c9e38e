"""What a benchmark costs, counted from its recipe alone: parameters, multiply-adds, images and FLOP.

Pure Python, for `show`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.architecture import LayerShape, MaxPool, layer_shapes, parse_architecture
from benchmarks.recipe import DATASETS, Recipe


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Trained values of a network; running statistics are not counted.

    `binary_bytes` is the size of the binary weights stored as bits.
    """

    weights: int
    biases: int
    gammas: int
    betas: int
    total: int
    binary_weights: int
    binary_bytes: int


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one run.

    `multiply_adds` is of one forward pass over one image, `training_flop_per_image` of forward and backward pass; only
    matrix products and convolutions are counted. Evaluation images are those of all epochs, validation and test.
    """

    parameters: Parameters
    multiply_adds: int
    training_flop_per_image: int
    training_steps: int
    training_images: int
    evaluation_images: int
    training_flop: int

    def lines(self) -> list[str]:
        """The cost in words, a line a subject."""
        p = self.parameters
        return [
            f"{p.total:,} parameters: {p.weights:,} weights ({p.binary_bytes / 2**20:.2f} MiB as bits,"
            f" {p.weights * 4 / 2**20:.1f} MiB as float32), {p.biases:,} biases, {p.gammas:,} gamma, {p.betas:,} beta",
            f"{self.multiply_adds:,} multiply-adds an image; {self.training_flop_per_image:,} FLOP to train on it",
            f"{self.training_images:,} images to train on, in {self.training_steps:,} steps:"
            f" {self.training_flop / 1e12:,.4g} TFLOP; {self.evaluation_images:,} images to evaluate",
        ]


def cost(recipe: Recipe) -> Cost:
    """Count what a run with the recipe's settings takes, overrides included."""
    shapes = recipe_shapes(recipe)
    steps = recipe.train.epochs * (recipe.data.train_images // recipe.train.batch_size)
    images = steps * recipe.train.batch_size
    return Cost(
        parameters=count_parameters(shapes),
        multiply_adds=sum(shape.multiply_adds for shape in shapes),
        training_flop_per_image=training_flop(shapes),
        training_steps=steps,
        training_images=images,
        evaluation_images=recipe.train.epochs * (recipe.data.valid_images + DATASETS[recipe.data.dataset].test_images),
        training_flop=images * training_flop(shapes),
    )


def recipe_shapes(recipe: Recipe) -> list[LayerShape]:
    """The layers of a recipe's network with their shapes."""
    return layer_shapes(parse_architecture(recipe.model.architecture), recipe.image_shape)


def count_parameters(shapes: Sequence[LayerShape]) -> Parameters:
    """Parameters of a network whose linear layers all have binary weights, a bias and batch normalisation."""
    weights = sum(shape.weights for shape in shapes)
    channels = sum(shape.output_shape[0] for shape in shapes if not isinstance(shape.layer, MaxPool))
    return Parameters(
        weights=weights,
        biases=channels,
        gammas=channels,
        betas=channels,
        total=weights + 3 * channels,
        binary_weights=weights,
        binary_bytes=-(-weights // 8),
    )


def training_flop(shapes: Sequence[LayerShape]) -> int:
    """FLOP of a training step per image: 2 x multiply-adds, three times over for each layer.

    Forward pass, gradient of the weights and gradient of the inputs take the same number; the first layer's inputs are
    images, whose gradient nobody needs.
    """
    linear = [shape.multiply_adds for shape in shapes if shape.multiply_adds]
    return 2 * (3 * sum(linear) - linear[0])
