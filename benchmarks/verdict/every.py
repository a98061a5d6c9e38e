"""The verdicts on all groups that a registry has: registered ones, and runs that nobody registered."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from benchmarks.recipe import Target
from benchmarks.recipe.versions import current
from benchmarks.verdict.group import GroupVerdict, in_family, judge_group, judge_unregistered
from benchmarks.verdict.rules import target_of
from results.entries import Run
from results.groups import groups
from results.members import members
from results.registered import Registration

SCHEMA = 1  # of verdicts as JSON: docs/verdicts.md
# Exit code of `check`, by word; of several verdicts the first of 3, 4, 6, 0 counts.
EXIT_CODES = {
    "reproduced": 0,
    "reproduced, and better": 0,
    "no published target": 0,
    "suspiciously good": 3,
    "not reproduced": 3,
    "inconclusive": 4,
    "interim": 4,
    "provisional": 4,
    "superseded": 6,
    "not measured": 6,
}


def judge_all(
    records: Iterable[Run], registrations: Iterable[Registration], targets: Mapping[str, Target | None],
    benchmarks: Sequence[str],
) -> list[GroupVerdict]:  # fmt: skip
    """The verdicts of these benchmarks, in their order; of each, registered groups first.

    Args:
        targets: those of the catalog, by benchmark; of others it is what their records state.
    """
    runs: dict[str, list[Run]] = {name: [] for name in benchmarks}
    registered: dict[str, list[Registration]] = {name: [] for name in benchmarks}
    for record in records:
        if record.benchmark in runs:
            runs[record.benchmark].append(record)
    for registration in registrations:
        if registration.key.benchmark in registered:
            registered[registration.key.benchmark].append(registration)
    found = []
    for name in benchmarks:
        first = runs[name][0] if runs[name] else None
        target = targets[name] if name in targets else None if first is None else target_of(first)
        found += _of_benchmark(name, runs[name], registered[name], target)
    return found


def _of_benchmark(
    name: str, runs: list[Run], registered: list[Registration], target: Target | None
) -> list[GroupVerdict]:
    found = [judge_group(group, members(group, runs), target) for group in registered]
    keys = {group.key for group in registered}
    found += [judge_unregistered(group, target) for group in groups(runs) if group.key not in keys]
    latest = current(name)
    if latest is not None:
        found = [v if v.digest == latest.digest else msgspec.structs.replace(v, word="superseded") for v in found]
    nothing = GroupVerdict(
        benchmark=name, engine="any engine", precision="float32", digest="", registered=None, word="not measured",
        claim=None if target is None else target.percent,
    )  # fmt: skip
    return found or [nothing]


def as_family(verdicts: Sequence[GroupVerdict]) -> list[GroupVerdict]:
    """The verdicts with Holm's correction over those of today's settings."""
    today = iter(in_family([verdict for verdict in verdicts if verdict.word != "superseded"]))
    return [verdict if verdict.word == "superseded" else next(today) for verdict in verdicts]


def optimism(verdicts: Sequence[GroupVerdict]) -> tuple[int, float, float] | None:
    """How many groups were judged, and mean and standard deviation of (mean - claim) / margin; None of less than two.

    A summary over papers: claims are optimistic by so many margins. No part of a verdict.
    """
    distances = sorted(
        (verdict.estimate.mean - verdict.claim) / verdict.margin
        for verdict in verdicts
        if verdict.estimate and verdict.interval and verdict.claim is not None and verdict.margin
        if verdict.word not in ("interim", "superseded")
    )
    if len(distances) < 2:
        return None
    return len(distances), statistics.fmean(distances), statistics.stdev(distances)


def exit_code(verdicts: Sequence[GroupVerdict], *, all_named: bool) -> int:
    """0, 3, 4, or 6 if nothing was measured: of any that was named, or of all that there are."""
    codes = {EXIT_CODES[verdict.counts_as] for verdict in verdicts}
    if not all_named and codes != {6}:
        codes.discard(6)
    return next((code for code in (3, 4, 6) if code in codes), 0 if verdicts else 6)
