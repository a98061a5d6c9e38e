"""How fast an engine trains and evaluates a benchmark here, against what this machine can do.

Machines are noisy, so nothing is said in absolute terms alone: the machine's limits are measured in the same process
and in the same round as the engine, every fraction is taken within a round, and every figure has its median, minimum
and maximum over the rounds. The input is random, of the benchmark's shapes: the speed does not depend on what the
images show. docs/performance.md explains the figures.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.bench.blocks import SEED, Blocks, Trainer
from benchmarks.bench.processes import Options, TrainingProcesses, training_processes
from benchmarks.bench.yardstick import check_known
from benchmarks.engine import Engine, compile_option, open_engine
from benchmarks.errors import EngineError
from benchmarks.machine.facts import peak_memory_mib, usable_cores
from benchmarks.recipe.architecture import Dense, LayerShape
from benchmarks.recipe.cost import Cost, cost, recipe_shapes
from benchmarks.recipe.layerwise import layer_weights
from benchmarks.recipe.networks import NETWORKS
from benchmarks.run.protocol import EVALUATION_BATCH

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings, Recipe

COPY_BYTES = 200 * 10**6  # far larger than any cache
SQUARE = 2048  # rows and columns of the matrices whose product shows the machine's sgemm speed
ATTEMPTS = 3  # a limit is the best of so many
# OpenMP's and OpenBLAS's threads spin for tens of milliseconds after their work, on the cores of what is timed next.
REST_SECONDS = 0.3
# Engine name -> module whose PlainEngine is that framework used as its layers come.
BASELINES = {"gluon": "bnn_gluon.baseline", "torch": "bnn_torch.baseline"}
# (engine, device) -> module whose DeviceLimits measures what the device can do, where that is not the CPU.
LIMITS = {("torch", "gpu"): "bnn_torch.device.limits"}


def _blas_threads() -> int:
    """Threads of NumPy's OpenBLAS, which reads these variables once, when NumPy is imported."""
    values = [os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")]
    set_to = [int(value) for value in values if value.isdigit() and int(value)]
    return min(set_to[0], usable_cores()) if set_to else usable_cores()


BLAS_THREADS = _blas_threads()  # now: opening an engine sets OMP_NUM_THREADS, too late for NumPy


class Spread(msgspec.Struct, frozen=True):
    """Minimum, median and maximum over the rounds."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        values = list(values)
        return cls(min(values), statistics.median(values), max(values))


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one round measured: the machine's limits, then the time of a batch in each block.

    Speeds in GFLOP/s and GB/s (10^9), a copied byte counted as one read and one written. On a GPU `sgemm_*` are the
    GPU's matrix products in the engine's precision. `compiled_ms` is of the baseline behind torch.compile,
    `together_ms` of a step of each of several runs at once.
    """

    sgemm_square: float
    sgemm_network: float
    copy: float
    training_ms: float
    evaluation_ms: float
    baseline_ms: float | None = None
    compiled_ms: float | None = None
    together_ms: float | None = None

    @property
    def sgemm(self) -> float:
        """Peak sgemm: the better of the two shapes."""
        return max(self.sgemm_square, self.sgemm_network)


class Work(msgspec.Struct, frozen=True):
    """What one batch takes: images, FLOP of matrix products and convolutions, and bytes moved by the update."""

    images: int
    flop: int
    bytes: int

    def floor_ms(self, limits: Round) -> float:
        """The time of a batch if products ran at peak sgemm, the update at copy speed, and nothing else were done."""
        return self.flop / limits.sgemm / 1e6 + self.bytes / limits.copy / 1e6


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast batches of `work` go: a training step, or an evaluation batch.

    Attributes:
        ms: time of a batch.
        images_per_second, gflops: of the same blocks; FLOP as `benchmarks.recipe.cost` counts them.
        of_sgemm: gflops over the machine's peak sgemm of the same round.
        floor_ms: `Work.floor_ms` with the limits of each round.
        of_floor: floor over time; 1 would be as fast as the floor model allows.
    """

    work: Work
    ms: Spread
    images_per_second: Spread
    gflops: Spread
    of_sgemm: Spread
    floor_ms: Spread
    of_floor: Spread


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """How fast several runs train at once, a process each.

    Attributes:
        runs, threads: how many, and CPU threads of each.
        taking_turns: why their kernels do not overlap on the GPU; None if they do, and on a CPU.
        ms: time in which each of them makes a step.
        images_per_second: of all of them.
        gain: the same over that of one run alone, round by round; below 1 they had better run one after another.
    """

    runs: int
    threads: int
    taking_turns: str | None
    ms: Spread
    images_per_second: Spread
    gain: Spread


class FullRun(msgspec.Struct, frozen=True):
    """Time of a whole run of the recipe, extrapolated from the medians: without preparing data and storing states."""

    training_seconds: float
    evaluation_seconds: float
    total_seconds: float


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """All that `bench` measured, and from what.

    Attributes:
        data: what the engine was fed with.
        sgemm_threads: of NumPy's OpenBLAS, with which sgemm was measured; the copy used the engine's threads.
        open_seconds, warm_up_seconds: before the first timed block, compilation included (numba keeps its code from
            one process to the next, so the first run on a machine takes longer).
        peak_memory_mib: of this process after warming up, without a data set and before the limits were measured.
        sgemm_square, sgemm_network, copy: the machine's limits, see `Round`.
        baseline: the framework used as its layers come, with `speedup` = its time over the engine's, round by round.
        compiled, compiled_speedup: the same network behind torch.compile, where the engine is torch and compiles.
        device_memory_mib: peak of what the engine had of the GPU's memory, None on a CPU.
        together: several runs at once, if they were asked for.
    """

    benchmark: str
    scoring: bool
    engine: dict[str, Any]
    threads: int
    sgemm_threads: int
    data: str
    repeats: int
    steps: int
    cost: Cost
    open_seconds: float
    warm_up_seconds: float
    peak_memory_mib: float
    sgemm_square: Spread
    sgemm_network: Spread
    copy: Spread
    training: Speed
    evaluation: Speed
    baseline: Speed | None
    speedup: Spread | None
    full_run: FullRun
    rounds: list[Round]
    compiled: Speed | None = None
    compiled_speedup: Spread | None = None
    device_memory_mib: float | None = None
    together: Together | None = None


def bench(
    recipe: Recipe,
    engine_name: str,
    device: str,
    threads: int | None,
    repeats: int,
    steps: int,
    *,
    compare_baseline: bool = False,
    precision: str = "float32",
    compile: str = "auto",
    at_once: int = 1,
) -> BenchResult:
    """Measure an engine on a recipe's network, on random data.

    Args:
        recipe: whose model, batch size and image shape are used.
        engine_name, device, threads: as `open_engine`; all usable cores if threads is None.
        repeats: rounds, at least 1.
        steps: training steps in a round's block, at least 1; it evaluates three times as many images.
        compare_baseline: measure the framework used as its layers come in the same rounds.
        precision, compile: as `open_engine`.
        at_once: if above 1, also measure so many runs side by side in the same rounds.

    Raises:
        EngineError: an engine or device that cannot be had here, or, before anything is opened, an engine without a
            baseline or a recipe that it would not train.
    """
    threads = threads or usable_cores()
    if compare_baseline and engine_name not in BASELINES:
        raise EngineError(f"engine {engine_name!r} has no baseline to compare with: expected {' or '.join(BASELINES)}")
    if compare_baseline and recipe.model.architecture in NETWORKS:
        raise EngineError(
            f"{recipe.model.architecture} has no baseline to compare with: it is made of Gluon's own layers"
        )
    if compare_baseline:
        check_known(engine_name, recipe.model)
    opening = time.perf_counter()
    engine = open_engine(engine_name, recipe.model, recipe.image_shape, SEED, device, threads, precision, compile)
    warming_up = time.perf_counter()
    blocks = Blocks(recipe, steps)
    blocks.warm_up(engine)
    engine.scores(blocks.images[:EVALUATION_BATCH], EVALUATION_BATCH)
    warm, peak_memory = time.perf_counter(), peak_memory_mib()

    trainers: dict[str, Trainer] = {}
    if compare_baseline:
        plain = importlib.import_module(BASELINES[engine_name]).PlainEngine
        if engine_name == "torch":
            trainers["baseline"] = plain(recipe.model, recipe.image_shape, SEED, device, precision)
            if compile_option(engine) == "on":
                trainers["compiled"] = plain(recipe.model, recipe.image_shape, SEED, device, precision, compiled=True)
        else:
            trainers["baseline"] = plain(recipe.model, recipe.image_shape, SEED)
        for trainer in trainers.values():
            blocks.warm_up(trainer)
    machine: _Limits = _Machine(recipe, threads)
    device_memory = None
    if (engine_name, device) in LIMITS:
        module = importlib.import_module(LIMITS[engine_name, device])
        device_memory = module.peak_memory_mib()
        products = _dense_shapes(recipe_shapes(recipe), recipe.train.batch_size)
        machine = module.DeviceLimits(precision, products)
    options = Options(engine_name, device, max(1, threads // at_once), precision, compile)
    with training_processes(recipe, steps, options, at_once if at_once > 1 else 0) as others:
        rounds = [_round(machine, blocks, engine, trainers, others) for _ in range(repeats)]
    return BenchResult(
        benchmark=recipe.id,
        scoring=recipe.scoring,
        engine=engine.describe(),
        threads=threads,
        sgemm_threads=BLAS_THREADS,
        data="random images and labels of the benchmark's shapes",
        repeats=repeats,
        steps=steps,
        open_seconds=warming_up - opening,
        warm_up_seconds=warm - warming_up,
        peak_memory_mib=peak_memory,
        sgemm_square=Spread.of(r.sgemm_square for r in rounds),
        sgemm_network=Spread.of(r.sgemm_network for r in rounds),
        copy=Spread.of(r.copy for r in rounds),
        rounds=rounds,
        device_memory_mib=device_memory,
        together=_together(recipe.train.batch_size, others, rounds) if others.runs else None,
        **_figures(recipe, rounds),
    )


def _round(
    machine: _Limits, blocks: Blocks, engine: Engine, baselines: Mapping[str, Trainer], others: TrainingProcesses
) -> Round:
    square, network, copied = machine.measure()
    return Round(
        sgemm_square=square,
        sgemm_network=network,
        copy=copied,
        training_ms=_rested_ms(lambda: blocks.train(engine)) / blocks.steps,
        evaluation_ms=_rested_ms(lambda: blocks.evaluate(engine)) / blocks.evaluation_batches,
        **{
            f"{name}_ms": _rested_ms(functools.partial(blocks.train, baseline)) / blocks.steps
            for name, baseline in baselines.items()
        },
        together_ms=_rested_ms(others.train) / blocks.steps if others.runs else None,
    )


def update_bytes(model: ModelSettings) -> int:
    """Bytes that the update of a weight moves: it reads gradient, moments and weight, and writes moments, weight and,
    where weights are quantized, the one of the next step; float32."""
    moments = {"sgd": int(model.momentum > 0)}.get(model.optimizer, 2)
    quantized = any(word != "real" for word in layer_weights(model))
    return 4 * (1 + 2 * moments + 2 + quantized)


def _figures(recipe: Recipe, rounds: Sequence[Round]) -> dict[str, Any]:
    """What follows from the measured times: the fields of `BenchResult` that are not measured themselves."""
    counted, images = cost(recipe), recipe.train.batch_size
    step = Work(
        images, images * counted.training_flop_per_image, counted.parameters.weights * update_bytes(recipe.model)
    )
    batch = Work(EVALUATION_BATCH, EVALUATION_BATCH * 2 * counted.multiply_adds, 0)
    training = _speed(step, [r.training_ms for r in rounds], rounds)
    evaluation = _speed(batch, [r.evaluation_ms for r in rounds], rounds)
    others: dict[str, Any] = {}
    for name, speedup in (("baseline", "speedup"), ("compiled", "compiled_speedup")):
        times = [ms for r in rounds if (ms := getattr(r, f"{name}_ms")) is not None]
        others[name] = _speed(step, times, rounds) if times else None
        ratios = [ms / r.training_ms for ms, r in zip(times, rounds, strict=bool(times))]
        others[speedup] = Spread.of(ratios) if ratios else None
    return {
        "cost": counted,
        "training": training,
        "evaluation": evaluation,
        **others,
        "full_run": _full_run(counted, training, evaluation),
    }


class _Limits(Protocol):
    """What is measured in every round beside the engine."""

    def measure(self) -> tuple[float, float, float]:
        """Speed of square products and of the dense layers' products, GFLOP/s, and of copying, GB/s."""


class _Machine:
    """What this machine can do, measured with NumPy on the CPU."""

    def __init__(self, recipe: Recipe, threads: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(SEED))
        self._square = [(self._matrix(SQUARE, SQUARE), self._matrix(SQUARE, SQUARE))]
        self._network = self._dense_products(recipe_shapes(recipe), recipe.train.batch_size)
        self._pool = ThreadPoolExecutor(threads)
        self._source = np.array_split(np.ones(COPY_BYTES // 4, np.float32), threads)
        self._target = [np.zeros_like(part) for part in self._source]

    def measure(self) -> tuple[float, float, float]:
        """Speed of square sgemm and of the dense layers' sgemm, GFLOP/s, and of copying, GB/s."""
        time.sleep(REST_SECONDS)
        square, network = _gflops(self._square), _gflops(self._network)
        time.sleep(REST_SECONDS)
        return square, network, 2 * COPY_BYTES / _best_seconds(self._copy) / 1e9

    def _matrix(self, rows: int, columns: int) -> NDArray[Any]:
        return self._generator.standard_normal((rows, columns), np.float32)

    def _dense_products(self, shapes: Sequence[LayerShape], batch_size: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """The matrix products of a training step in the fully connected layers, as pairs of factors."""
        return [(self._matrix(m, k), self._matrix(k, n)) for m, k, n in _dense_shapes(shapes, batch_size)]

    def _copy(self) -> None:
        for _ in self._pool.map(np.copyto, self._target, self._source):
            pass


def _dense_shapes(shapes: Sequence[LayerShape], batch_size: int) -> list[tuple[int, int, int]]:
    """The matrix products of a training step in the fully connected layers: rows, inner size and columns of each."""
    products = []
    for position, shape in enumerate(shapes):
        if isinstance(shape.layer, Dense):
            units = shape.layer.units
            products += [(batch_size, shape.fan_in, units), (units, batch_size, shape.fan_in)]
            products += [(batch_size, units, shape.fan_in)] if position else []
    return products


def _gflops(products: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    seconds = 0.0
    for left, right in products:
        out = np.empty((left.shape[0], right.shape[1]), np.float32)
        seconds += _best_seconds(functools.partial(np.matmul, left, right, out=out))
    return sum(2 * left.size * right.shape[1] for left, right in products) / seconds / 1e9


def _best_seconds(call: Callable[[], object]) -> float:
    return min(_seconds(call) for _ in range(ATTEMPTS))


def _rested_ms(call: Callable[[], object]) -> float:
    """Milliseconds of a call, after the threads of whatever ran before have come to rest."""
    time.sleep(REST_SECONDS)
    return _seconds(call) * 1e3


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _speed(work: Work, times: Sequence[float], rounds: Sequence[Round]) -> Speed:
    """`times` are the milliseconds of a batch in each round."""
    gflops = [work.flop / ms / 1e6 for ms in times]
    floors = [work.floor_ms(limits) for limits in rounds]
    return Speed(
        work=work,
        ms=Spread.of(times),
        images_per_second=Spread.of(work.images / ms * 1e3 for ms in times),
        gflops=Spread.of(gflops),
        of_sgemm=Spread.of(speed / limits.sgemm for speed, limits in zip(gflops, rounds, strict=True)),
        floor_ms=Spread.of(floors),
        of_floor=Spread.of(floor / ms for floor, ms in zip(floors, times, strict=True)),
    )


def _together(images: int, others: TrainingProcesses, rounds: Sequence[Round]) -> Together:
    """`images` of a batch."""
    times = [(r.training_ms, r.together_ms) for r in rounds if r.together_ms is not None]
    return Together(
        runs=others.runs,
        threads=others.threads,
        taking_turns=others.taking_turns,
        ms=Spread.of(ms for _, ms in times),
        images_per_second=Spread.of(others.runs * images / ms * 1e3 for _, ms in times),
        gain=Spread.of(others.runs * alone / ms for alone, ms in times),
    )


def _full_run(counted: Cost, training: Speed, evaluation: Speed) -> FullRun:
    training_seconds = counted.training_steps * training.ms.median / 1e3
    evaluation_seconds = counted.evaluation_images / evaluation.work.images * evaluation.ms.median / 1e3
    return FullRun(training_seconds, evaluation_seconds, training_seconds + evaluation_seconds)


def to_text(result: BenchResult) -> str:
    """The result as a table and a few lines."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.run.display import duration

    columns = {
        "training": result.training,
        "evaluation": result.evaluation,
        "plain training": result.baseline,
        "plain, torch.compile": result.compiled,
    }
    speeds = {name: speed for name, speed in columns.items() if speed is not None}
    table = Table("median (min to max)", *(f"{name}\na batch of {speed.work.images}" for name, speed in speeds.items()))
    for label, attribute, form in (
        ("ms a batch", "ms", ".2f"),
        ("images/s", "images_per_second", ",.0f"),
        ("GFLOP/s", "gflops", ".1f"),
        ("of peak sgemm", "of_sgemm", ".1%"),
        ("floor, ms", "floor_ms", ".2f"),
        ("of the floor's speed", "of_floor", ".1%"),
    ):
        table.add_row(label, *(_text(getattr(speed, attribute), form) for speed in speeds.values()))
    other = f" ({result.sgemm_threads} threads, the engine {result.threads})" * (result.sgemm_threads != result.threads)
    run, total = result.full_run, duration(result.full_run.total_seconds)
    lines: list[str | Table] = [
        f"{result.benchmark}: {result.repeats} rounds of {result.steps} training steps, on {result.data}",
        f"{result.engine['name']} on {result.engine['device_name']}, {result.threads} threads,"
        f" {result.engine['precision']}",
        table,
        f"sgemm {SQUARE} x {SQUARE}: {_text(result.sgemm_square, '.1f')} GFLOP/s{other}",
        f"sgemm at the dense layers' shapes: {_text(result.sgemm_network, '.1f')} GFLOP/s{other}",
        f"copy: {_text(result.copy, '.1f')} GB/s read and written",
        f"peak memory {result.peak_memory_mib:,.0f} MiB without a data set; opened in {result.open_seconds:.1f} s,"
        f" first steps and evaluation {result.warm_up_seconds:.1f} s with compilation",
        f"a whole run by these medians: {total} (training {duration(run.training_seconds)},"
        f" evaluation {duration(run.evaluation_seconds)})",
    ]
    if result.device_memory_mib is not None:
        lines.append(f"peak memory on the GPU {result.device_memory_mib:,.0f} MiB; its own products and copies above")
    for plain, times in (
        ("plain layers and operators", result.speedup),
        ("with torch.compile", result.compiled_speedup),
    ):
        if times is not None:
            lines.append(f"{plain} take {_text(times, '.2f')} times as long as the engine")
    if result.together is not None:
        lines += _together_lines(result.together)
    buffer = io.StringIO()
    console = Console(file=buffer, width=120, highlight=False, markup=False)
    for line in lines:
        console.print(line, soft_wrap=True)
    return buffer.getvalue()


def _together_lines(together: Together) -> list[str]:
    lines = [
        f"{together.runs} runs at once, {together.threads} threads each: {_text(together.images_per_second, ',.0f')}"
        f" images/s together, {_text(together.gain, '.2f')} times those of one alone"
    ]
    if together.taking_turns is not None:
        lines.append(f"they take turns on the GPU: {together.taking_turns}")
    return lines


def _text(spread: Spread, form: str) -> str:
    return f"{spread.median:{form}} ({spread.min:{form}} to {spread.max:{form}})"
