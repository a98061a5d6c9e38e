"""The options that narrow `list` and `table`, and the table as a terminal, or whatever else reads it, has it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from benchmarks.errors import RecipeError
from benchmarks.recipe import Summary
from benchmarks.recipe.expected import nearest
from commands.output import line_width

if TYPE_CHECKING:
    from results.views.rows import Row

Command = TypeVar("Command", bound=Callable[..., Any])


class Filters(NamedTuple):
    """What --paper, --data and --verdict say; None where they are not given."""

    paper: str | None
    dataset: str | None
    verdict: str | None

    @property
    def given(self) -> bool:
        return self != (None, None, None)

    def narrow(self, rows: Iterable[Row], benchmarks: Mapping[str, Summary]) -> list[Row]:
        """The rows that fit.

        Args:
            benchmarks: the catalog, by id; of what is only recorded the row itself is searched.

        Raises:
            RecipeError: a word that fits no benchmark, or no verdict there is, with the nearest ones.
        """
        rows = list(rows)
        recorded = [row for row in rows if row.benchmark not in benchmarks]
        papers = {row.benchmark: f"{row.benchmark} {row.paper}" for row in recorded}
        papers |= {name: entry.searched for name, entry in benchmarks.items()}
        datasets = {row.benchmark: row.data for row in recorded}
        datasets |= {name: entry.dataset for name, entry in benchmarks.items()}
        fits = _fitting("--paper", self.paper, papers) & _fitting("--data", self.dataset, datasets)
        words = _verdict_words() if self.verdict is not None else ()
        verdict = (self.verdict or "").lower()
        if words and not any(verdict in word for word in words):
            expected = ", ".join(words)
            raise RecipeError(f"--verdict {self.verdict}: expected (a part of) {expected}{nearest(verdict, words)}")
        return [row for row in rows if row.benchmark in fits and verdict in row.verdict.lower()]


def filter_options(command: Command) -> Command:
    """--paper, --data, --verdict."""
    for option in (
        click.option("--verdict", help="Only benchmarks with this verdict (a part of it), for example 'not run'."),
        click.option("--data", "dataset", help="Only benchmarks on this data set."),
        click.option(
            "--paper", help="Only of this paper: a part of its name, title, authors, arXiv number, or of the id."
        ),
    ):
        command = option(command)
    return command


def print_table(rows: Sequence[Row]) -> None:
    """The table: what a terminal's lines have room for, else all of it."""
    from results.views.text import to_columns, to_text

    click.echo(to_text(rows, line_width()) if sys.stdout.isatty() else to_columns(rows), nl=False)


def _fitting(option: str, wanted: str | None, texts: Mapping[str, str]) -> set[str]:
    """Ids of the benchmarks whose text has what is wanted in it.

    Raises:
        RecipeError: none has.
    """
    fits = {name for name, text in texts.items() if wanted is None or wanted.lower() in text.lower()}
    if fits or wanted is None:
        return fits
    words = {word.strip("(),:;").lower() for text in texts.values() for word in text.split()}
    few = sorted(set(texts.values()))
    expected = f": expected (a part of) {', '.join(few)}" if option == "--data" else ""
    near = nearest(wanted.lower(), words)
    raise RecipeError(f"{option} {wanted}: no benchmark has that{expected}{near}; `python cli.py list` shows all")


def _verdict_words() -> tuple[str, ...]:
    """Every verdict that a table can show."""
    from typing import get_args

    from benchmarks.verdict import Word
    from benchmarks.verdict.report import MEANING
    from results.views.rows import NOT_RUN

    return tuple(dict.fromkeys((NOT_RUN, *MEANING, *get_args(Word))))
