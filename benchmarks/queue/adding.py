"""What `queue add` queues: runs that are not recorded, begun or queued already; and why it does not queue others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.bench.measured import Machine, measured
from benchmarks.queue.folder import AGAIN, End, QueueFolder
from benchmarks.queue.job import NewRun
from benchmarks.queue.plan import Asked, PlannedSeed, seeds_of
from benchmarks.queue.queued import QueuedRun, group_of
from results.index import entries
from results.record.utc import now
from results.registered import Registration


class Passed(NamedTuple):
    """A run that is not queued, and why; without a seed, all of a benchmark."""

    benchmark: str
    reason: str
    seed: int | None = None


class Added(NamedTuple):
    """Runs to be queued, and those that are not."""

    runs: list[QueuedRun]
    passed: list[Passed]


class Options(NamedTuple):
    """What all runs of one `queue add` have in common. options: those of `reproduce`, as `NewRun` names them."""

    commit: str
    options: Mapping[str, Any]
    executor: str
    allow_change: bool


class Known:
    """What is queued or recorded already, by what makes runs the same, whichever commit they have."""

    def __init__(self, queue: QueueFolder, registry: Path) -> None:
        over = queue.over()
        self._known = {_same(run): (run, over.get(run.name)) for run in queue.runs().values()}
        self._recorded = {
            (run.benchmark, run.seed, run.recipe.digest, run.engine.name, run.engine.precision): run.id
            for run in entries(registry, lambda _: None)
            if run.recipe.scoring and run.outcome != "killed"
        }

    def reason_against(self, run: QueuedRun) -> str:
        """Why a run is not queued once more; "" if it is. A record from before a registration is none of its group."""
        if not run.registered and _same(run) in self._recorded:
            return f"recorded: {self._recorded[_same(run)]}"
        known, end = self._known.get(_same(run), (None, None))
        if known is None or end in AGAIN:
            return ""
        state: End | str = end or "queued already"
        return state if known.commit == run.commit else f"{state}, with commit {known.commit[:12]}"

    def note(self, run: QueuedRun) -> None:
        """It is now."""
        self._known[_same(run)] = run, None


def _same(run: QueuedRun) -> tuple[str, int, str, str, str]:
    return run.benchmark, run.seed, run.digest, run.engine, run.precision


def new_runs(queue: QueueFolder, known: Known, asked: Asked, seeds: Sequence[int] | None, options: Options) -> Added:
    """The runs of one benchmark.

    Args:
        seeds: None: those of its registered group.

    Raises:
        RegistryError: a file of registered groups that is damaged.
    """
    group, planned, _ = seeds_of(asked)
    states = {seed.seed: seed for seed in planned}
    if seeds is not None and not asked.recipe.scoring:
        states = {}  # its one planned seed stands for any
    found = measured(asked.recipe, _machine(asked), queue.runs_of(options.commit), asked.registry)
    seconds = None if found is None else (found.epoch_seconds * asked.recipe.train.epochs,) * 2
    template = _run(queue, asked, seconds, options)
    runs, passed = [], []
    for seed in states if seeds is None else seeds:
        registered = _registered(group, seed)
        run = msgspec.structs.replace(
            template, name=f"{template.group}-s{seed}", seed=seed, registered=registered,
            arguments=_arguments(asked, seed, options),
        )  # fmt: skip
        reason = _reason_against(states.get(seed)) or known.reason_against(run)
        if reason:
            passed.append(Passed(asked.recipe.id, reason, seed))
        else:
            runs.append(run)
            known.note(run)
    return Added(runs, passed)


def _registered(group: Registration | None, seed: int) -> str:
    """Before when no run of the seed may begin; of an extension it is not written down, but no later than now."""
    if group is None or seed not in group.seeds:
        return ""
    return group.time if seed in group.first_seeds else now()


def _machine(asked: Asked) -> Machine:
    return Machine.here(asked.choice.engine, asked.choice.device, asked.threads, asked.precision)


def _reason_against(seed: PlannedSeed | None) -> str:
    """Of a seed that is recorded, or was begun outside of the queue."""
    if seed is None:
        return ""
    if not seed.is_missing:
        return f"{seed.state}, record {seed.record}"
    if seed.running:
        return f"running here, run {seed.run}"
    return f"begun here: `python cli.py resume {seed.run}` goes on with it" if seed.run else ""


def _run(queue: QueueFolder, asked: Asked, seconds: tuple[float, float] | None, options: Options) -> QueuedRun:
    """What all runs of the benchmark have in common."""
    recipe, choice, recipe_digest = asked.recipe, asked.choice, asked.recipe.digest
    return QueuedRun(
        name="", group=group_of(recipe.id, recipe_digest, choice.engine, asked.precision, options.commit),
        benchmark=recipe.id, seed=0, digest=recipe_digest, engine=choice.engine, device=choice.device,
        precision=asked.precision, commit=options.commit, arguments=(), scoring=recipe.scoring,
        registry=os.path.relpath(asked.registry, queue.path), seconds=seconds, allow_change=options.allow_change,
        executor=options.executor,
    )  # fmt: skip


def _arguments(asked: Asked, seed: int, options: Options) -> tuple[str, ...]:
    job = NewRun(
        benchmark=asked.recipe.id, seed=seed, engine=asked.choice.engine, device=asked.choice.device,
        precision=asked.precision, **options.options,
    )  # fmt: skip
    return tuple(job.to_arguments())
