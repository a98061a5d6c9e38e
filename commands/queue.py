"""`queue`: many runs, on this machine or on many."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks import hints
from benchmarks.errors import RunError
from benchmarks.paths import QUEUE
from benchmarks.queue.executors import EXECUTORS
from benchmarks.start import INTERRUPTED
from commands.options import (
    data_option,
    engine_options,
    json_option,
    recipe_options,
    registry_option,
    runs_option,
    seed_option,
)
from commands.output import echo, note, print_json
from results.leases import BEAT, LONGEST_BEAT

if TYPE_CHECKING:
    from benchmarks.queue.folder import QueueFolder
    from benchmarks.queue.queued import QueuedRun

queue_option = click.option(
    "--queue", "queue_root", type=click.Path(path_type=Path, file_okay=False), envvar="BNN_QUEUE", default=QUEUE,
    show_default="queue/", callback=hints.remember_folder, help="Folder of the queue (or $BNN_QUEUE).",
)  # fmt: skip


@click.group("queue")
def command() -> None:
    """Queue many runs, and have them carried out: here, on machines that share a folder, on a cluster.

    The queue is a folder. `add` puts runs into it, with the code of the present commit; `work`, on each machine, takes
    one after the other until all are over. Nothing is run twice, and a run whose machine is lost is gone on with.
    """


@command.command("add")
@click.argument("patterns", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--seeds", "size", type=click.Choice(["3", "5", "10"]),
    help="Register groups of 5 seeds, or of 3; extend them, once, to 10, or to 5; queue what is missing.",
)  # fmt: skip
@seed_option
@click.option("--dry-run", is_flag=True, help="Say what it would take, as `plan` does, and change nothing.")
@click.option("--executor", type=click.Choice(list(EXECUTORS)), default="local", show_default=True,
              help="What carries them out; local: `queue work`.")  # fmt: skip
@click.option("--allow-change", is_flag=True,
              help="A run that was begun may go on on another kind of machine; its record tells it.")  # fmt: skip
@recipe_options
@engine_options
@queue_option
@data_option
@runs_option
@registry_option
@json_option
@click.pass_context
def add(ctx: click.Context, /, **given: object) -> None:
    """Queue runs of benchmarks: ID is an id, or a pattern in quotes, as 'binaryconnect-*'.

    They are computed by the code of the commit that is checked out now, whatever is edited later. What is recorded,
    begun or queued already is passed over, and that is said.
    """
    from commands.queue_add import add_runs

    add_runs(ctx, given)


@command.command("status")
@click.argument("patterns", metavar="[RUN|GROUP|ID]...", nargs=-1)
@click.option("--all", "all_runs", is_flag=True, help="A line for each run.")
@queue_option
@json_option
def status(patterns: tuple[str, ...], all_runs: bool, queue_root: Path, as_json: bool) -> None:
    """Say where the runs stand: waiting, running and on what, done, failed twice and why; and the hours left.

    silent: whoever is at it has not been heard of for a while; the next worker takes it over. Hours are those of stored
    epochs, one run after the other; without any, those known when it was queued. Nothing is changed.
    """
    from benchmarks.queue.executors import open_executor
    from benchmarks.queue.status import SCHEMA, group_standings, standings
    from commands.queue_report import print_groups, print_runs

    queue = _opened(queue_root)
    runs = _chosen(queue, patterns) if patterns else list(queue.runs().values())
    found = standings(queue, runs, lambda name: open_executor(name, queue))
    groups = group_standings(runs, found)
    if as_json:
        print_json({"schema": SCHEMA, "groups": groups, "runs": found})
        return
    if patterns or all_runs:
        print_runs(found)
    print_groups(groups, found)


@command.command("cancel")
@click.argument("patterns", metavar="RUN|GROUP|ID...", nargs=-1, required=True)
@queue_option
def cancel(patterns: tuple[str, ...], queue_root: Path) -> None:
    """Take runs out of the queue, and interrupt those that are being carried out.

    What a run has stored stays in its folder; `queue add` queues it again, and it goes on from there.
    """
    from benchmarks.queue.executors import open_executor

    queue = _opened(queue_root)
    over = queue.over()
    runs = [run for run in _chosen(queue, patterns) if run.name not in over]
    queue.cancel(run.name for run in runs)
    for name in dict.fromkeys(run.executor for run in runs):
        open_executor(name, queue).cancel(queue.handles(name, [run.name for run in runs if run.executor == name]))
    click.echo(f"{len(runs)} run{'s' * (len(runs) != 1)} cancelled")


@command.command("logs")
@click.argument("name", metavar="RUN")
@queue_option
def logs(name: str, queue_root: Path) -> None:
    """Print what the last try of a run printed; and where it is, for `tail -f`."""
    from benchmarks.queue.executors import open_executor

    queue = _opened(queue_root)
    run = queue.runs().get(name)
    if run is None:
        raise _no_run(queue, name)
    own = open_executor(run.executor, queue).logs(name, queue.handles(run.executor, [name]).get(name, ""))
    found = [*own, *queue.logs_of(name)[-1:]]
    if not found:
        echo(f"{name} was not begun")
    for path in found:
        note(f"{path}:")
        for line in path.read_text(errors="replace").rstrip("\n").split("\n"):
            echo(line)


@command.command("work")
@click.option("--at-once", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="So many runs at a time; GPUs are given out in turn.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="CPU threads of each run.  [default: its share of all cores]")
@click.option("--only", metavar="RUN", help="One try of this run alone, wherever else it may be tried.")
@click.option("--stay", is_flag=True, help="Wait for what is queued later, too.")
@click.option("--beat", type=click.FloatRange(0.05, LONGEST_BEAT), default=BEAT, show_default=True, metavar="SECONDS",
              help="Between signs of life; after eight that do not come another worker takes over.")  # fmt: skip
@queue_option
@data_option
def work(
    at_once: int, threads: int | None, only: str | None, stay: bool, beat: float, queue_root: Path, data_root: Path
) -> None:
    """Carry out what is queued, until all is over: on this machine, beside any number of others with the same folder.

    Ctrl-C or a termination signal interrupts the runs, which any worker goes on with after their last stored epoch.
    Exit codes: 0 all is over; 1 a run failed twice, or is left for another machine, or with --only this try failed; 130
    interrupted.
    """
    from benchmarks.queue.local import Wanted, Worker, places
    from commands.running import end_all_as_by_ctrl_c

    end_all_as_by_ctrl_c()
    queue = _opened(queue_root)
    if only is not None and only not in queue.runs():
        raise _no_run(queue, only)
    wanted = Wanted(data_root, at_once, threads, only, stay, beat)
    with places(wanted, note) as found:
        ended = Worker(queue, wanted, note).work(found)
    states = {attempt.state for attempt in ended}
    if only is not None:
        is_over = queue.end_of(only) in ("done", "diverged", "cancelled")
        sys.exit(0 if is_over else INTERRUPTED if states & {"interrupted", "lost", "busy"} else 1)
    sys.exit(_what_is_left(queue))


def _what_is_left(queue: QueueFolder) -> int:
    """Say what a worker leaves behind; the exit code."""
    over = queue.over()
    names = [name for name, run in queue.runs().items() if run.executor == "local"]
    failed = [name for name in names if over.get(name) == "failed"]
    left = [name for name in names if name not in over]
    if failed:
        note(f"{len(failed)} failed twice: `python cli.py queue status {failed[0]}` says why")
    if left:
        note(f"{len(left)} are left for other machines: `python cli.py queue status`")
    return 1 if failed or left else 0


def _opened(root: Path) -> QueueFolder:
    """Raises RunError if there is no queue."""
    from benchmarks.queue.folder import QueueFolder

    queue = QueueFolder(root)
    queue.check()
    return queue


def _no_run(queue: QueueFolder, name: str) -> RunError:
    return RunError(f"no run {name!r} in {queue.path}: `python cli.py queue status --all` lists them")


def _chosen(queue: QueueFolder, patterns: Sequence[str]) -> list[QueuedRun]:
    """The runs that fit: by their own name, their group's or their benchmark's.

    Raises:
        RunError: a pattern that fits none.
    """
    from fnmatch import fnmatchcase

    runs, chosen = list(queue.runs().values()), set[str]()
    for pattern in patterns:
        fits = {r.name for r in runs if any(fnmatchcase(n, pattern) for n in (r.name, r.group, r.benchmark))}
        if not fits:
            raise _no_run(queue, pattern)
        chosen |= fits
    return [run for run in runs if run.name in chosen]
