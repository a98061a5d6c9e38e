"""One benchmark measured in a process of its own: `python -m benchmarks.regress.measure`, a job in, what it found out.

The order is fixed: memory is the peak after the first seed's training, before anything else is done in the process.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.machine import environment

if TYPE_CHECKING:
    import numpy as np

LEAST_ERROR = 1e-9  # percent: errors of counts that are the same differ by rounding alone
THREADS = 1  # of the engine and of the matrix product that its speed is compared with
PRODUCT = 768  # rows and columns of its matrices
STEP_SECONDS = 0.05  # steps of a round are repeated until they have taken so long, and twice at least but for ...
LONG_SECONDS = 0.3  # ... steps as long as this
# What an engine tells of its determinism that is the recipe's, or no cause of bits.
_OF_THE_NETWORK = {"bit_exact_resume", "max_pool_gradient"}


class Job(msgspec.Struct, frozen=True):
    """What to measure.

    Attributes:
        seeds: trained with one after another; none where neither accuracy nor memory is asked for.
        rounds: of the measurement of speed; 0: it is not asked for.
        data: the folder that images.prepare has filled.
    """

    benchmark: str
    engine: str
    data: str
    bits: bool = True
    seeds: tuple[int, ...] = ()
    rounds: int = 0


class Scored(msgspec.Struct, frozen=True):
    """A seed, and the loss and error that it gave; see budgets.Scores."""

    seed: int
    loss: float | None
    error: float | None


class Measured(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        failed: why there is nothing else.
        factors: what, besides the code, the bits depend on.
        bits, first_loss: see bits.Fingerprint.
        draws: hash of data, orders, crops and learning rates; the same on every machine where `exact_data`.
        data: of training, validation (if there are some) and test images in turn: mean, standard deviation, and the
            root mean square of the images' own means; the same to some digits on every machine.
        scores: of each seed.
        miscounted: an error that is not what the scores come to, as text; "" if there is none.
        memory: peak of the process after the first seed, MiB.
        speed: of each round, time of a training step over that of a matrix product.
        seconds: all of it took.
    """

    benchmark: str
    failed: str | None = None
    factors: dict[str, str] = {}
    bits: str | None = None
    first_loss: float | None = None
    draws: str | None = None
    exact_data: bool = True
    data: tuple[float, ...] = ()
    scores: tuple[Scored, ...] = ()
    memory: float | None = None
    speed: tuple[float, ...] = ()
    seconds: float = 0.0
    miscounted: str = ""


def measure(job: Job) -> Measured:
    """Do a job in this process.

    Raises:
        EngineError, DataError, RecipeError: it cannot be done.
    """
    from benchmarks.machine.facts import peak_memory_mib
    from benchmarks.regress import bits

    started = time.perf_counter()
    scores, memory, miscounted = [], None, ""
    for seed in job.seeds:
        scored, wrongly = _trained(job, seed)
        scores.append(scored)
        miscounted = miscounted or wrongly
        memory = memory or peak_memory_mib()
    narrow = bits.narrow_recipe(job.benchmark)
    engine = bits.open_uncompiled(job.engine, narrow, bits.SEED)
    exact, draws, data = _draws(job) if job.bits else (True, None, ())
    found = bits.fingerprint(narrow, engine) if job.bits else None
    speed = _speed(job, job.rounds) if job.rounds else ()
    return Measured(
        job.benchmark,
        factors=_factors(engine.describe()),
        bits=None if found is None else found.hash,
        first_loss=None if found is None else found.first_loss,
        draws=draws,
        exact_data=exact,
        data=data,
        scores=tuple(scores),
        memory=memory,
        speed=speed,
        seconds=time.perf_counter() - started,
        miscounted=miscounted,
    )


def _trained(job: Job, seed: int) -> tuple[Scored, str]:
    """What a seed gave, and `Measured.miscounted` of it."""
    from benchmarks.regress import bits, budgets, images

    budget = budgets.budget_of(job.benchmark)
    recipe = budget.recipe(job.benchmark)
    data = images.load(recipe, Path(job.data), seed)
    engine = bits.open_uncompiled(job.engine, recipe, seed)
    found = budgets.train(engine, recipe, data, budget.test_images, seed)
    miscounted = ""
    if found.error is not None and found.counted is not None and abs(found.error - found.counted) > LEAST_ERROR:
        miscounted = f"the error of seed {seed} is {found.error:.6g} %, by the scores {found.counted:.6g} %"
    return Scored(seed, found.loss, found.error), miscounted


def _factors(described: dict[str, object]) -> dict[str, str]:
    """All of an engine's description that can change bits, as text."""
    import numpy as np

    factors = {name: str(described[name]) for name in ("name", "device", "threads", "precision", "features")}
    versions, determinism = described["versions"], described["determinism"]
    assert isinstance(versions, dict)
    assert isinstance(determinism, dict)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        factors
        | {f"version of {name}": str(value) for name, value in sorted(versions.items())}
        | {"version of numpy": np.__version__, "version of python": python}
        | {name: str(determinism[name]) for name in sorted(determinism) if name not in _OF_THE_NETWORK}
    )


def _draws(job: Job) -> tuple[bool, str, tuple[float, ...]]:
    """Of what training takes besides the engine, with the seed 1: whether its hash is the same on every machine; the
    hash; and `Measured.data`."""
    import numpy as np

    from benchmarks.engine.augmentation import draw_crops
    from benchmarks.recipe.schedule import learning_rates
    from benchmarks.regress import bits, budgets, images
    from benchmarks.run.data import is_computed_on_the_machine
    from benchmarks.run.protocol import next_order

    recipe = budgets.budget_of(job.benchmark).recipe(job.benchmark)
    data = images.load(recipe, Path(job.data), bits.SEED)
    digest = hashlib.sha256("".join(split.digest for split in (data.train, data.valid, data.test)).encode())
    order = np.arange(len(data.train.labels))
    for epoch, lr in enumerate(learning_rates(recipe.train), 1):
        order = next_order(recipe.train.shuffle, order, bits.SEED, epoch)
        crops = draw_crops(len(order), recipe.data.augmentation, bits.SEED, epoch, "train")
        digest.update(order.astype(np.int64).tobytes() + f"{lr:.12g}".encode())
        for part in () if crops is None else (crops.down, crops.right, crops.mirrored):
            digest.update(part.astype(np.int64).tobytes())
    splits = [split for split in (data.train, data.valid, data.test) if len(split.labels)]
    statistics = [value for split in splits for value in _statistics(split.images)]
    return not is_computed_on_the_machine(recipe), digest.hexdigest()[:16], tuple(statistics)


def _statistics(images: np.ndarray) -> tuple[float, float, float]:
    values = images.astype("float64")
    own_means = values.mean(axis=(1, 2, 3))
    mean, deviation, of_means = values.mean(), values.std(), (own_means**2).mean() ** 0.5
    return float(f"{mean:.6g}"), float(f"{deviation:.6g}"), float(f"{of_means:.6g}")


# -- speed -------------------------------------------------------------------------------------------------------------


def _speed(job: Job, rounds: int) -> tuple[float, ...]:
    """Of each round: processor time of a narrow training step over that of a matrix product, each the best of some.

    Processor time, not the clock's: what else the machine does in between is no part of it.
    """
    import numpy as np

    from benchmarks.recipe import CLASSES
    from benchmarks.recipe.networks import NETWORKS
    from benchmarks.regress import bits

    recipe = bits.narrow_recipe(job.benchmark)
    batch = bits.BATCH_OF_NETWORKS if recipe.model.architecture in NETWORKS else bits.BATCH
    engine = bits.open_uncompiled(job.engine, recipe, bits.SEED)
    generator = np.random.Generator(np.random.PCG64(bits.SEED))
    images = generator.uniform(-1, 1, (batch, *recipe.image_shape)).astype(np.float32)
    labels, order = generator.integers(0, CLASSES, batch), np.arange(batch)
    left, right = generator.standard_normal((2, PRODUCT, PRODUCT), np.float32)
    out = np.empty_like(left)

    def step() -> None:
        engine.train_epoch(images, labels, order, batch, recipe.train.lr_start)

    step()
    np.matmul(left, right, out=out)
    return tuple(_best(step) / _best(lambda: np.matmul(left, right, out=out)) for _ in range(rounds))


def _best(call: Callable[[], object]) -> float:
    """The shortest processor time of some calls, in seconds."""
    best, total, calls = float("inf"), 0.0, 0
    while total < STEP_SECONDS or (calls < 2 and best < LONG_SECONDS):
        started = time.process_time()
        call()
        took = time.process_time() - started
        best, total, calls = min(best, took), total + took, calls + 1
    return best


def main() -> None:
    """A job as JSON on the standard input; what was measured as JSON on the standard output."""
    environment.clear()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # before NumPy is loaded: its product has one thread
        environment.put(name, str(THREADS))
    from benchmarks.errors import OneLineError
    from data_prep.errors import DataError

    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        found = measure(job)
    except (OneLineError, DataError) as error:
        found = Measured(job.benchmark, failed=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
