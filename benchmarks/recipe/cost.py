"""What a benchmark costs, counted from its recipe alone: parameters, multiply-adds, images and FLOP.

Pure Python, for `show`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from benchmarks.recipe.architecture import LayerShape, Pool, layer_shapes, parse_architecture
from benchmarks.recipe.layerwise import NORM_LEARNED, layer_batch_norms, layer_weights
from benchmarks.recipe.loading import DATASETS, ModelSettings, Recipe
from benchmarks.recipe.networks import NETWORKS, network
from benchmarks.recipe.words import words_of


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a network; running statistics are not counted.

    `binary_bytes` is the size of the quantized weights: a bit for each of `binary_weights`, two for each of
    `ternary_weights`; the other `weights` are real.
    """

    weights: int
    biases: int
    gammas: int
    betas: int
    total: int
    binary_weights: int
    ternary_weights: int
    binary_bytes: int

    @property
    def real_weights(self) -> int:
        """Weights of layers that are not quantized."""
        return self.weights - self.binary_weights - self.ternary_weights


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
            f"{p.total:,} parameters: {p.weights:,} weights ({_sizes(p)}), {p.biases:,} biases, {p.gammas:,} gamma,"
            f" {p.betas:,} beta",
            f"{self.multiply_adds:,} multiply-adds an image; {self.training_flop_per_image:,} FLOP to train on it",
            f"{self.training_images:,} images to train on, in {self.training_steps:,} steps:"
            f" {self.training_flop / 1e12:,.4g} TFLOP; {self.evaluation_images:,} images to evaluate",
        ]


def cost(recipe: Recipe) -> Cost:
    """Count what a run with the recipe's settings takes, overrides included."""
    shapes, data, train = recipe_shapes(recipe), recipe.data, recipe.train
    kept = recipe.protocol.remainder == "kept"
    steps = train.epochs * steps_per_epoch(recipe)
    images = train.epochs * data.train_images if kept else steps * train.batch_size
    evaluated = data.valid_images + DATASETS[data.dataset].test_images
    evaluated += data.train_images if recipe.protocol.evaluates_training else 0
    return Cost(
        parameters=count_parameters(shapes, recipe.model),
        multiply_adds=sum(shape.multiply_adds for shape in shapes),
        training_flop_per_image=training_flop(shapes),
        training_steps=steps,
        training_images=images,
        evaluation_images=train.epochs * evaluated,
        training_flop=images * training_flop(shapes),
    )


def steps_per_epoch(recipe: Recipe) -> int:
    """Batches that an epoch trains on."""
    whole, rest = divmod(recipe.data.train_images, recipe.train.batch_size)
    return whole + (rest > 0 and recipe.protocol.remainder == "kept")


def recipe_shapes(recipe: Recipe) -> list[LayerShape]:
    """The layers of a recipe's network with their shapes."""
    if recipe.model.architecture in NETWORKS:
        return network(recipe.model.architecture).shapes
    return layer_shapes(parse_architecture(recipe.model.architecture), recipe.image_shape)


def count_parameters(shapes: Sequence[LayerShape], model: ModelSettings) -> Parameters:
    """Parameters of a model's network, whose layers have these shapes."""
    linear = [shape for shape in shapes if not isinstance(shape.layer, Pool)]
    biases, gammas, betas = _biases_gammas_and_betas(linear, model)
    kinds: Counter[str] = Counter()
    for shape, kind in zip(linear, layer_weights(model), strict=True):
        kinds[kind] += shape.weights
    of_bits: Counter[int | None] = Counter()
    for kind, count in kinds.items():
        of_bits[words_of("model.weights")[kind].bits] += count
    binary, ternary = of_bits[1], of_bits[2]
    return Parameters(
        weights=kinds.total(),
        biases=biases,
        gammas=gammas,
        betas=betas,
        total=kinds.total() + biases + gammas + betas,
        binary_weights=binary,
        ternary_weights=ternary,
        binary_bytes=-(-(binary + 2 * ternary) // 8),
    )


def _biases_gammas_and_betas(linear: Sequence[LayerShape], model: ModelSettings) -> tuple[int, int, int]:
    """How many there are of each, in linear layers of these shapes and the normalizations behind them."""
    if model.architecture in NETWORKS:
        named = network(model.architecture)
        return named.biases, sum(named.norms), sum(named.norms)
    channels = [shape.output_shape[0] for shape in linear]
    learned: Counter[str] = Counter()
    for count, kind in zip(channels, layer_batch_norms(model), strict=True):
        for word in NORM_LEARNED[kind]:
            learned[word] += 1 if kind == "tensor" else count
    return sum(channels) if model.biases else 0, learned["gamma"], learned["beta"]


def _sizes(p: Parameters) -> str:
    """What the weights take: of each kind its size, and of all as float32."""
    sizes = [f"{p.weights * 4 / 2**20:.1f} MiB as float32"]
    if p.binary_bytes:
        bits = "bits" if not p.ternary_weights else "one or two bits"
        rest = f" beside {p.real_weights * 4 / 2**20:.2f} MiB that stay real" if p.real_weights else ""
        sizes.insert(0, f"{p.binary_bytes / 2**20:.2f} MiB as {bits}{rest}")
    return ", ".join(sizes)


def training_flop(shapes: Sequence[LayerShape]) -> int:
    """FLOP of a training step per image: 2 x multiply-adds, three times over for each layer.

    Forward pass, gradient of the weights and gradient of the inputs take the same number; the first layer's inputs are
    images, whose gradient nobody needs.
    """
    linear = [shape.multiply_adds for shape in shapes if shape.multiply_adds]
    return 2 * (3 * sum(linear) - linear[0])
