"""Finds the runs that a user means by a word: a record, a run's folder, or a benchmark's group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import RunError
from benchmarks.recipe import benchmark_ids
from results import registry as registries
from results.groups import Group, groups
from results.index import entries
from results.members import registered_runs
from results.record import Record
from results.registered import read


def select(text: str, registry: Path, runs_root: Path) -> list[Record]:
    """The runs that `text` means, one a seed, each with a result; of a registered group its own.

    Args:
        text: a record's file or the beginning of its id; a run's folder or its name; or a benchmark, with words behind
            an @, commas between them, if it has several groups: engine, precision, device, beginning of the digest.

    Raises:
        RunError: no run, or several groups, or a run without a result.
        RegistryError: a record that is damaged, or no record.
    """
    benchmark, _, words = text.partition("@")
    recorded = [entry for entry in entries(registry, lambda _: None) if entry.benchmark == benchmark]
    if recorded or benchmark in benchmark_ids():
        registered = {registration.key: registration for registration in read(registry, benchmark)}
        found = [registered_runs(group, registered.get(group.key))[0] for group in groups(recorded)]
        return _of_group(text, _chosen(text, found, words), registry)
    return [_with_result(text, _single(text, registry, runs_root))]


def _chosen(text: str, found: Sequence[Group], words: str) -> Group:
    """The one group that has all the words."""
    wanted = [word.strip() for word in words.split(",") if word.strip()]
    fits = [group for group in found if all(_has(group, word) for word in wanted)]
    if len(fits) == 1:
        return fits[0]
    names = "; ".join(_described(group) for group in fits or found)
    if not found:
        benchmark = text.partition("@")[0]
        raise RunError(f"{text}: no scoring run is recorded: `python cli.py reproduce {benchmark}` makes one")
    if not fits:
        raise RunError(f"{text}: no group has all of these words: there are {names}")
    raise RunError(f"{text}: {len(fits)} groups: name one by words behind @, as {fits[0].key.engine}: {names}")


def _has(group: Group, word: str) -> bool:
    key, last = group.key, group.runs[-1]
    return word in (key.engine, key.precision, last.engine.device) or key.digest.startswith(word)


def _described(group: Group) -> str:
    device, key = group.runs[-1].engine.device, group.key
    seeds = ",".join(str(run.seed) for run in group.runs)
    return f"{key.engine},{key.precision},{device},{key.digest[:8]} (seeds {seeds})"


def _of_group(text: str, group: Group, registry: Path) -> list[Record]:
    if not group.finished:
        raise RunError(f"{text}: none of its {len(group.runs)} runs has a result")
    return [registries.read(registry / run.benchmark / f"{run.id}.json") for run in group.finished]


def _single(text: str, registry: Path, runs_root: Path) -> Record:
    from benchmarks.run.finding import find_run

    if (Path(text) / "run.json").exists() or (runs_root / text / "run.json").exists():
        record = find_run(runs_root, text).record()
        if record is None:
            raise RunError(f"{text}: the run is not over: `python cli.py resume {text}` goes on with it")
        return record
    return registries.read(registries.find(registry, text))


def _with_result(text: str, record: Record) -> Record:
    if record.results is None:
        raise RunError(f"{text}: the run has no result: it ended before its first epoch did")
    return record
