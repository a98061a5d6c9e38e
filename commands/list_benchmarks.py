"""`list`: the benchmarks and what came of them."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.recipe import summaries
from commands.filters import Filters, filter_options, print_table
from commands.options import json_option, registry_option
from commands.output import warn
from commands.registry import check_registry, records_of, table_rows


@click.command("list")
@filter_options
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, paper: str | None, dataset: str | None, verdict: str | None, registry: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """List the benchmarks: paper, data, target, recorded result, verdict.

    A terminal shows the columns that its lines have room for; a pipe or a file gets all of them, a line a row.
    """
    from results.views.json import to_json

    check_registry(ctx, registry)
    entries = {entry.id: entry for entry in summaries(warn)}
    rows = table_rows(records_of(registry), registry, benchmarks=list(entries.values()))
    rows = Filters(paper, dataset, verdict).narrow([row for row in rows if row.benchmark in entries], entries)
    if as_json:
        click.echo(to_json(rows), nl=False)
    elif rows:
        print_table(rows)
        if any(row.target is None for row in rows):
            click.echo("Target -: no published target")
    else:
        click.echo("no benchmark fits")
