"""`table`: the table of results."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.recipe import usable_summaries
from commands.filters import Filters, filter_options, print_table
from commands.history import print_history
from commands.options import check_png, registry_option
from commands.output import line_width, warn
from commands.registry import catalog_links, check_registry, records_of, table_rows

if TYPE_CHECKING:
    from results.views.rows import Row


@click.command("table")
@click.option(
    "--format", "style", type=click.Choice(["text", "markdown", "csv", "json"]), default="text", show_default=True,
    help="How the table is written.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@filter_options
@click.option("--all", "all_benchmarks", is_flag=True, help="Also benchmarks without a record.")
@click.option("--write", is_flag=True, help="Also bring results/table.csv and the README's table up to date.")
@click.option("--history", "benchmark", metavar="ID", help="Instead: error and speed of a benchmark, run after run.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="With --history: draw it as PNG.")
@registry_option
@click.pass_context
def command(
    ctx: click.Context, style: str, as_json: bool, paper: str | None, dataset: str | None, verdict: str | None,
    all_benchmarks: bool, write: bool, benchmark: str | None, plot: Path | None, registry: Path,
) -> None:  # fmt: skip
    """Print the table of results, derived from the records.

    A terminal shows the columns that its lines have room for; a pipe or a file gets all of them, a line a row.
    --paper, --data and --verdict narrow what is printed; --write writes the whole table nevertheless.

    With --history: all runs of a benchmark over commits and time, and from ten runs on where their level changed.
    """
    filters = Filters(paper, dataset, verdict)
    check_registry(ctx, registry, environment_too=write)
    if benchmark is not None:
        _check_history(style, all_benchmarks or write or filters.given, plot)
        print_history(benchmark, registry, plot, as_json or style == "json")
        return
    if plot is not None:
        raise click.UsageError("--plot goes with --history ID")
    from results.views.cells import NOTE
    from results.views.csv import to_csv
    from results.views.json import to_json
    from results.views.markdown import to_markdown

    records = records_of(registry)
    known = usable_summaries({record.benchmark for record in records}, warn)
    rows = table_rows(records, registry, all_benchmarks=all_benchmarks, benchmarks=known)
    if filters.given:
        rows = filters.narrow(rows, {entry.id: entry for entry in known})
    if write:
        _write_table(table_rows(records, registry, all_benchmarks=False, benchmarks=known), registry)
    if as_json:
        style = "json"
    if style == "text":
        if filters.given and not rows:
            click.echo("no row fits")
            return
        print_table(rows)
        click.echo(f"\n{textwrap.fill(NOTE, line_width())}")
    else:
        links = catalog_links() if style == "markdown" else {}
        styles = {"markdown": lambda rows: to_markdown(rows, links), "csv": to_csv, "json": to_json}
        click.echo(styles[style](rows), nl=False)


def _check_history(style: str, has_others: bool, plot: Path | None) -> None:
    if has_others or style not in ("text", "json"):
        raise click.UsageError("--history goes with --json, --plot and --registry alone")
    if plot is not None:
        check_png(plot)


def _write_table(recorded: Sequence[Row], registry: Path) -> None:
    """Bring the README and table.csv that belong to a registry up to date; not every registry has a README."""
    from results.views.csv import write_csv
    from results.views.markdown import to_markdown, write_section

    readme = registry.parent.parent / "README.md"
    if readme.exists():
        write_section(readme, to_markdown(recorded, catalog_links()))
    else:
        click.echo(f"note: there is no {readme} to write the table to: only table.csv is written", err=True)
    write_csv(recorded, registry.parent / "table.csv")
