"""Carrying out runs: one in this process, or several by commands of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.hints import as_typed
from benchmarks.recipe import Recipe, load_recipe
from benchmarks.start import INTERRUPTED
from commands.options import FAIL_ON
from commands.outcome import print_outcome, with_derived
from commands.output import console, print_json

if TYPE_CHECKING:
    from benchmarks.queue.job import Job
    from benchmarks.run.reporting import Outcome


def settle_code() -> None:
    """Settle which code computes before more of it is loaded; say once if no record can name it."""
    from benchmarks.run.provenance import HANDED_ON, code_at_start

    code = code_at_start()
    if code.commit is None and HANDED_ON not in os.environ:
        mend = f"; mend: {code.mend}" if code.mend else ""
        click.echo(as_typed(f"note: {code.note}: the record cannot say which code made it{mend}"), err=True)


def prepare_if_absent(recipe: Recipe, data_root: Path) -> None:
    """The data set, and its variant if the recipe's preprocessing is one."""
    import data_prep

    dataset, preprocessing = recipe.data.dataset, recipe.data.preprocessing
    variant = preprocessing if preprocessing in data_prep.variants(dataset) else None
    if data_prep.status(dataset, data_root, variant) is None:
        data_prep.prepare(dataset, data_root, None, data_prep.RichProgress(console(stderr=True)), variant)


def carry_out(run: Callable[[Any], Outcome], as_json: bool, fail_on: Sequence[str]) -> None:
    """Show a run while it lasts; a termination signal ends it as Ctrl-C does."""
    from benchmarks.run.display import LiveReporter

    end_as_by_ctrl_c(signal.SIGTERM)
    reporter = LiveReporter(console(stderr=True))
    try:
        with reporter:
            outcome = run(reporter)
    except KeyboardInterrupt:
        if reporter.folder is None:
            click.echo("interrupted before the run began", err=True)
        else:
            click.echo(as_typed(f"interrupted; go on with: python cli.py resume {reporter.folder.name}"), err=True)
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # at once: the engine's threads may be in the middle of a step
    from benchmarks.verdict import judge_run

    verdict = judge_run(outcome.record, load_recipe(outcome.record.benchmark).target)
    if as_json:
        print_json(with_derived(outcome.record, verdict))
    else:
        print_outcome(outcome, verdict)
    failed = FAIL_ON[verdict.word] if verdict.word in fail_on else 0
    sys.exit(1 if outcome.record.outcome == "diverged" else failed)


def end_as_by_ctrl_c(*signals: signal.Signals) -> None:
    """Have them end the command as Ctrl-C does, whose own signal may be ignored: `nohup ... &`."""
    for one in signals:
        signal.signal(one, signal.default_int_handler)


def end_all_as_by_ctrl_c() -> None:
    """Of a command that carries out others: so too when its terminal is closed, unless that is ignored, as by nohup."""
    end_as_by_ctrl_c(signal.SIGTERM, *([] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]))


def carry_out_all(jobs: Mapping[str, Job], at_once: int, device: str, as_json: bool) -> int:
    """Carry out jobs, each with the name that its lines get, so many at a time; --json prints a list. The exit code."""
    from benchmarks.queue import side_by_side

    end_all_as_by_ctrl_c()
    commands = {name: job.to_arguments() for name, job in jobs.items()}
    ended = side_by_side.carry_out(commands, at_once, device, capture=as_json)
    if as_json:
        print_json([json.loads(end.output) for end in ended if end.output])
    waiting = [end.name for end in ended if end.exit_code in (None, -signal.SIGTERM)]
    if waiting:
        click.echo(f"interrupted before the run began: {', '.join(waiting)}", err=True)
    codes = {end.name: end.exit_code for end in ended if end.exit_code and end.name not in waiting}
    for name, code in codes.items():
        if code < 0:
            click.echo(f"{name}: ended by {signal.Signals(-code).name}", err=True)
    if waiting or INTERRUPTED in codes.values():
        return INTERRUPTED
    return max(codes.values(), default=0) if set(codes.values()) <= set(FAIL_ON.values()) else 1
