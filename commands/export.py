"""`export`: a table of results for a paper, a page or a program; a published network for other programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.recipe.expected import nearest
from commands.options import data_option, registry_option
from commands.output import announced, echo, fail, note
from commands.registry import check_registry, records_of, table_rows
from commands.site import write_leaderboard
from results.views.rows import Row
from results.views.selection import OPERATORS, Filter, sort_rows

FORMATS = ("markdown", "latex", "csv", "json", "parquet")


def _known(column: str, option: str) -> str:
    """The column, if there is one of that name."""
    if column not in Row._fields:
        near = nearest(column, Row._fields) or f": expected one of {', '.join(Row._fields)}"
        fail(f"{option}: there is no column {column!r}{near}", 2)
    return column


def _columns(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """`a,b,c` as columns."""
    if text is None:
        return None
    columns = tuple(_known(word.strip(), f"--columns {text}") for word in text.split(","))
    if len(set(columns)) < len(columns):
        fail(f"--columns {text}: expected each column once", 2)
    return columns


def _filters(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> list[Filter]:
    """Each text, as `runs>=5`, as a filter."""
    return [_filter(text) for text in texts]


def _filter(text: str) -> Filter:
    found = [(text.index(sign), -len(sign), sign) for sign in OPERATORS if sign in text]
    if not found:
        fail(f"--filter {text}: expected COLUMN, one of {' '.join(OPERATORS)}, VALUE, as in 'runs>=5'", 2)
    _, _, sign = min(found)  # the first one; of two that begin there the longer
    column, _, value = text.partition(sign)
    wanted = Filter(_known(column.strip(), f"--filter {text}"), sign, value.strip())
    try:
        wanted.check()
    except ValueError as error:
        fail(f"--filter {text}: {error}", 2)
    return wanted


def _sorting(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, bool] | None:
    """`COLUMN[:desc]` as (column, whether descending)."""
    if text is None:
        return None
    column, colon, order = text.partition(":")
    if colon and order not in ("asc", "desc"):
        fail(f"--sort {text}: expected COLUMN, COLUMN:asc or COLUMN:desc", 2)
    return _known(column.strip(), f"--sort {text}"), order == "desc"


@click.command("export")
@click.option("--format", "style", type=click.Choice(FORMATS), help="How the table is written.")
@click.option("--html", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Instead: the leaderboard as a site, of pages that need no server.")  # fmt: skip
@click.option(
    "--onnx", metavar="ID", help="Instead: the published network of a record (or of its benchmark's only one) as ONNX."
)
@click.option("--qonnx", is_flag=True, help="With --onnx: with QONNX's nodes for binary weights and activations.")
@click.option("--safetensors", is_flag=True, help="Instead: write the files of published weights in the registry anew.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file instead.")
@click.option("--columns", callback=_columns, metavar="A,B,C", help="Only these columns, in this order.")
@click.option(
    "--filter", "filters", multiple=True, callback=_filters, metavar="EXPR",
    help="Only rows with COLUMN=VALUE; also != < <= > >=, and ~ for a part of a text. Several: all of them.",
)  # fmt: skip
@click.option("--sort", callback=_sorting, metavar="COLUMN[:desc]", help="In the order of this column.")
@click.option("--all", "all_benchmarks", is_flag=True, help="Also benchmarks without a record.")
@registry_option
@data_option
@click.pass_context
def command(
    ctx: click.Context, html: Path | None, onnx: str | None, qonnx: bool, safetensors: bool, style: str | None,
    out: Path | None, columns: tuple[str, ...] | None, filters: list[Filter], sort: tuple[str, bool] | None,
    all_benchmarks: bool, registry: Path, data_root: Path,
) -> None:  # fmt: skip
    """Write the table of results for a paper (LaTeX), a page (Markdown) or a program (CSV, JSON, Parquet).

    With --html: the leaderboard as a site, with a page a benchmark, record and paper; with pictures where the data are.

    With --onnx: a published network, from its weights; only if onnxruntime, or qonnx's executor with --qonnx, gets the
    very same test images right as the record says. Needs the data, and requirements-onnx.txt (docs/weights.md).

    Columns: benchmark, paper, data, target, target_kind, decimals, runs, diverged, test_error, seed_deviation,
    binomial_error, verdict, engine, date, train_error, precision, repetitions, notes (results/README.md).
    """
    of_a_table = bool(style or columns or filters or sort or all_benchmarks)
    _check_options(html, onnx, out, style, qonnx=qonnx, safetensors=safetensors, of_a_table=of_a_table)
    check_registry(ctx, registry)
    if onnx is not None:
        _write_onnx(onnx, out, registry, data_root, qonnx=qonnx)
    elif safetensors:
        _write_weights(registry)
    elif html is not None:
        note(f"wrote {write_leaderboard(html, registry, data_root)}")
    else:
        assert style is not None
        rows = table_rows(records_of(registry), registry, all_benchmarks=all_benchmarks)
        rows = [row for row in rows if all(wanted.fits(row) for wanted in filters)]
        if sort is not None:
            rows = sort_rows(rows, sort[0], descending=sort[1])
        content = _written(style, rows, {} if columns is None else {"columns": columns})
        if out is None:
            click.echo(content, nl=False)
        else:
            _write(out, content)
        if not rows:
            note("no row fits" if filters else "there is no record: --all has the benchmarks without one")


def _check_options(
    html: Path | None, onnx: str | None, out: Path | None, style: str | None,
    *, qonnx: bool, safetensors: bool, of_a_table: bool,
) -> None:  # fmt: skip
    """Refuse options that do not go together."""
    if qonnx and onnx is None:
        raise click.UsageError("--qonnx goes with --onnx ID")
    if onnx is not None and (of_a_table or html or safetensors):
        raise click.UsageError("--onnx goes with --qonnx, --out, --registry and --data alone")
    if safetensors and (of_a_table or html or out):
        raise click.UsageError("--safetensors goes with --registry alone: it writes all files of weights there")
    if html is not None and (of_a_table or out):
        raise click.UsageError("--html goes with --registry and --data alone: the site holds everything")
    if style is None and not (onnx is not None or safetensors or html is not None):
        raise click.UsageError(
            f"expected --html DIR, --onnx ID, --safetensors, or --format and one of {', '.join(FORMATS)}"
        )
    if style == "parquet" and out is None:
        raise click.UsageError("Parquet is binary: expected --out FILE")
    if out is not None and out.exists() and not out.is_file():
        raise click.UsageError(f"--out {out}: expected the name of a file")


def _write_onnx(text: str, out: Path | None, registry: Path, data_root: Path, *, qonnx: bool) -> None:
    from benchmarks.run.evaluation import find_published
    from benchmarks.run.onnx_export import export

    path = find_published(registry, text)
    if out is not None and not out.parent.is_dir():
        fail(f"--out {out}: there is no folder {out.parent}", 1)
    with announced("making the graph, loading the data and comparing the outcome of every test image"):
        written, images = export(path, out, registry=registry, data_root=data_root, qonnx=qonnx)
    echo(f"wrote {written}: {images:,} test images come out as recorded")


def _write_weights(registry: Path) -> None:
    from benchmarks.run.published_file import write_anew

    published = [(run.benchmark, run.id) for run in records_of(registry) if run.published_weights]
    for path in write_anew(registry, published):
        echo(f"wrote {path}")


def _written(style: str, rows: Sequence[Row], columns: dict[str, Any]) -> str | bytes:
    from results.views.csv import to_csv
    from results.views.json import to_json
    from results.views.latex import to_latex
    from results.views.markdown import to_markdown
    from results.views.parquet import to_parquet

    styles: dict[str, Callable[..., str | bytes]] = {
        "markdown": to_markdown, "latex": to_latex, "csv": to_csv, "json": to_json, "parquet": to_parquet,
    }  # fmt: skip
    try:
        return styles[style](rows, **columns)
    except ImportError as error:
        fail(str(error), 1)


def _write(out: Path, content: str | bytes) -> None:
    from results.files import write_atomically

    if not out.parent.is_dir():
        fail(f"--out {out}: there is no folder {out.parent}", 1)
    write_atomically(out.resolve(), content.encode() if isinstance(content, str) else content)
    note(f"wrote {out}")
