"""What commands print, and to which stream."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from benchmarks.hints import as_typed
from data_prep.progress import Overdue
from results.escape import for_json, for_terminal

if TYPE_CHECKING:
    from rich.console import Console


def print_json(value: Any) -> None:
    """Print a value as indented JSON: what msgspec knows, with control characters escaped."""
    import msgspec

    click.echo(for_json(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)))


def echo(line: str, err: bool = False) -> None:
    """Print a line that has text of a record in it."""
    click.echo(for_terminal(line), err=err)


def note(message: str) -> None:
    """One line for the user, on the standard error stream."""
    click.echo(as_typed(message), err=True)


def warn(message: str) -> None:
    """A warning, on the standard error stream."""
    click.echo(as_typed(f"warning: {message}"), err=True)


def fail(message: str, exit_code: int) -> NoReturn:
    """End the command with an error of one line, or of several if the message has them."""
    click.echo(f"error: {as_typed(chr(10).join(map(for_terminal, message.split(chr(10)))))}", err=True)
    sys.exit(exit_code)


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """A line on the standard error stream if the block takes over two seconds; none with --json."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None and ctx.params.get("as_json"):
        yield
        return
    overdue = Overdue(note, f"{what} ...")
    try:
        yield
    finally:
        overdue.ended()


@contextlib.contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after each of `total` steps: a bar on a terminal, else a line now; none with --json.

    No thread draws the bar, so that processes may be forked meanwhile.
    """
    ctx = click.get_current_context(silent=True)
    quiet = ctx is not None and bool(ctx.params.get("as_json"))
    screen = console(stderr=True)
    if quiet or not screen.is_terminal or screen.is_dumb_terminal:
        if not quiet:
            note(f"{what}: {total:,} ...")
        yield lambda: None
        return
    from rich import progress

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    bar = progress.Progress(
        *columns, progress.TimeRemainingColumn(), console=screen, transient=True, auto_refresh=False
    )
    task, drawn = bar.add_task(what, total=total), 0.0

    def step() -> None:
        nonlocal drawn
        bar.advance(task)
        if time.monotonic() - drawn > 0.1:
            drawn = time.monotonic()
            bar.refresh()

    with bar:
        yield step


def console(stderr: bool = False) -> Console:
    """The one maker of consoles: what is no terminal gets lines of 200 characters, for whoever reads them."""
    from rich.console import Console

    stream_is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if stream_is_terminal else 200)


def line_width() -> int:
    """Characters that a line of the standard output may have."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 200


def byte_size(count: float) -> str:
    """Bytes as "1.2 kB", "12 kB", "3.4 MB", "120 GB"."""
    value, unit = count / 1e3, "kB"
    for larger in ("MB", "GB"):
        if value >= 1000:
            value, unit = value / 1e3, larger
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
