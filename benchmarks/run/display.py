"""How a run is shown while it trains: a live line with the time left on a terminal, one line an epoch anywhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from benchmarks.hints import as_typed
from benchmarks.recipe.cost import steps_per_epoch
from benchmarks.recipe.settings import setting_text
from data_prep.progress import Overdue

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.recipe import Recipe
    from benchmarks.run.folder import RunFolder
    from results.views.reference import ReferenceCurve


LONG_EPOCH = 60.0  # seconds, from which on a log is told how long an epoch takes, and
SAMPLE = 10.0  # seconds of training by which that is known


class LiveReporter:
    """A `benchmarks.run.runner.Reporter` that prints to a console (standard error: results go to standard output)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), TextColumn("{task.fields[status]}"))
        # A bar that is redrawn is for eyes only: a log file gets one line an epoch.
        is_drawn = console.is_terminal and not console.is_dumb_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=not is_drawn)
        self._task: TaskID | None = None
        self._tells_pace = not is_drawn
        self._overdue: Overdue | None = None
        self.folder: RunFolder | None = None  # of the run, once it has begun

    def __enter__(self) -> LiveReporter:
        self._progress.start()
        self._expect("loading the data and opening the engine ...")
        return self

    def __exit__(self, *_: object) -> None:
        self._expect(None)
        self._progress.stop()

    def _expect(self, line: str | None) -> None:
        """What the line is about begins, and is said if it takes long; whatever was about to be said has ended."""
        if self._overdue is not None:
            self._overdue.ended()
        self._overdue = None if line is None else Overdue(self._say, line)

    def run_started(
        self, folder: RunFolder, recipe: Recipe, engine: dict[str, Any], epochs_done: int, reference: ReferenceCurve
    ) -> None:
        self._expect(None)
        self.folder, self._reference = folder, reference
        self._epochs, self._epoch = recipe.train.epochs, epochs_done + 1
        self._batches = steps_per_epoch(recipe)
        self._batch_size = recipe.train.batch_size
        self._epoch_seconds: float | None = None
        # What is compiled is compiled in the first batches that are told of: no clock may count them.
        self._untimed: int | None = None
        self._batch_seconds = 0.0
        self._say(f"[bold]{escape(folder.name)}[/bold]: {escape(recipe.title)}")
        where = f"engine {engine['name']} on {engine['device_name']}, {engine['threads']} threads"
        self._say(escape(f"{where}; folder {folder.path}"))
        for difference in recipe.differences:
            value, published = setting_text(difference.value), setting_text(difference.published)
            change = f"{difference.key} = {value} (published: {published}; {difference.source})"
            self._say(f"[yellow]not as published:[/yellow] {escape(change)}")
        if recipe.differences:
            self._say("[yellow]this run does not score:[/yellow] it is never judged against the paper nor ranked")
        if epochs_done:
            self._say(f"continues after epoch {epochs_done}")
        self._task = self._progress.add_task("", total=self._batches, status="")
        self._start_epoch()
        self._expect("the first step is under way: what was not compiled before is compiled in it ...")

    def batch_done(self, batches: int, loss: float) -> None:
        assert self._task is not None
        if self._overdue is not None:
            self._expect(None)
        status = f"loss {loss:.4f}"
        if self._untimed is None:
            self._untimed, self._epoch_started = batches, time.monotonic()
        elif batches > self._untimed:
            self._batch_seconds = (time.monotonic() - self._epoch_started) / (batches - self._untimed)
            rest_of_epoch = self._batch_seconds * (self._batches - batches)
            epoch_seconds = self._epoch_seconds or self._batch_seconds * self._batches
            left = rest_of_epoch + (self._epochs - self._epoch) * epoch_seconds
            rate = self._batch_size / self._batch_seconds
            status += f"  {rate:,.0f} images/s  {duration(left)} left"
            if self._tells_pace and time.monotonic() - self._epoch_started >= SAMPLE:
                self._tell_pace(epoch_seconds, left)
        self._progress.update(self._task, completed=batches, status=status)

    def _tell_pace(self, epoch_seconds: float, left: float) -> None:
        """Once, where nobody sees the bar: before the first line of an epoch that takes long."""
        self._tells_pace = False
        if epoch_seconds >= LONG_EPOCH:
            self._say(f"an epoch takes about {duration(epoch_seconds)}; {duration(left)} left")

    def epoch_done(self, row: dict[str, Any], declared_epoch: int) -> None:
        self._epoch_seconds = time.monotonic() - self._epoch_started + (self._untimed or 0) * self._batch_seconds
        self._untimed = 0
        train = f"  train {row['train_error']:.2f} %" if "train_error" in row else ""
        valid = f"  valid {row['valid_loss']:.4f} {row['valid_error']:.2f} %" if "valid_error" in row else ""
        best = "  [green]best so far[/green]" if declared_epoch == row["epoch"] else ""
        left = duration(self._epoch_seconds * (self._epochs - self._epoch))
        self._say(
            f"epoch {row['epoch']:{len(str(self._epochs))}}/{self._epochs}  lr {row['lr']:.3g}"
            f"  loss {row['train_loss']:.4f}{train}{valid}"
            f"  test {row['test_error']:.2f} %"
            f"  {row['images_per_second']:,.0f} images/s  {left} left{best}"
            f"{self._compared(row)}"
        )
        self._epoch += 1
        self._start_epoch()

    def _compared(self, row: dict[str, Any]) -> str:
        """Whether the run is on track, if there were earlier ones or the authors publish their curve."""
        band = self._reference.band(row["epoch"])
        if band is None:
            return ""
        place = band.place(row["valid_error"])
        color = {"within": "green", "above": "red", "below": "yellow"}[place]
        return f"  [{color}]{place}[/{color}] {band.low:.2f} to {band.high:.2f} % of {escape(band.whose)}"

    def diverged(self, message: str) -> None:
        self._say(f"[red]diverged:[/red] {escape(message)}")

    def note(self, message: str) -> None:
        self._console.print(as_typed(message), style="yellow", highlight=False, markup=False, soft_wrap=True)

    def _start_epoch(self) -> None:
        assert self._task is not None
        self._epoch_started = time.monotonic()
        self._progress.reset(
            self._task, description=f"epoch {self._epoch}/{self._epochs}", status="", total=self._batches
        )

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as "2 h 05 min", "5 min 03 s" or "12 s"."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"
