"""Which records are the runs of a registered group, how far its other seeds got, and what is left out and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from results.entries import Run
from results.groups import Group, key_of
from results.registered import Registration


class Seed(NamedTuple):
    """One seed of a registered group. `run`: its record; `event`: how far it got, where there is none."""

    seed: int
    state: Literal["registered", "launched", "stopped", "killed", "finished", "diverged"]
    run: Run | None = None
    event: str = ""


class LeftOut(NamedTuple):
    """A record of a group's benchmark that is not of the group, and why."""

    run: Run
    reason: str


class Members(NamedTuple):
    """What there is of a registered group: its seeds in their order; the benchmark's other records by their start."""

    seeds: list[Seed]
    left_out: list[LeftOut]


def members(group: Registration, records: Iterable[Run]) -> Members:
    """Which of the records are a registered group's: of each seed the run that began first after the registration.

    One that was killed counts where there is no other.
    """
    seeds: dict[int, Run] = {}
    left_out = []
    of_benchmark = (record for record in records if record.benchmark == group.key.benchmark)
    for record in sorted(
        of_benchmark, key=lambda record: (record.outcome == "killed", record.sittings[0].started, record.id)
    ):
        reason = _reason_against(record, group)
        if not reason and record.seed in seeds:
            if seeds[record.seed].id == record.id:  # the same record once more
                continue
            reason = f"a repetition of seed {record.seed}, whose run is {seeds[record.seed].id[:8]}"
        if reason:
            left_out.append(LeftOut(record, reason))
        else:
            seeds[record.seed] = record
    return Members([_seed(seed, seeds.get(seed), group) for seed in group.seeds], left_out)


def registered_runs(group: Group, registration: Registration | None) -> tuple[Group, Members | None]:
    """The group with the runs of its registration alone, and its members; as it is where no registered run is there."""
    if registration is None:
        return group, None
    found = members(registration, [*group.runs, *group.repetitions])
    runs = [seed.run for seed in found.seeds if seed.run is not None]
    return (Group(group.key, runs, [out.run for out in found.left_out]), found) if runs else (group, None)


def _seed(seed: int, run: Run | None, group: Registration) -> Seed:
    event = group.last_event.get(seed)
    if run is not None:
        state: Any = run.outcome if run.outcome != "finished" or run.results is not None else "diverged"
        return Seed(seed, state, run)
    if event is None:
        return Seed(seed, "registered")
    reason = getattr(event, "reason", "")
    return Seed(seed, "stopped" if reason else "launched", None, f"{event.time}{f': {reason}' if reason else ''}")


def _reason_against(record: Run, group: Registration) -> str:
    """Why a record is not of a registered group; "" if it is."""
    key, of_record = group.key, key_of(record)
    changed = ", ".join(difference.key for difference in record.recipe.differences)
    settings = f"other settings (version {record.recipe.version} of the benchmark, digest {of_record.digest[:8]})"
    reasons = {
        f"it does not score{f': other {changed}' if changed else ''}": not record.recipe.scoring,
        settings: of_record.digest != key.digest,
        "other images": of_record.data != key.data,
        f"engine {of_record.engine}": of_record.engine != key.engine,
        f"precision {of_record.precision}": of_record.precision != key.precision,
        f"seed {record.seed} is not registered": record.seed not in group.seeds,
        "it began before the group was registered": record.sittings[0].started < group.time,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")
