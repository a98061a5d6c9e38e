"""`prepare`: data sets, fetched, proved and stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.hints import as_typed
from commands.options import data_option, json_option
from commands.output import announced, console, print_json
from commands.registry import check_named

if TYPE_CHECKING:
    from data_prep import Prepared


@click.command("prepare")
@click.argument("dataset", metavar="DATASET", required=False)
@click.option("--variant", metavar="NAME", help="A stored preprocessing, for example gcn_zca of cifar10.")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    help="Folder with the official files, or CIFAR-10's archive, instead of the network.",
)
@click.option("--check", "check_only", is_flag=True, help="Only prove what is stored against its digest.")
@click.option("--list", "list_only", is_flag=True, help="Only say what is stored, from where, and how large.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Write a contact sheet as PNG.")
@data_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, dataset: str | None, variant: str | None, source: Path | None, check_only: bool,
    list_only: bool, picture: Path | None, data_root: Path, as_json: bool,
) -> None:  # fmt: skip
    """Fetch a data set, prove that it is the right bytes, and store it.

    A variant, a preprocessing that is too expensive to repeat for every run, is stored beside it. With --picture:
    the first images, as published and as VARIANT (or any other preprocessing) gives them.
    """
    import data_prep

    if list_only:
        check_named(ctx, "data_root", data_root)
        stored = data_prep.listing(data_root)
        if as_json:
            print_json([_stored(prepared) for prepared in stored])
        for prepared in [] if as_json else stored:
            _print_stored(prepared)
        if not stored and not as_json:
            click.echo(as_typed(f"nothing is stored in {data_root}: `python cli.py prepare DATASET` changes that"))
        return
    if dataset is None:
        raise click.UsageError(f"expected DATASET, one of {', '.join(data_prep.DATASETS)}, or --list")
    if picture is not None:
        data_prep.picture(dataset, data_root, variant or "unit", picture)
        click.echo(f"{dataset}, {variant or 'unit'}: {picture}")
        return
    if check_only:
        with announced("proving what is stored against its digest"):
            prepared = data_prep.check(dataset, data_root, variant)
    else:
        prepared = data_prep.prepare(dataset, data_root, source, data_prep.RichProgress(console(stderr=True)), variant)
    if as_json:
        print_json(_stored(prepared))
    else:
        _print_stored(prepared)


def _stored(prepared: Prepared) -> dict[str, Any]:
    return {**vars(prepared), "path": str(prepared.path)}


def _print_stored(prepared: Prepared) -> None:
    name = prepared.dataset + (f", {prepared.variant}" if prepared.variant else "")
    counts = ", ".join(f"{count:,} {split}" for split, count in prepared.counts.items())
    click.echo(f"{name}: {counts} images in {prepared.path} ({prepared.bytes:,} bytes)")
    click.echo(f"  from {prepared.origin}; digest {prepared.digest[:16]}")
    facts = prepared.settings | {key: round(value, 6) for key, value in prepared.statistics.items()}
    if facts:
        click.echo("  " + ", ".join(f"{key} {value}" for key, value in facts.items()))
