"""What a measurement says: figures with their spread over rounds, of training, evaluation and the machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.recipe.cost import Cost

if TYPE_CHECKING:
    pass


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
    `together_ms` of a step of each of several runs at once. `lines` are the cache lines, 10^9 a second, that vector
    registers can be loaded with, where the engine has products from tables.
    """

    sgemm_square: float
    sgemm_network: float
    copy: float
    training_ms: float
    evaluation_ms: float
    baseline_ms: float | None = None
    compiled_ms: float | None = None
    together_ms: float | None = None
    lines: float | None = None

    @property
    def sgemm(self) -> float:
        """Peak sgemm: the better of the two shapes."""
        return max(self.sgemm_square, self.sgemm_network)


class Work(msgspec.Struct, frozen=True):
    """What one batch takes: images, FLOP of matrix products and convolutions, and bytes moved by the update.

    `signed_flop`: how many of these FLOP are of products that tables could make, in so many `look_ups`.
    """

    images: int
    flop: int
    bytes: int
    signed_flop: int = 0
    look_ups: float = 0

    def floor_ms(self, limits: Round) -> float:
        """The time of a batch if products ran at peak sgemm, the update at copy speed, and nothing else were done."""
        return self.flop / limits.sgemm / 1e6 + self.bytes / limits.copy / 1e6

    def tables_floor_ms(self, limits: Round) -> float | None:
        """The same if what tables could make took as long as loading its look-ups' lines; None without tables."""
        if limits.lines is None or not self.signed_flop:
            return None
        rest = Work(self.images, self.flop - self.signed_flop, self.bytes)
        return rest.floor_ms(limits) + self.look_ups / limits.lines / 1e6


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast batches of `work` go: a training step, or an evaluation batch.

    Attributes:
        ms: time of a batch.
        images_per_second, gflops: of the same blocks; FLOP as `benchmarks.recipe.cost` counts them.
        of_sgemm: gflops over the machine's peak sgemm of the same round.
        floor_ms: `Work.floor_ms` with the limits of each round.
        of_floor: floor over time; 1 would be as fast as the floor model allows.
        tables_floor_ms, of_tables_floor: the same of `Work.tables_floor_ms`, where there is one.
    """

    work: Work
    ms: Spread
    images_per_second: Spread
    gflops: Spread
    of_sgemm: Spread
    floor_ms: Spread
    of_floor: Spread
    tables_floor_ms: Spread | None = None
    of_tables_floor: Spread | None = None


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
        sgemm_square, sgemm_network, copy, lines: the machine's limits, see `Round`.
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
    lines: Spread | None = None
