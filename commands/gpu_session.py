"""`gpu-session`: what waits for a GPU, done as far as the time goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.engine import PRECISIONS
from benchmarks.recipe import load_recipe
from commands.options import data_option, json_option, registry_option
from commands.output import fail, print_json
from commands.registry import check_registry, records_of

if TYPE_CHECKING:
    from benchmarks.queue.gpu_session import Queue


@click.command("gpu-session")
@click.argument("benchmarks", metavar="[ID]...", nargs=-1)
@click.option("--budget-minutes", type=click.FloatRange(0), metavar="M", help="How long the GPU may be used.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Folder of logs, runs and records; the next session goes on with it.")  # fmt: skip
@click.option("--precision", type=click.Choice(PRECISIONS), default=PRECISIONS[0], show_default=True,
              help="Of products, in training.")  # fmt: skip
@data_option
@click.option(
    "--list", "list_only", is_flag=True, help="Only say what is wanted, why, and what the registry has of it."
)
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, benchmarks: tuple[str, ...], budget_minutes: float | None, out: Path | None, precision: str,
    data_root: Path, list_only: bool, registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Use a GPU for so many minutes: tests, speed, then the published runs that wait for one.

    ID: train these benchmarks in place of the whole queue. May be repeated until all is done: what is done is not
    repeated, and a run goes on where the last session left it. Exit code 1 if something failed; that the time was over
    is no failure. --registry and --json are for --list.
    """
    from benchmarks.queue.gpu_session import Session, carry_out, queue

    for benchmark in benchmarks:
        load_recipe(benchmark)  # which refuses those that there are not
    wanted = queue().of(benchmarks) if benchmarks else queue()
    if list_only:
        check_registry(ctx, registry)
        _print_queue(wanted, registry, as_json)
        return
    if budget_minutes is None or out is None:
        raise click.UsageError("expected --budget-minutes M and --out DIR, or --list")
    session = Session(out, data_root, budget_minutes, precision)
    carry_out(session, wanted)
    click.echo(f"{max(0, session.left) / 60:.1f} minutes left; records: {out / 'results'}")
    if session.failed:
        fail(f"{len(session.failed)} failed: {', '.join(session.failed)}: the same command tries again", 1)


def _print_queue(wanted: Queue, registry: Path, as_json: bool) -> None:
    listed: list[dict[str, Any]] = []
    known = [(record.benchmark, record.recipe.digest, record.seed) for record in records_of(registry)]
    for entry in wanted.runs:
        digest = load_recipe(entry.benchmark).digest
        done = [seed for seed in wanted.seeds if (entry.benchmark, digest, seed) in known]
        listed.append({
            "benchmark": entry.benchmark, "recorded": done, "first": wanted.seeds[: entry.first],
            "then": wanted.seeds[entry.first :], "why": entry.why,
        })  # fmt: skip
    if as_json:
        print_json(listed)
        return
    for line in listed:
        recorded, first, then = (", ".join(map(str, line[key])) for key in ("recorded", "first", "then"))
        click.echo(
            f"{line['benchmark']}: seeds {first}{f'; then {then}' if then else ''}; recorded {recorded or 'none'}"
        )
        if line["why"]:
            click.echo(f"  {line['why']}")
