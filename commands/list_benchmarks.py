"""`list`: the benchmarks and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from benchmarks.errors import RecipeError
from benchmarks.recipe import summaries
from benchmarks.recipe.expected import nearest
from commands.options import json_option, registry_option
from commands.output import console, line_width, warn
from commands.registry import check_registry, records_of, table_rows


@click.command("list")
@click.option("--paper", help="Only of this paper: a part of its name, title, authors, arXiv number, or of the id.")
@click.option("--data", "dataset", help="Only benchmarks on this data set.")
@click.option("--verdict", help="Only benchmarks with this verdict (a part of it), for example 'not run'.")
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, paper: str | None, dataset: str | None, verdict: str | None, registry: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """List the benchmarks: paper, data, target, recorded result, verdict."""
    from results.views.json import to_json
    from results.views.text import to_columns, to_rich

    check_registry(ctx, registry)
    entries = {entry.id: entry for entry in summaries(warn)}
    wanted = {
        "--paper": (paper, {name: entry.searched for name, entry in entries.items()}),
        "--data": (dataset, {name: entry.dataset for name, entry in entries.items()}),
    }
    fits = set(entries).intersection(*(_fitting(option, *search) for option, search in wanted.items()))
    if verdict is not None and not any(verdict.lower() in word for word in _verdict_words()):
        known = _verdict_words()
        raise RecipeError(f"--verdict {verdict}: expected (a part of) {', '.join(known)}{nearest(verdict, known)}")
    rows = table_rows(records_of(registry), registry, benchmarks=list(entries.values()))
    rows = [row for row in rows if row.benchmark in fits]
    rows = [row for row in rows if verdict is None or verdict.lower() in row.verdict.lower()]
    if as_json:
        click.echo(to_json(rows), nl=False)
    elif rows:
        text = to_columns(rows)
        if max(map(len, text.splitlines())) <= line_width():
            click.echo(text, nl=False)
        else:
            console().print(to_rich(rows))
        if any(row.target is None for row in rows):
            click.echo("Target -: no published target")
    else:
        click.echo("no benchmark fits")


def _fitting(option: str, wanted: str | None, texts: Mapping[str, str]) -> set[str]:
    """Ids of the benchmarks whose text has what is wanted in it.

    Raises:
        RecipeError: none has.
    """
    fits = {name for name, text in texts.items() if wanted is None or wanted.lower() in text.lower()}
    if fits:
        return fits
    words = {word.strip("(),:;").lower() for text in texts.values() for word in text.split()}
    few = sorted(set(texts.values()))
    expected = f": expected (a part of) {', '.join(few)}" if option == "--data" else ""
    near = nearest(str(wanted).lower(), words)
    raise RecipeError(f"{option} {wanted}: no benchmark has that{expected}{near}; `python cli.py list` shows all")


def _verdict_words() -> tuple[str, ...]:
    """Every verdict that `list` can show."""
    from typing import get_args

    from benchmarks.verdict import Word
    from benchmarks.verdict.report import MEANING
    from results.views.rows import NOT_RUN

    return tuple(dict.fromkeys((NOT_RUN, *MEANING, *get_args(Word))))
