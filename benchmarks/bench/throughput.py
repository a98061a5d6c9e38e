"""Training speed of every contender beside the others, in turn: both engines, and plain PyTorch, eager and compiled.

Each measurement is a process of its own, because frameworks fix their threads when they are loaded; it compiles and
warms up, then times two blocks of training steps and keeps the faster. The contenders take turns within a round, and
every ratio is one within a round, to the contender that is named first: so it does not matter much that machines are
noisy.
"""

from __future__ import annotations

import importlib
import multiprocessing
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.bench.blocks import SEED, WARM_UP_STEPS
from benchmarks.bench.measure import BASELINES
from benchmarks.engine import ENGINES, open_engine
from benchmarks.errors import EngineError
from benchmarks.machine.facts import usable_cores
from benchmarks.recipe import CLASSES, load_recipe

# What can be measured, and what it is called.
CONTENDERS = {
    "torch": "torch engine",
    "gluon": "gluon engine",
    "plain": "plain PyTorch, eager",
    "plain-compiled": "plain PyTorch, torch.compile",
}
BLOCKS = 2


class Conditions(NamedTuple):
    """How many rounds, of how many training steps a block, and where and how precisely they are computed."""

    rounds: int
    steps: int
    device: str
    precision: str


class Throughput(msgspec.Struct, frozen=True):
    """What was measured of a benchmark.

    Attributes:
        milliseconds: of a training step, by contender, a number a round; the first is the one to compare with.
        ratios: how many times as long as the first one's, round by round.
        complaints: why a contender that was asked for could not be measured.
    """

    benchmark: str
    device: str
    precision: str
    cores: int
    milliseconds: dict[str, list[float]]
    ratios: dict[str, list[float]]
    complaints: dict[str, str]


def compare(
    benchmark: str, contenders: Sequence[str], conditions: Conditions, notify: Callable[[str], None]
) -> Throughput:
    """Measure the contenders in turn; one that cannot be measured is left out, and `notify` is told why.

    Raises:
        EngineError: the first of them cannot be measured.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    complaints: dict[str, str] = {}
    for _ in range(conditions.rounds):
        for name in list(times):
            measured = _in_another_process(benchmark, name, conditions)
            if isinstance(measured, float):
                times[name].append(measured)
                continue
            complaint = f"{CONTENDERS[name]}: {measured}"
            if name == contenders[0]:
                raise EngineError(f"{benchmark} could not be measured: {complaint}")
            notify(complaint)
            complaints[name] = measured
            del times[name]
    first = times[contenders[0]]
    ratios = {name: [ms / its for ms, its in zip(found, first, strict=True)] for name, found in times.items()}
    where = (conditions.device, conditions.precision, usable_cores())
    return Throughput(benchmark, *where, times, ratios, complaints)


def to_text(result: Throughput) -> str:
    """The figures as a Markdown table with a heading."""
    first, rounds = next((CONTENDERS[name], len(found)) for name, found in result.milliseconds.items())
    lines = [
        f"{result.benchmark}, {result.precision} on {result.device}, {result.cores} cores; {rounds} rounds",
        "",
        f"| | ms a step, median (min to max) | time / {first}'s, round by round |",
        "|---|--:|--:|",
    ]
    for name, found in result.milliseconds.items():
        spread = f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
        ratios = ", ".join(f"{ratio:.2f}" for ratio in result.ratios[name])
        lines.append(f"| {CONTENDERS[name]} | {spread} | {ratios} |")
    return "\n".join([*lines, ""])


def measure(benchmark: str, contender: str, conditions: Conditions) -> float:
    """Milliseconds of a training step, in this process."""
    recipe = load_recipe(benchmark)
    size, steps = recipe.train.batch_size, conditions.steps
    generator = np.random.Generator(np.random.PCG64(SEED))
    images = generator.standard_normal((steps * size, *recipe.image_shape), np.float32)
    labels, order = generator.integers(CLASSES, size=len(images)), np.arange(len(images))
    options = (recipe.model, recipe.image_shape, SEED)
    if contender in ENGINES:
        trainer = open_engine(contender, *options, conditions.device, None, conditions.precision)
    else:
        importlib.import_module(ENGINES["torch"]).import_torch(usable_cores())
        plain = importlib.import_module(BASELINES["torch"]).PlainEngine
        compiled = contender == "plain-compiled"
        trainer = plain(*options, conditions.device, conditions.precision, compiled=compiled)
    trainer.train_epoch(images, labels, order[: WARM_UP_STEPS * size], size, recipe.train.lr_start)
    times = []
    for _ in range(BLOCKS):
        started = time.perf_counter()
        trainer.train_epoch(images, labels, order, size, recipe.train.lr_start)
        times.append(time.perf_counter() - started)
    return min(times) / steps * 1e3


def _in_another_process(benchmark: str, contender: str, conditions: Conditions) -> float | str:
    """What `measure` gives there, or why it gives nothing."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit a framework that is set up
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(theirs, benchmark, contender, conditions), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is seen here
    try:
        answer: float | str = ours.recv()
    except EOFError:
        return "it ended without a word; is there enough memory?"
    finally:
        process.terminate()
        process.join()
    return answer


def _tell(connection: Connection, benchmark: str, contender: str, conditions: Conditions) -> None:
    """Send what was measured, or why nothing was."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which ends its processes
    warnings.simplefilter("ignore")
    try:
        connection.send(measure(benchmark, contender, conditions))
    except EngineError as error:
        connection.send(str(error))
