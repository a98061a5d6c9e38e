"""How a long preparation tells what it is doing, whoever is listening."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

PATIENCE = 2.0  # seconds after which it is said what takes so long


class Overdue:
    """Says a line once, if what it is about has not ended in time."""

    def __init__(self, say: Callable[[str], None], line: str) -> None:
        self._say, self._line = say, line
        self._timer = threading.Timer(PATIENCE, self._is_overdue)
        self._timer.daemon = True  # no process waits for it
        self._timer.start()

    def _is_overdue(self) -> None:
        with suppress(OSError):  # nobody may read on
            self._say(self._line)

    def ended(self) -> None:
        """Nothing is said from now on."""
        self._timer.cancel()


class Progress(Protocol):
    """A listener: one bar at a time, counted in bytes, and lines of text in between."""

    def start(self, description: str, total: int | None) -> None:
        """Begin a bar of `total` bytes; None when the length is unknown."""

    def advance(self, amount: int) -> None:
        """Move the current bar on by `amount` bytes."""

    def done(self) -> None:
        """End the current bar, whether it is full or not."""

    def note(self, message: str) -> None:
        """One line for the user."""


class Silent:
    """Says nothing: the default."""

    def start(self, description: str, total: int | None) -> None:
        """See Progress."""

    def advance(self, amount: int) -> None:
        """See Progress."""

    def done(self) -> None:
        """See Progress."""

    def note(self, message: str) -> None:
        """See Progress."""


class RichProgress:
    """Bars and notes on a console of rich; one of standard error, where results are piped.

    Where that is no terminal, a line in place of a bar, if it would last.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def start(self, description: str, total: int | None) -> None:
        """See Progress."""
        from rich import progress

        columns: list[progress.ProgressColumn] = [progress.TextColumn("{task.description}", markup=False)]
        if total is None:
            columns += [progress.BarColumn(), progress.TimeElapsedColumn()]
        else:
            columns += [progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn()]
            columns += [progress.TimeRemainingColumn()]
        # Transient: only notes stay on the screen; what was fetched is told by the result.
        self._bar = progress.Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task = self._bar.add_task(description, total=total)
        self._bar.start()
        self._overdue = None if self._console.is_terminal else Overdue(self.note, _in_words(description, total))

    def advance(self, amount: int) -> None:
        """See Progress."""
        self._bar.advance(self._task, amount)

    def done(self) -> None:
        """See Progress."""
        self._bar.stop()
        if self._overdue is not None:
            self._overdue.ended()

    def note(self, message: str) -> None:
        """See Progress."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)


def _in_words(description: str, total: int | None) -> str:
    return f"{description} ..." if total is None else f"{description} ({total / 1e6:,.1f} MB) ..."


@contextmanager
def bar(progress: Progress, description: str, total: int | None) -> Iterator[None]:
    """One bar around a block; it is ended even when the block fails, so that no terminal is left in disorder."""
    progress.start(description, total)
    try:
        yield
    finally:
        progress.done()
