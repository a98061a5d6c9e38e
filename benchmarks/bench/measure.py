"""How fast an engine trains and evaluates a benchmark here, against what this machine can do.

Machines are noisy, so nothing is said in absolute terms alone: the machine's limits are measured in the same process
and in the same round as the engine, every fraction is taken within a round, and every figure has its median, minimum
and maximum over the rounds. The input is random, of the benchmark's shapes: the speed does not depend on what the
images show. docs/performance.md explains the figures.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.bench.blocks import SEED, Blocks, Trainer
from benchmarks.bench.limits import BLAS_THREADS, Limits, MachineLimits, _rested_ms, dense_shapes
from benchmarks.bench.look_ups import in_evaluation, in_training
from benchmarks.bench.model import BenchResult, FullRun, Round, Speed, Spread, Together, Work
from benchmarks.bench.processes import Options, TrainingProcesses, training_processes
from benchmarks.bench.yardstick import check_known
from benchmarks.engine import Engine, compile_option, open_engine
from benchmarks.errors import EngineError
from benchmarks.machine.facts import peak_memory_mib, usable_cores
from benchmarks.recipe.cost import Cost, cost, recipe_shapes
from benchmarks.recipe.layerwise import layer_weights
from benchmarks.recipe.networks import NETWORKS
from benchmarks.run.protocol import EVALUATION_BATCH

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings, Recipe

# Engine name -> module whose PlainEngine is that framework used as its layers come.
BASELINES = {"gluon": "bnn_gluon.baseline", "torch": "bnn_torch.baseline"}
# (engine, device) -> module whose DeviceLimits measures what the device can do, where that is not the CPU.
LIMITS = {("torch", "gpu"): "bnn_torch.device.limits"}
# The same -> module whose `lines_per_second` measures the limit of products that come from tables.
LINE_LOADS = {("gluon", "cpu"): "bnn_gluon.kernels.line_loads"}


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
    if compare_baseline:
        _check_baseline(engine_name, recipe)
    opening = time.perf_counter()
    engine = open_engine(engine_name, recipe.model, recipe.image_shape, SEED, device, threads, precision, compile)
    warming_up = time.perf_counter()
    blocks = Blocks(recipe, steps)
    blocks.warm_up(engine)
    engine.scores(blocks.images[:EVALUATION_BATCH], EVALUATION_BATCH)
    warm, peak_memory = time.perf_counter(), peak_memory_mib()
    trainers = _baselines(engine, engine_name, recipe, device, precision) if compare_baseline else {}
    for trainer in trainers.values():
        blocks.warm_up(trainer)
    machine, device_memory = limits_of(recipe, engine_name, device, threads, precision)
    options = Options(engine_name, device, max(1, threads // at_once), precision, compile)
    with training_processes(recipe, steps, options, at_once if at_once > 1 else 0) as others:
        rounds = [_round((machine, _line_loads(engine)), blocks, engine, trainers, others) for _ in range(repeats)]
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
        device_memory_mib=device_memory,
        together=_together(recipe.train.batch_size, others, rounds) if others.runs else None,
        **_figures(recipe, rounds),
    )


def limits_of(
    recipe: Recipe, engine_name: str, device: str, threads: int, precision: str
) -> tuple[Limits, float | None]:
    """What measures the limits of the device, and the device's memory that is in use now, in MiB, if it has its own."""
    if (engine_name, device) not in LIMITS:
        return MachineLimits(recipe, threads), None
    module = importlib.import_module(LIMITS[engine_name, device])
    device_memory = module.peak_memory_mib()
    products = dense_shapes(recipe_shapes(recipe), recipe.train.batch_size)
    return module.DeviceLimits(precision, products), device_memory


def _check_baseline(engine_name: str, recipe: Recipe) -> None:
    if engine_name not in BASELINES:
        raise EngineError(f"engine {engine_name!r} has no baseline to compare with: expected {' or '.join(BASELINES)}")
    if recipe.model.architecture in NETWORKS:
        raise EngineError(
            f"{recipe.model.architecture} has no baseline to compare with: it is made of Gluon's own layers"
        )
    check_known(engine_name, recipe.model)


def _baselines(engine: Engine, engine_name: str, recipe: Recipe, device: str, precision: str) -> dict[str, Trainer]:
    """The framework as its layers come; with torch also compiled, where the engine is."""
    plain = importlib.import_module(BASELINES[engine_name]).PlainEngine
    if engine_name != "torch":
        return {"baseline": plain(recipe.model, recipe.image_shape, SEED)}
    found = {"baseline": plain(recipe.model, recipe.image_shape, SEED, device, precision)}
    if compile_option(engine) == "on":
        found["compiled"] = plain(recipe.model, recipe.image_shape, SEED, device, precision, compiled=True)
    return found


def _line_loads(engine: Engine) -> Callable[[], float] | None:
    described = engine.describe()
    name = LINE_LOADS.get((str(described["name"]), str(described["device"])))
    if name is None:
        return None
    lines_per_second: Callable[[], float] = importlib.import_module(name).lines_per_second
    return lines_per_second


def _round(
    limits: tuple[Limits, Callable[[], float] | None],
    blocks: Blocks,
    engine: Engine,
    baselines: Mapping[str, Trainer],
    others: TrainingProcesses,
) -> Round:
    machine, line_loads = limits
    square, network, copied = machine.measure()
    return Round(
        lines=None if line_loads is None else line_loads() / 1e9,
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
    quantized = any(word != "real" for word in layer_weights(model))
    return 4 * (1 + 2 * moments(model) + 2 + quantized)


def moments(model: ModelSettings) -> int:
    """Values that the optimizer keeps of each parameter."""
    return {"sgd": int(model.momentum > 0)}.get(model.optimizer, 2)


def _figures(recipe: Recipe, rounds: Sequence[Round]) -> dict[str, Any]:
    """What follows from the measured times: the fields of `BenchResult` that are not measured themselves."""
    counted, images = cost(recipe), recipe.train.batch_size
    step = Work(
        images,
        images * counted.training_flop_per_image,
        counted.parameters.weights * update_bytes(recipe.model),
        *in_training(recipe).times(images),
    )
    evaluated = in_evaluation(recipe).times(EVALUATION_BATCH)
    batch = Work(EVALUATION_BATCH, EVALUATION_BATCH * 2 * counted.multiply_adds, 0, *evaluated)
    training = _speed(step, [r.training_ms for r in rounds], rounds)
    evaluation = _speed(batch, [r.evaluation_ms for r in rounds], rounds)
    others: dict[str, Any] = {}
    for name, speedup in (("baseline", "speedup"), ("compiled", "compiled_speedup")):
        times = [ms for r in rounds if (ms := getattr(r, f"{name}_ms")) is not None]
        others[name] = _speed(step, times, rounds) if times else None
        ratios = [ms / r.training_ms for ms, r in zip(times, rounds, strict=bool(times))]
        others[speedup] = Spread.of(ratios) if ratios else None
    limits = {name: Spread.of(getattr(r, name) for r in rounds) for name in ("sgemm_square", "sgemm_network", "copy")}
    lines = [r.lines for r in rounds if r.lines is not None]
    return {
        **limits,
        "lines": Spread.of(lines) if lines else None,
        "rounds": rounds,
        "cost": counted,
        "training": training,
        "evaluation": evaluation,
        **others,
        "full_run": _full_run(counted, training, evaluation),
    }


def _speed(work: Work, times: Sequence[float], rounds: Sequence[Round]) -> Speed:
    """`times` are the milliseconds of a batch in each round."""
    gflops = [work.flop / ms / 1e6 for ms in times]
    floors = [work.floor_ms(limits) for limits in rounds]
    of_tables = [floor for limits in rounds if (floor := work.tables_floor_ms(limits)) is not None]
    by_tables = [floor / ms for floor, ms in zip(of_tables, times, strict=bool(of_tables))]
    return Speed(
        work=work,
        ms=Spread.of(times),
        images_per_second=Spread.of(work.images / ms * 1e3 for ms in times),
        gflops=Spread.of(gflops),
        of_sgemm=Spread.of(speed / limits.sgemm for speed, limits in zip(gflops, rounds, strict=True)),
        floor_ms=Spread.of(floors),
        of_floor=Spread.of(floor / ms for floor, ms in zip(floors, times, strict=True)),
        tables_floor_ms=Spread.of(of_tables) if of_tables else None,
        of_tables_floor=Spread.of(by_tables) if by_tables else None,
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
