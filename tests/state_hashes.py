"""The hashes of benchmarks/regress/bits.py: one line a benchmark, "benchmark engine hash".

    python tests/state_hashes.py > before.txt  # in one checkout, then in the other
    diff before.txt after.txt

Of each benchmark of the catalog, or of those whose names are given (or begin like them). `python cli.py regress`
compares such hashes with stored ones; this compares two checkouts, and knows GPUs, threads and longer training.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.engine import ENGINES
from benchmarks.errors import EngineError
from benchmarks.recipe import benchmark_ids
from benchmarks.regress.bits import SEED, STEPS, fingerprint, narrow_recipe, open_uncompiled


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks, or how their names begin")
    parser.add_argument("--engine", choices=list(ENGINES), default="gluon")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS, help="of training")
    arguments = parser.parse_args()
    chosen = [name for name in benchmark_ids() if name.startswith(tuple(arguments.names or [""]))]
    if not chosen:
        parser.error(f"no benchmark's name begins with {' or '.join(arguments.names)}")
    for benchmark in chosen:
        recipe = narrow_recipe(benchmark)
        try:
            engine = open_uncompiled(arguments.engine, recipe, SEED, arguments.device, arguments.threads)
        except EngineError as error:
            print(f"{benchmark} left out: {error}", file=sys.stderr)
            continue
        print(benchmark, arguments.engine, fingerprint(recipe, engine, arguments.steps).hash, flush=True)


if __name__ == "__main__":
    main()
