"""`runs`: the local runs and where each stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.hints import as_typed
from commands.options import json_option, registry_option, runs_option
from commands.output import byte_size, echo, line_width, print_json
from commands.registry import check_named, check_registry

if TYPE_CHECKING:
    from benchmarks.run.listing import LocalRun

SCHEMA = 1  # of what --json prints
HEADINGS = ("Run", "State", "Epoch", "Error (%)", "Left", "Size")


@click.command("runs")
@runs_option
@registry_option
@json_option
@click.pass_context
def command(ctx: click.Context, runs_root: Path, registry: Path, as_json: bool) -> None:
    """List the runs in the folder of runs: state, epoch, validation error, time left, size.

    running: a process is at it; interrupted: `resume` goes on with it; finished; registered: finished, and its record
    is in the registry; diverged; damaged. The epoch is the last one that is stored. An error is that of the validation
    images at this epoch, or of the test images, marked so, where there are no others. Nothing is changed.
    """
    from benchmarks.run.listing import local_runs

    check_named(ctx, "runs_root", runs_root)
    check_registry(ctx, registry)
    found = local_runs(runs_root, registry)
    if as_json:
        print_json({"schema": SCHEMA, "runs": found})
        return
    if not found:
        click.echo(as_typed(f"no run in {runs_root}: `python cli.py reproduce ID` starts one"))
        return
    _print(found)


def _print(found: Sequence[LocalRun]) -> None:
    """A line a run; where lines have no room for the benchmark, the runs of each stand below its id."""
    lines = aligned([HEADINGS, *((run.name, *_cells(run)) for run in found)])
    grouped = len(lines[0]) > line_width()
    if grouped:
        lines = aligned([HEADINGS, *((run.name.partition("/")[2], *_cells(run)) for run in found)])
    echo(lines[0].rstrip())
    click.echo("-" * len(lines[0]))
    benchmark = ""
    for run, line in zip(found, lines[1:], strict=True):
        if grouped and run.benchmark != benchmark:
            benchmark = run.benchmark
            click.echo()
            echo(benchmark)
        echo(line.rstrip())
        if run.problem:
            echo(f"  {run.problem}")
    states = Counter(run.state for run in found)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    click.echo(f"\n{len(found)} run{'s' * (len(found) > 1)}: {counts}; {byte_size(sum(run.bytes for run in found))}")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The cells of rows in columns: run and state to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = [str.ljust, str.ljust, *[str.rjust] * (len(widths) - 2)]
    return ["  ".join(put(cell, width) for put, cell, width in zip(align, row, widths, strict=True)) for row in rows]


def _cells(run: LocalRun) -> tuple[str, ...]:
    from benchmarks.run.display import duration

    error = run.test_error if run.valid_error is None else run.valid_error
    mark = "" if run.valid_error is not None or error is None else " test"
    return (
        run.state,
        f"{run.epoch}/{run.epochs or '?'}",
        "-" if error is None else f"{error:.2f}{mark}",
        "-" if run.seconds_left is None else duration(run.seconds_left),
        byte_size(run.bytes),
    )
