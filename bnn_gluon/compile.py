"""Compile ahead: `python -m bnn_gluon.compile` leaves nothing to compile for the catalog's networks.

numba compiles a function when it is first called, and keeps it for all later processes. Processes that begin together
would each compile the same ones: before they begin, this trains a narrow twin of each network for a step.
"""

from __future__ import annotations

import re

import numpy as np

from benchmarks.engine import open_engine
from benchmarks.recipe import Recipe, benchmark_ids, load_recipe
from benchmarks.recipe.networks import NETWORKS
from bnn_gluon.kernels.compiled import kept_in


def compile_all() -> None:
    """Train every network of the catalog that is made of this package's functions, of 8 filters and units a layer."""
    models = {}
    for recipe in map(_narrow, benchmark_ids()):
        if recipe.model.architecture not in NETWORKS:
            models[repr(recipe.model), recipe.image_shape] = recipe
    for recipe in models.values():
        images = np.random.default_rng(0).random((4, *recipe.image_shape), np.float32)
        engine = open_engine("gluon", recipe.model, recipe.image_shape, 0)
        # Of two images a unit's binary inputs may be equal: a standard deviation of 0, which has no gradient.
        with np.errstate(invalid="ignore"):
            engine.train_epoch(images, np.arange(4), np.arange(4), 2, recipe.train.lr_start)
        engine.scores(images, 2)


def _narrow(benchmark: str) -> Recipe:
    recipe = load_recipe(benchmark)
    if recipe.model.architecture in NETWORKS:
        return recipe
    hidden, output = re.split(r"-(?=\d+(?:FC$|C\d+-AP\d+$))", recipe.model.architecture)
    narrow = re.sub(r"\d+(?=C\d|FC)", "8", hidden)
    return load_recipe(benchmark, [f"model.architecture={narrow}-{output}"])


if __name__ == "__main__":
    done = kept_in() / "complete"  # the folder is another for other content of the package
    if not done.exists():
        compile_all()
        done.touch()
