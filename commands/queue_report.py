"""The lines of `queue status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from commands.output import echo
from commands.runs import aligned

if TYPE_CHECKING:
    from benchmarks.queue.status import GroupStanding, Standing


def print_runs(found: Sequence[Standing]) -> None:
    """A line a run, and below it why it failed."""
    rows = [
        (
            one.name, one.state, f"{one.epoch}/{one.epochs}" if one.epochs else "-", str(one.tries),
            _left(one.seconds_left), one.where,
        )
        for one in found
    ]  # fmt: skip
    headings = ("Run", "State", "Epoch", "Tries", "Left", "On")
    for index, line in enumerate(aligned([headings, *rows])):
        echo(line.rstrip())
        if index and found[index - 1].reason:
            echo(f"  {found[index - 1].reason}")
    click.echo()


def print_groups(groups: Sequence[GroupStanding], found: Sequence[Standing]) -> None:
    """A line a group, why runs failed, and the sum."""
    from benchmarks.queue.status import STATES, total_left

    if not groups:
        click.echo("nothing is queued")
        return
    counts = Counter(one.state for one in found)
    shown = [state for state in STATES if counts[state]]
    rows = [
        (group.group, "registered" if group.registered else "-", *(str(group.counts.get(s, 0)) for s in shown),
         _left(group.seconds_left), f"{group.engine} {group.device} {group.precision} {group.commit[:8]}")
        for group in groups
    ]  # fmt: skip
    for line in aligned([("Group", "Registered", *shown, "Left", "Computed by"), *rows]):
        echo(line.rstrip())
    where = Counter(one.where for one in found if one.state == "running")
    for kind, count in where.items():
        echo(f"running on {kind}: {count}")
    for one in found:
        if one.state == "failed":
            echo(f"{one.name} failed twice: {one.reason}")
    left = total_left(found)
    rest = "" if left == (0, 0) else f"; {_left(left)} left, one run after the other" if left else "; time not known"
    click.echo(f"{len(found)} runs: {', '.join(f'{counts[state]} {state}' for state in shown)}{rest}")


def _left(seconds: tuple[float, float] | None) -> str:
    from commands.plan import span

    return "-" if seconds is None or seconds == (0, 0) else span(*seconds)
