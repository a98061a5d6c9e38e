"""Carrying out a registered group: what is missing, one run after the other, each written down before it begins."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from benchmarks.engine import Choice
from benchmarks.errors import RecipeError, RunError
from benchmarks.hints import as_typed
from benchmarks.recipe import Recipe
from benchmarks.start import INTERRUPTED
from commands.options import FAIL_ON
from commands.output import echo, note, print_json, warn
from commands.registry import records_of
from commands.running import end_all_as_by_ctrl_c

if TYPE_CHECKING:
    from benchmarks.queue.job import Job
    from benchmarks.run.folder import RunFolder
    from benchmarks.verdict.group import GroupVerdict
    from results.groups import Key
    from results.registered import Registration


class GroupRun(NamedTuple):
    """What `reproduce ID --seeds N` is to do. options: of every run; folders: those that the user has named."""

    recipe: Recipe
    choice: Choice
    precision: str
    options: dict[str, Any]
    folders: dict[str, Any]
    data_root: Path
    runs_root: Path
    registry: Path
    as_json: bool


def carry_out_group(run: GroupRun, size: int, fail_on: tuple[str, ...]) -> int:
    """Register, or extend, the group; run what is missing; say after each run where it stands. The exit code."""
    end_all_as_by_ctrl_c()
    group = registered_group(run, size)
    verdict, code = judged(run, group), 0
    for seed in group.seeds:
        if is_decided(verdict):
            break
        if next(one for one in verdict.seeds if one.seed == seed).state in ("finished", "diverged"):
            continue
        code = _carry_out_seed(run, group, seed)
        verdict = judged(run, group)
        _say(verdict, run.as_json, only_summary=True)
        if code:
            break
    _say(verdict, run.as_json, only_summary=False)
    return code or (FAIL_ON[verdict.word] if verdict.word in fail_on else 0)


def note_launch(recipe: Recipe, registry: Path, seed: int, engine: str, precision: str) -> None:
    """Write down that a run begins, if its seed is registered: whichever command began it, it is of the group."""
    from results import registered

    for group in registered.read(registry, recipe.id):
        what = (group.key.digest, group.key.engine, group.key.precision)
        if what == (recipe.digest, engine, precision) and seed in group.seeds:
            registered.launched(registry, group, seed)


def registered_group(run: GroupRun, size: int) -> Registration:
    """The group, as it is registered now.

    size: 3 or 5 seeds to register; 5 or 10 to extend a group of 3 or 5 to; no smaller one takes anything away.

    Raises:
        RecipeError: it may not be extended.
    """
    from benchmarks.run.provenance import code_at_start
    from results import registered

    key, commit = _key(run), code_at_start().commit
    known = {group.key: group for group in registered.read(run.registry, run.recipe.id)}
    group = known.get(key)
    if group is None:
        seeds = registered.SEEDS[: min(size, registered.USUAL_SIZE)]
        group = registered.register(run.registry, key, run.recipe.version, commit, seeds)
        note(f"registered: {run.recipe.id}, seeds {', '.join(map(str, group.seeds))}; commit {_path(run)}")
    if size < len(group.first_seeds):
        note(f"{run.recipe.id}: {len(group.first_seeds)} seeds are registered, and all count")
    if size > len(group.seeds):
        _refuse_other_extension(group, size)
        verdict = judged(run, group)
        if verdict.word not in ("inconclusive", "interim", "not measured", "no published target"):
            raise RecipeError(f"{run.recipe.id}: the verdict on its {len(group.seeds)} seeds is {verdict.word!r}: no"
                              f" more seeds may be added; `python cli.py check {run.recipe.id}` shows it")  # fmt: skip
        group = registered.extend(run.registry, group, commit)
        note(f"extended, once: {run.recipe.id} to {len(group.seeds)} seeds; commit {_path(run)}")
    return group


def _refuse_other_extension(group: Registration, size: int) -> None:
    """A group is extended once, to a size known before: who looks again and again gets the wanted answer in the end."""
    benchmark, was, may = group.key.benchmark, len(group.first_seeds), group.extended_size
    if group.is_extended:
        raise RecipeError(f"{benchmark}: its group was extended from {was} to {len(group.seeds)} seeds: there is one"
                          f" extension; `python cli.py check {benchmark}` shows it")  # fmt: skip
    if size != may:
        mend = f"--seeds {may}" if may else "no other seeds"
        raise RecipeError(f"{benchmark}: its group was registered with {was} seeds: expected {mend}")


def _path(run: GroupRun) -> Path:
    from results.registered import path_of

    return path_of(run.registry, run.recipe.id)


def _key(run: GroupRun) -> Key:
    """The key of the group; the data are loaded for it, so that no run trains on other data than were registered."""
    from benchmarks.run.data import load_data
    from results.groups import Key, data_key
    from results.record import Split, seeds_of
    from results.registered import SEEDS

    recipe, seed = run.recipe, SEEDS[0]
    data = load_data(recipe, run.data_root, seed)
    splits = [
        Split(dataset=data.name, preprocessing=data.preprocessing, images=len(split.labels), digest=split.digest)
        for split in (data.train, data.valid, data.test)
    ]
    is_drawn = len(seeds_of(msgspec.to_builtins(recipe.settings), seed)) > 1
    return Key(recipe.id, recipe.digest, data_key(splits, is_drawn), run.choice.engine, run.precision)


def judged(run: GroupRun, group: Registration) -> GroupVerdict:
    """The verdict on what is there of the group."""
    from benchmarks.verdict.group import judge_group
    from results import registered
    from results.members import members

    (now,) = [one for one in registered.read(run.registry, run.recipe.id) if one.key == group.key]
    return judge_group(now, members(now, records_of(run.registry)), run.recipe.target)


def is_decided(verdict: GroupVerdict) -> bool:
    """Whether the seeds that are there decide: all of them, or those of the first of two looks."""
    return verdict.word not in ("interim", "not measured") and (
        verdict.word != "no published target" or all(seed.record is not None for seed in verdict.seeds)
    )


def _carry_out_seed(run: GroupRun, group: Registration, seed: int) -> int:
    """Begin a run, or go on with one that is there. 0 if it left a record, finished or diverged; else its exit code."""
    from benchmarks.queue import side_by_side
    from benchmarks.queue.job import NewRun
    from results import registered

    begun = next(_begun(run, group, seed), None)
    job: Job
    if begun is not None:
        job = _going_on(run, begun)
        registered.launched(run.registry, group, seed)
    else:  # a command that begins a run of a registered seed writes that down itself
        job = NewRun(
            benchmark=run.recipe.id, seed=seed, engine=run.choice.engine, device=run.choice.device,
            precision=run.precision, **run.options, **run.folders,
        )  # fmt: skip
    (ended,) = side_by_side.carry_out({f"seed {seed}": job.to_arguments()}, 1, run.choice.device, capture=run.as_json)
    code = INTERRUPTED if ended.exit_code in (None, -signal.SIGTERM) else ended.exit_code
    state = next(one for one in judged(run, group).seeds if one.seed == seed).state
    if state in ("finished", "diverged"):
        return 0
    reason = "interrupted" if code == INTERRUPTED else f"ended with exit code {code}"
    if code is not None and code < 0:
        reason = f"ended by {signal.Signals(-code).name}"
    registered.stopped(run.registry, group, seed, reason)
    warn(f"seed {seed}: {reason}; the same command goes on")
    return INTERRUPTED if code == INTERRUPTED else 1


def _going_on(run: GroupRun, folder: RunFolder) -> Job:
    """Raises RunError if another process is at it."""
    from benchmarks.queue.job import BegunRun

    with folder.lock():
        return BegunRun(run=folder.path, **run.folders)


def _begun(run: GroupRun, group: Registration, seed: int) -> Iterator[RunFolder]:
    """Runs of this seed in the folder of runs that began after the registration, the first one first."""
    from benchmarks.run.folder import RunFolder
    from results.record.canonical import digest

    since = group.time.translate(str.maketrans("", "", "-:"))
    for path in sorted((run.runs_root / run.recipe.id).glob(f"*-s{seed}*/run.json")):
        folder = RunFolder(path.parent)
        try:
            manifest = folder.manifest()
        except RunError as error:
            warn(f"passed over: {error}")
            continue
        key = group.key
        what = (manifest.seed, manifest.engine, manifest.precision, digest(manifest.settings))
        images = tuple(manifest.data[split] for split in ("train", "valid", "test"))
        is_drawn = any(" " in text for text in key.data)  # a digest has none
        is_same = what == (seed, key.engine, key.precision, key.digest) and (is_drawn or images == key.data)
        if is_same and path.parent.name >= since:
            yield folder


def _say(verdict: GroupVerdict, as_json: bool, *, only_summary: bool) -> None:
    from benchmarks.machine.facts import cpu_model
    from benchmarks.verdict.every import SCHEMA
    from benchmarks.verdict.report import lines, summary

    if only_summary:
        echo(f"{verdict.benchmark}: {summary(verdict)}", err=as_json)
    elif as_json:
        print_json({"schema": SCHEMA, "verdicts": [verdict]})
    else:
        for line in lines(verdict, cpu_model()):
            echo(as_typed(line))
    sys.stdout.flush()
