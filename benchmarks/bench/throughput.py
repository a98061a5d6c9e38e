"""Training speed of every contender beside the others, in turn: both engines, and plain PyTorch, eager and compiled.

    python -m benchmarks.bench.throughput binaryconnect-mnist binarynet-cifar10 --rounds 3 --steps 10

Each measurement is a process of its own, because frameworks fix their threads when they are loaded; it compiles and
warms up, then times two blocks of training steps and keeps the faster. The contenders take turns within a round, and
every ratio is one within a round, to the contender that is named first: so it does not matter much that machines are
noisy.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.bench.blocks import SEED, WARM_UP_STEPS
from benchmarks.bench.measure import BASELINES
from benchmarks.engine import DEVICES, ENGINES, PRECISIONS, open_engine
from benchmarks.errors import EngineError, RecipeError
from benchmarks.machine.facts import usable_cores
from benchmarks.paths import REPOSITORY
from benchmarks.recipe import CLASSES, load_recipe

CONTENDERS = ("torch", "gluon", "plain", "plain-compiled")
TITLES = {
    "torch": "torch engine",
    "gluon": "gluon engine",
    "plain": "plain PyTorch, eager",
    "plain-compiled": "plain PyTorch, torch.compile",
}
BLOCKS = 2


def measure(benchmark: str, contender: str, steps: int, device: str, precision: str) -> float:
    """Milliseconds of a training step, in this process."""
    recipe = load_recipe(benchmark)
    size = recipe.train.batch_size
    generator = np.random.Generator(np.random.PCG64(SEED))
    images = generator.standard_normal((steps * size, *recipe.image_shape), np.float32)
    labels, order = generator.integers(CLASSES, size=len(images)), np.arange(len(images))
    options = (recipe.model, recipe.image_shape, SEED)
    if contender in ("torch", "gluon"):
        trainer = open_engine(contender, *options, device, None, precision)
    else:
        importlib.import_module(ENGINES["torch"]).import_torch(usable_cores())
        plain = importlib.import_module(BASELINES["torch"]).PlainEngine
        trainer = plain(*options, device, precision, compiled=contender == "plain-compiled")
    trainer.train_epoch(images, labels, order[: WARM_UP_STEPS * size], size, recipe.train.lr_start)
    times = []
    for _ in range(BLOCKS):
        started = time.perf_counter()
        trainer.train_epoch(images, labels, order, size, recipe.train.lr_start)
        times.append(time.perf_counter() - started)
    return min(times) / steps * 1e3


def main() -> None:
    """Measure, and print a Markdown table for each benchmark."""
    parser = argparse.ArgumentParser(description="Training speed of both engines and of plain PyTorch, side by side.")
    parser.add_argument("benchmarks", nargs="+", metavar="ID")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        (benchmark,), (contender,) = asked.benchmarks, asked.contenders
        try:
            print(json.dumps(measure(benchmark, contender, asked.steps, asked.device, asked.precision)))
        except (EngineError, RecipeError) as error:
            sys.exit(f"{TITLES[contender]}: {error}")
        return
    for benchmark in asked.benchmarks:
        print(_table(benchmark, asked), flush=True)


def _table(benchmark: str, asked: argparse.Namespace) -> str:
    times: dict[str, list[float]] = {name: [] for name in asked.contenders}
    for _ in range(asked.rounds):
        for name in list(times):
            milliseconds = _child(benchmark, name, asked)
            if milliseconds is None:  # it has said why
                del times[name]
            else:
                times[name].append(milliseconds)
    yardstick = asked.contenders[0]
    if yardstick not in times:
        sys.exit(f"{benchmark} could not be measured")
    head = f"{benchmark}, {asked.precision} on {asked.device}, {usable_cores()} cores; {asked.rounds} rounds"
    lines = [
        head,
        "",
        f"| | ms a step, median (min to max) | time / {TITLES[yardstick]}'s, round by round |",
        "|---|--:|--:|",
    ]
    for name, found in times.items():
        ratios = [ms / its for ms, its in zip(found, times[yardstick], strict=True)]
        spread = f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
        lines.append(f"| {TITLES[name]} | {spread} | {', '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    return "\n".join([*lines, ""])


def _child(benchmark: str, contender: str, asked: argparse.Namespace) -> float | None:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.bench.throughput", "--child", benchmark]
    command += ["--contenders", contender, "--steps", str(asked.steps), "--device", asked.device]
    command += ["--precision", asked.precision]
    result = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, check=False
    )
    return None if result.returncode else float(json.loads(result.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
