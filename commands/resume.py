"""`resume`: go on with interrupted runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.queue.job import BegunRun
from commands.options import (
    at_once_option,
    data_option,
    fail_on_option,
    folders,
    json_option,
    registry_option,
    remember_runs_of,
    runs_option,
)
from commands.running import carry_out, carry_out_all, settle_code


@click.command("resume")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--allow-change", is_flag=True, help="Go on though code, versions or machine changed; the record tells it."
)
@at_once_option
@fail_on_option
@data_option
@runs_option
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, runs: tuple[str, ...], allow_change: bool, at_once: int, fail_on: tuple[str, ...],
    data_root: Path, runs_root: Path, registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Go on with an interrupted run from its last stored epoch; on a CPU to the very bits of an uninterrupted one.

    RUN is a run's folder, its name as `reproduce` printed it, or the benchmark if it has one run only.
    """
    settle_code()
    from benchmarks.run import runner
    from benchmarks.run.selection import find_run

    for run in runs:
        remember_runs_of(runs_root, run)
    found = {folder.name: folder for folder in (find_run(runs_root, run) for run in runs)}
    if len(found) > 1:
        device = "gpu" if any(folder.manifest().device == "gpu" for folder in found.values()) else "cpu"
        jobs = {
            name: BegunRun(
                run=folder.path, allow_change=allow_change, fail_on=fail_on, as_json=as_json, **folders(ctx)
            )
            for name, folder in found.items()
        }  # fmt: skip
        sys.exit(carry_out_all(jobs, at_once, device, as_json))
    (folder,) = found.values()
    carry_out(
        lambda reporter: runner.resume(
            folder, data_root=data_root, registry=registry, reporter=reporter, allow_change=allow_change
        ),
        as_json,
        fail_on,
    )
