"""Finds what a user means by a word: a run's folder; or runs, by a record, a run's folder or a benchmark."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.errors import RunError
from benchmarks.recipe import benchmark_ids
from benchmarks.run.folder import RunFolder
from results import registry as registries
from results.entries import Run
from results.groups import Group, groups
from results.members import registered_runs
from results.record import Record
from results.registered import read


def find_run(root: Path, text: str) -> RunFolder:
    """The run that a user names: the folder's path, "<benchmark>/<folder>", or a beginning of <folder> that fits one
    run.

    Raises:
        RunError: none fits, or several.
    """
    for path in (Path(text), root / text):
        if (path / "run.json").exists():
            return RunFolder(path.resolve())
    runs = sorted(path.parent for path in root.glob("*/*/run.json"))
    exact = [path for path in runs if path.name == text]  # it may be the beginning of another, as X of X-2
    matches = exact or [path for path in runs if path.name.startswith(text)]
    matches = matches or [path for path in runs if path.parent.name == text]
    if len(matches) == 1:
        return RunFolder(matches[0])
    if not matches:
        raise RunError(
            f"no run {text!r} in {root}: expected a run's folder or name; `python cli.py reproduce ID` starts one"
        )
    names = ", ".join(RunFolder(path).name for path in matches[-5:])
    raise RunError(f"{len(matches)} runs fit {text!r}: name one of {names}")


def select(text: str, recorded: Iterable[Run], registry: Path, runs_root: Path) -> list[Record]:
    """The runs that `text` means, one a seed, each with a result; of a registered group its own.

    Args:
        text: a record's file or the beginning of its id; a run's folder or its name; or a benchmark, with words behind
            an @, commas between them, if it has several groups: engine, precision, device, beginning of the digest.
        recorded: all that the registry has.

    Raises:
        RunError: no run, or several groups, or a run without a result.
        RegistryError: a record that is damaged, or no record.
    """
    group = _group(text, recorded, registry)
    return (
        [_with_result(text, _single(text, registry, runs_root))] if group is None else _of_group(text, group, registry)
    )


def select_all(text: str, recorded: Iterable[Run], registry: Path, runs_root: Path) -> list[Record]:
    """As `select`, with the runs that have no result: that a run diverged is a result of its group."""
    group = _group(text, recorded, registry)
    if group is None:
        return [_single(text, registry, runs_root)]
    return [registries.read(registry / run.benchmark / f"{run.id}.json") for run in group.runs]


def _group(text: str, recorded: Iterable[Run], registry: Path) -> Group | None:
    """The group that a benchmark's name means; None if it is no benchmark's."""
    benchmark, _, words = text.partition("@")
    runs = [run for run in recorded if run.benchmark == benchmark]
    if not runs and benchmark not in benchmark_ids():
        return None
    registered = {registration.key: registration for registration in read(registry, benchmark)}
    found = [registered_runs(group, registered.get(group.key))[0] for group in groups(runs)]
    return _chosen(text, found, words)


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
    if (Path(text) / "run.json").exists() or (runs_root / text / "run.json").exists():
        record = find_run(runs_root, text).record()
        if record is None:
            mend = f"`python cli.py resume {shlex.quote(text)}` goes on with it"
            raise RunError(f"{text}: the run is not over: {mend}")
        return record
    return registries.read(registries.find(registry, text))


def _with_result(text: str, record: Record) -> Record:
    if record.results is None:
        raise RunError(f"{text}: the run has no result: it ended before its first epoch did")
    return record
