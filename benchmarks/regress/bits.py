"""Whether a change of the code changed a bit of training: a hash of everything after a few steps from fixed draws.

A benchmark trains on random images in a narrower network, with every other setting as published. Then the test images'
scores are computed, and with the binary and real-valued weights what evaluation uses. The hash is over losses, scores
and the engine's whole state. Hashes of two machines or two versions of a framework may differ; those of two checkouts
on one machine must not.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from benchmarks.engine import Engine, open_engine
from benchmarks.recipe import CLASSES, Recipe, load_recipe
from benchmarks.recipe.networks import NETWORKS
from benchmarks.regress.narrow import narrowed

SEED = 1
STEPS = 4  # of training
# GluonCV's networks cannot be narrowed, so they get fewer images.
BATCH, BATCH_OF_NETWORKS = 16, 2
# The narrowest layers that every compiled loop is for: blocks of 32 channels, more units than one word has bits.
FILTERS, UNITS = 32, 72


def narrow_recipe(benchmark: str) -> Recipe:
    """The recipe with a quarter of the filters and units."""
    published = load_recipe(benchmark)
    architecture = published.model.architecture
    if architecture in NETWORKS:
        return published
    narrow = narrowed(architecture, lambda width: max(FILTERS, width // 4), lambda width: max(UNITS, width // 4))
    return load_recipe(benchmark, [f"model.architecture={narrow}"])


def open_uncompiled(engine: str, recipe: Recipe, seed: int, device: str = "cpu", threads: int = 1) -> Engine:
    """An engine as short checks use it: torch's compiler would take longer than they do.

    Raises:
        EngineError: as `open_engine`.
    """
    options = {"compile": "off"} if engine == "torch" else {}
    return open_engine(engine, recipe.model, recipe.image_shape, seed, device, threads, **options)


class Fingerprint(NamedTuple):
    """What a few steps leave behind.

    Attributes:
        hash: of losses, scores and state.
        first_loss: of the first batch, before any update: the same to some digits on every machine.
    """

    hash: str
    first_loss: float


def fingerprint(recipe: Recipe, engine: Engine, steps: int = STEPS) -> Fingerprint:
    """Of so many steps of a freshly opened engine; the last has a smaller batch where the recipe keeps one."""
    keeps = recipe.protocol.remainder == "kept"
    batch = BATCH_OF_NETWORKS if recipe.model.architecture in NETWORKS else BATCH
    count = steps * batch - (batch // 2 if keeps else 0)
    generator = np.random.Generator(np.random.PCG64(SEED))
    images = generator.uniform(-1, 1, (count, *recipe.image_shape)).astype(np.float32)
    labels = generator.integers(0, CLASSES, count)
    options: dict[str, Any] = {"keep_remainder": True} if keeps else {}
    losses = engine.train_epoch(images, labels, np.arange(count), batch, recipe.train.lr_start, **options)
    results = {"losses": losses, "scores": engine.scores(images[: 2 * batch], batch)} | engine.state()
    digest = hashlib.sha256()
    for name, value in sorted(results.items()):
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return Fingerprint(digest.hexdigest()[:16], float(losses[0]))
