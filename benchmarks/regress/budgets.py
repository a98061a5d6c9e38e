"""The small fixed budget in which each benchmark trains, and what it scores then: docs/regression.md says what it sees.

A budget is a narrower network, few real images and epochs; every other setting is the published one.
"""

from __future__ import annotations

import dataclasses
import re

import msgspec
import numpy as np

from benchmarks.engine import Engine
from benchmarks.recipe import Recipe, load_recipe
from benchmarks.recipe.networks import NETWORKS
from benchmarks.regress.narrow import narrowed
from benchmarks.run import protocol
from data_prep import Dataset, Split


class Budget(msgspec.Struct, frozen=True):
    """What a benchmark is trained with.

    Attributes:
        train_images, epochs: trained on, and how often.
        test_images: evaluated after every epoch.
        filters, units: the most that a layer may have.
        batch_size: where it is not the published one.
    """

    train_images: int
    epochs: int
    test_images: int
    filters: int = 16
    units: int = 128
    batch_size: int | None = None

    def recipe(self, benchmark: str) -> Recipe:
        """The benchmark's recipe within this budget."""
        published = load_recipe(benchmark)
        changes = [f"data.train_images={self.train_images}", f"train.epochs={self.epochs}"]
        if published.data.valid_images:
            changes.append(f"data.valid_images={VALID_IMAGES}")
        if self.batch_size is not None:
            changes.append(f"train.batch_size={self.batch_size}")
        if published.model.architecture not in NETWORKS:
            narrow = narrowed(
                published.model.architecture,
                lambda width: min(self.filters, width),
                lambda width: min(self.units, width),
            )
            changes.append(f"model.architecture={narrow}")
        return load_recipe(benchmark, changes)


VALID_IMAGES = 10  # they choose an epoch, which no budget looks at
DENSE = Budget(1000, 5, 200, units=256)
CONVOLUTIONS = Budget(250, 3, 100)
# LeNet5, akshaychawla's convolutions, and VGGs of twice and four times the width, by their first layers.
SHORT, FIRST_OF_SHORT = Budget(400, 2, 100), {"32C5", "50C3", "256C3v", "512C3v"}
NETWORK, WIDE_NETWORK = Budget(16, 1, 2, batch_size=4), Budget(8, 1, 2, batch_size=4)


def budget_of(benchmark: str) -> Budget:
    """The budget of a benchmark, by the kind of its network."""
    architecture = load_recipe(benchmark).model.architecture
    if architecture in NETWORKS:
        return WIDE_NETWORK if "wide" in architecture else NETWORK
    if architecture.partition("-")[0] in FIRST_OF_SHORT:
        return SHORT
    return CONVOLUTIONS if re.search(r"C\d", architecture) else DENSE


class Scores(msgspec.Struct, frozen=True):
    """What one seed gave; the loss is None where it diverged.

    Attributes:
        loss: mean loss after the last epoch, of the images that `scored` names; of GluonCV's networks the mean training
            loss, because their running statistics are far from those of the data after so few steps.
        error: in percent, of the same images; of GluonCV's networks of the test images, or None where their test loss
            is infinite.
        counted: the same error, counted here from the engine's scores: what the protocol counts must be this.
    """

    loss: float | None
    error: float | None
    counted: float | None = None


def scored(recipe: Recipe) -> str:
    """The images whose loss is looked at: those of training where all labels are random, else those of the test."""
    return "train" if recipe.protocol.evaluates_training and recipe.data.labels == "random" else "test"


def train(engine: Engine, recipe: Recipe, data: Dataset, test_images: int, seed: int) -> Scores:
    """Train by the protocol, with so many test images."""
    few = slice(0, test_images)
    test = Split(data.test.name, data.test.images[few], data.test.labels[few], data.test.digest)
    data = dataclasses.replace(data, test=test)
    progress = protocol.TrainingState(order=np.arange(len(data.train.labels)))
    losses: list[float] = []
    is_network = recipe.model.architecture in NETWORKS
    try:
        for _ in protocol.train(engine, recipe, data, seed, progress, lambda done, loss: losses.append(loss)):
            pass
    except protocol.DivergenceError:
        # The test loss of such a network may be infinite after so few steps: its training loss tells more.
        return Scores(float(np.mean(losses)) if is_network and np.isfinite(losses).all() else None, None)
    of = scored(recipe)
    evaluated = {"train": "train_evaluation_loss", "test": "test_loss"}[of]
    loss = float(np.mean(losses)) if is_network else progress.curve[evaluated][-1]
    return Scores(loss, progress.curve[f"{of}_error"][-1], _counted(engine, getattr(data, of), recipe))


def _counted(engine: Engine, split: Split, recipe: Recipe) -> float:
    """The error in percent, counted one image after the other, as by hand: by nothing that a run counts with."""
    scores = engine.scores(split.images, recipe.protocol.evaluation_batch_size or protocol.EVALUATION_BATCH)
    wrong = sum(list(row).index(max(row)) != label for row, label in zip(scores, split.labels, strict=True))
    return float(100 * wrong / len(split.labels))
