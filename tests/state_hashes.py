"""Whether a change of the code changed a bit of training: one line a benchmark, "benchmark engine hash".

    python tests/state_hashes.py > before.txt  # in one checkout, then in the other
    diff before.txt after.txt

Each benchmark of the catalog, or those whose names are given (or begin like them), trains for a few steps on random
images in a narrower network, with every other setting as published. Then the test images' scores are computed, and with
the binary and real-valued weights what evaluation uses. The hash is over losses, scores and the engine's whole state.
Hashes of two machines or two versions of a framework may differ; those of two checkouts on one machine must not.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
from narrow import narrowed  # noqa: E402

from benchmarks.engine import ENGINES, Engine, open_engine  # noqa: E402
from benchmarks.errors import EngineError  # noqa: E402
from benchmarks.recipe import CLASSES, Recipe, benchmark_ids, load_recipe  # noqa: E402
from benchmarks.recipe.networks import NETWORKS  # noqa: E402

SEED = 1
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


def hash_of(recipe: Recipe, engine: Engine, steps: int) -> str:
    """Of losses, scores and state after so many steps; the last has a smaller batch where the recipe keeps one."""
    keeps = recipe.protocol.remainder == "kept"
    batch = BATCH_OF_NETWORKS if recipe.model.architecture in NETWORKS else BATCH
    count = steps * batch - (batch // 2 if keeps else 0)
    generator = np.random.Generator(np.random.PCG64(SEED))
    images = generator.uniform(-1, 1, (count, *recipe.image_shape)).astype(np.float32)
    labels = generator.integers(0, CLASSES, count)
    options = {"keep_remainder": True} if keeps else {}
    losses = engine.train_epoch(images, labels, np.arange(count), batch, recipe.train.lr_start, **options)
    results = {"losses": losses, "scores": engine.scores(images[: 2 * batch], batch)} | engine.state()
    digest = hashlib.sha256()
    for name, value in sorted(results.items()):
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks, or how their names begin")
    parser.add_argument("--engine", choices=list(ENGINES), default="gluon")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4, help="of training")
    arguments = parser.parse_args()
    chosen = [name for name in benchmark_ids() if name.startswith(tuple(arguments.names or [""]))]
    if not chosen:
        parser.error(f"no benchmark's name begins with {' or '.join(arguments.names)}")
    for benchmark in chosen:
        recipe = narrow_recipe(benchmark)
        options = {"compile": "off"} if arguments.engine == "torch" else {}
        try:
            engine = open_engine(
                arguments.engine, recipe.model, recipe.image_shape, SEED, arguments.device, arguments.threads, **options
            )
        except EngineError as error:
            print(f"{benchmark} left out: {error}", file=sys.stderr)
            continue
        print(benchmark, arguments.engine, hash_of(recipe, engine, arguments.steps), flush=True)


if __name__ == "__main__":
    main()
