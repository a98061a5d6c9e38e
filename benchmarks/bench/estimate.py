"""What a run will take before anything of it is there: steps, products, time and disk, from its recipe alone.

Time is projected from this machine's best speed of matrix products and copies, and from how far engines came elsewhere
(docs/performance.md, "Hours of a run that was never made"). Nothing here reads or writes a file.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from benchmarks.bench.look_ups import in_evaluation, in_training
from benchmarks.bench.measure import limits_of, moments, update_bytes
from benchmarks.engine import ENGINES
from benchmarks.engine.publication import packed_bytes
from benchmarks.errors import EngineError
from benchmarks.recipe.cost import cost, recipe_shapes
from benchmarks.run.protocol import EVALUATION_BATCH

if TYPE_CHECKING:
    from benchmarks.recipe import Recipe


class Reach(NamedTuple):
    """How far an engine comes.

    of_best: of the machine's best speed of products and copies. signed: time of products with an operand of two or
    three values, over that of real numbers, where they come from tables or bits. call: seconds by device that a layer
    takes in a training step, and in an evaluation batch, beside all of these, however small it is.
    """

    of_best: float
    signed: float
    call: dict[str, float]


# What was measured lies between them, save where other programs were beside.
FASTEST = Reach(1.0, 0.4, {"cpu": 0.2e-3, "gpu": 0.02e-3})
SLOWEST = Reach(0.45, 1.0, {"cpu": 1e-3, "gpu": 0.3e-3})
# Engine and device that make products from tables and bits.
TABLES = ("gluon", "cpu")
# Images of all splits, as `prepare` stores them; a byte a label and, but for stored preprocessings, a byte a value.
IMAGES = {"mnist": 70_000, "mnist-small": 2_400, "cifar10": 60_000, "cifar10-small": 700, "svhn": 630_420}


class MachineSpeed(NamedTuple):
    """What a machine does at its best: matrix products, GFLOP/s, and copying, GB/s (a byte is read and written)."""

    gflops: float
    copy: float


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one run's files.

    training: of its folder while it trains: two checkpoints, the weights that each declares. finished: once it is over.
    record: about. weights: published with the record, 0 where the recipe has none that are.
    """

    training: int
    finished: int
    record: int
    weights: int


def multiply_adds(recipe: Recipe) -> int:
    """Multiply-adds of a training image: forward pass and both gradients, in matrix products and convolutions."""
    return cost(recipe).training_flop_per_image // 2


def training_steps(recipe: Recipe) -> int:
    """Training steps of a whole run."""
    return cost(recipe).training_steps


def projected_seconds(recipe: Recipe, speed: MachineSpeed, engine: str, device: str) -> tuple[float, float]:
    """A whole run on a machine of this speed, training and evaluations, in seconds: at least, at most."""
    return _seconds(recipe, speed, engine, device, FASTEST), _seconds(recipe, speed, engine, device, SLOWEST)


def _seconds(recipe: Recipe, speed: MachineSpeed, engine: str, device: str, reach: Reach) -> float:
    counted = cost(recipe)
    flop = float(counted.training_flop + 2 * counted.multiply_adds * counted.evaluation_images)
    if (engine, device) == TABLES:
        trained, evaluated = in_training(recipe).flop, in_evaluation(recipe).flop
        signed = trained * counted.training_images + evaluated * counted.evaluation_images
        flop -= (1 - reach.signed) * signed
    moved = counted.training_steps * counted.parameters.weights * update_bytes(recipe.model)
    at_best = flop / speed.gflops / 1e9 + moved / speed.copy / 1e9
    layers = sum(shape.multiply_adds > 0 for shape in recipe_shapes(recipe))
    batches = counted.training_steps + counted.evaluation_images / EVALUATION_BATCH
    return at_best / reach.of_best + batches * layers * reach.call[device]


def machine_speed(recipe: Recipe, engine: str, device: str, threads: int, precision: str) -> MachineSpeed:
    """Measure this machine, about a second: products of large matrices and of the recipe's dense layers, and copies.

    Raises:
        EngineError: of this engine and device nothing is known that could be measured, or the device does not work.
    """
    if (engine, device) == ("gluon", "gpu"):
        raise EngineError("the speed of a GPU is measured with torch: the gluon engine's time on one is not projected")
    if device == "gpu":
        torch = importlib.import_module(ENGINES["torch"]).import_torch(threads)
        if not torch.cuda.is_available():
            raise EngineError("torch cannot use the GPU: `python cli.py doctor` says why")
    measured, _ = limits_of(recipe, engine, device, threads, precision)
    square, network, copied = measured.measure()
    return MachineSpeed(max(square, network), copied)


def disk(recipe: Recipe) -> Disk:
    """The files of a run, counted from its settings: a few percent more or less than they take."""
    counted = cost(recipe)
    parameters = 4 * (counted.parameters.total + 2 * counted.parameters.gammas)  # with running means and variances
    checkpoint = parameters + 4 * moments(recipe.model) * counted.parameters.total + 8 * recipe.data.train_images
    record = 6_000 + recipe.train.epochs * (700 if recipe.protocol.evaluates_training else 150)
    return Disk(
        training=2 * (checkpoint + parameters),
        finished=checkpoint + parameters,
        record=record,
        weights=packed_bytes(recipe) or 0,
    )


def data_bytes(recipe: Recipe, *, stored_preprocessing: bool) -> int:
    """The file of the recipe's images as published, or of its preprocessing, if that is one that is stored."""
    values = math.prod(recipe.image_shape)
    return IMAGES[recipe.data.dataset] * (4 * values if stored_preprocessing else values + 1)
