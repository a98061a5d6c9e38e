"""A regression run: every benchmark measured, suspects measured again in other processes, and the figures of all."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from benchmarks.engine import check_engine
from benchmarks.errors import EngineError
from benchmarks.recipe import load_recipe
from benchmarks.regress import judge, rules
from benchmarks.regress.figures import KINDS, Figure, Kind
from benchmarks.regress.images import takes_long
from benchmarks.regress.measure import Job, Measured
from benchmarks.regress.processes import Measure, data_folder, deal_out, in_a_process
from benchmarks.regress.reference import Reference

OF_A_BENCHMARK = tuple(kind for kind in KINDS if kind != "registry")  # which is of them all
Notify = Callable[[str], None]


def can_train(engine: str, benchmarks: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Those that an engine can train, and the others with the reason."""
    chosen, left_out = [], {}
    for name in benchmarks:
        try:
            check_engine(engine, "float32", load_recipe(name).model.architecture)
            chosen.append(name)
        except EngineError as error:
            left_out[name] = str(error)
    return chosen, left_out


@dataclass(frozen=True)
class Suite:
    """What a run compares, and how.

    Attributes:
        engine, benchmarks: that it can train.
        kinds: of OF_A_BENCHMARK.
        seed: first of the fresh seeds.
        measure: does a job, in a process of its own.
        notify: is told, in a line each, how far the run is.
    """

    engine: str
    benchmarks: Sequence[str]
    kinds: Sequence[Kind] = OF_A_BENCHMARK
    seed: int = field(default_factory=lambda: 1_000_000 + secrets.randbelow(2**31))
    measure: Measure = in_a_process
    notify: Notify = lambda line: None

    def run(self, reference: Reference) -> list[Figure]:
        """The figures of all benchmarks and kinds.

        Raises:
            DataError: the images cannot be made.
        """
        with data_folder(self.benchmarks) as (data, wait):
            first = self._all({name: self._job(name, str(data)) for name in self.benchmarks}, wait)
            suspects = judge.suspects(reference, first, self.kinds)
            for name, kinds in suspects.items():
                self.notify(f"{name}: {', '.join(kinds)} measured again")
            second = self._again(suspects, str(data), wait)
        return judge.figures(self.engine, reference, first, second, self.kinds)

    def _again(
        self, suspects: Mapping[str, Sequence[Kind]], data: str, wait: Callable[[str], None]
    ) -> dict[str, Measured]:
        """What other processes found; the speed is that of all of them, whose best round counts."""
        found = self._all({name: self._second(name, data, kinds) for name, kinds in suspects.items()}, wait)
        for _ in range(rules.CONFIRMING_PROCESSES - 1):
            slow = [name for name, kinds in suspects.items() if "speed" in kinds]
            more = self._all({name: Job(name, self.engine, data, False, (), 2 * rules.ROUNDS) for name in slow}, wait)
            for name, one in more.items():
                failed = found[name].failed or one.failed
                found[name] = msgspec.structs.replace(found[name], speed=found[name].speed + one.speed, failed=failed)
        return found

    def measured_for_reference(self) -> dict[str, Measured]:
        """All that a reference holds.

        Raises:
            DataError: the images cannot be made.
        """
        seeds = tuple(range(1, rules.REFERENCE_SEEDS + 1))
        with data_folder(self.benchmarks) as (data, wait):
            jobs = {
                name: Job(name, self.engine, str(data), seeds=seeds, rounds=rules.REFERENCE_ROUNDS)
                for name in self.benchmarks
            }
            return self._all(jobs, wait)

    def _all(self, jobs: Mapping[str, Job], wait: Callable[[str], None]) -> dict[str, Measured]:
        """What each job gives, those last whose images take long to make."""

        def measure(job: Job) -> Measured:
            wait(job.benchmark)
            return self.measure(job)

        found: dict[str, Measured] = {}
        in_order = sorted(jobs.values(), key=lambda job: takes_long(load_recipe(job.benchmark)))
        for one in deal_out(in_order, measure):
            found[one.benchmark] = one
            failed = f", failed: {one.failed}" if one.failed else ""
            self.notify(f"{len(found)}/{len(jobs)} {one.benchmark}: {one.seconds:.1f} s{failed}")
        return found

    def _job(self, name: str, data: str) -> Job:
        count = rules.SCREENING_SEEDS if "accuracy" in self.kinds else int("memory" in self.kinds)
        seeds = tuple(range(self.seed, self.seed + count))
        rounds = rules.ROUNDS if "speed" in self.kinds else 0
        return Job(name, self.engine, data, "bits" in self.kinds, seeds, rounds)

    def _second(self, name: str, data: str, kinds: Sequence[Kind]) -> Job:
        """What is measured again of a suspect, with other seeds."""
        first = self.seed + rules.SCREENING_SEEDS
        count = rules.CONFIRMING_SEEDS if "accuracy" in kinds else int("memory" in kinds)
        rounds = 2 * rules.ROUNDS if "speed" in kinds else 0
        return Job(name, self.engine, data, False, tuple(range(first, first + count)), rounds)
