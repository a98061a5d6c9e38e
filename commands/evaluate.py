"""`evaluate`: a run's test error, measured again."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.engine import DEVICES, ENGINES
from commands.options import data_option, json_option, registry_option, remember_runs_of, runs_option
from commands.output import announced, echo, note, print_json
from commands.registry import check_registry

EVALUATING = "loading the data, opening the engine and evaluating the images"


@click.command("evaluate")
@click.argument("run", metavar="RUN", required=False)
@click.option("--pretrained", metavar="ID", help="A record with published weights (or its benchmark), instead of RUN.")
@click.option("--first", type=click.IntRange(1), metavar="N", help="On the first N training images instead.")
@click.option("--weights", type=click.Choice(["binary", "real"]), help="Evaluate with other weights than the recipe's.")
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    help="Which computes.  [default: the recorded one, where it is installed]",
)
@click.option(
    "--device", type=click.Choice(DEVICES), help="Where it computes.  [default: the recorded one, where there is one]"
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: as recorded, up to all usable cores]")
@click.option(
    "--wrong",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.csv",
    help="Write which images are classified wrongly: index from 0, label, predicted; with --json in it too.",
)
@data_option
@runs_option
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, run: str | None, pretrained: str | None, first: int | None, weights: str | None,
    engine: str | None, device: str | None, threads: int | None, wrong: Path | None, data_root: Path, runs_root: Path,
    registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Measure a run's test error again, from its saved weights and the data; exit code 1 if the record has another.

    With --pretrained: from the weights that are published with a record, without a run. With --first: the error on
    training images, with the labels that the run was trained on.

    Every image must come out as recorded. Where anything else computes than what recorded it (engine, processor,
    versions, threads), up to 1 in 1,000 images, and 2 at least, may differ; what differs is said.
    """
    if (run is None) == (pretrained is None):
        raise click.UsageError("expected either RUN or --pretrained ID")
    if pretrained is not None and (first is not None or weights is not None):
        raise click.UsageError("--first and --weights are for a RUN: published weights are for the test images")
    from benchmarks.run import evaluated as evaluated_runs
    from benchmarks.run import evaluation

    if wrong is not None:
        evaluated_runs.check_folder(wrong)
    asked = evaluation.Asked(engine, device, threads)
    if pretrained is not None:
        check_registry(ctx, registry)
        path = evaluation.find_published(registry, pretrained)
        with announced(EVALUATING):
            evaluated = evaluation.evaluate_published(
                path, registry=registry, data_root=data_root, asked=asked, notify=note
            )
    else:
        from benchmarks.run.selection import find_run

        remember_runs_of(runs_root, str(run))
        folder = find_run(runs_root, str(run))
        folder.notify = note
        with announced(EVALUATING):
            evaluated = evaluation.evaluate_run(folder, data_root=data_root, first=first, weights=weights, asked=asked)
    if wrong is not None:
        evaluated_runs.write_wrong_images(evaluated, wrong)
    if as_json:
        print_json(evaluated.as_json() | ({} if wrong is None else {"wrong": evaluated.wrong_images()}))
    else:
        echo(
            f"{evaluated.run}: epoch {evaluated.epoch}: {evaluated.kind} error {evaluated.error:.3f} %"
            f" ({evaluated.wrong} of {evaluated.images:,} images wrong), with {evaluated.weights} weights"
        )
        echo(evaluated.comparison)
    sys.exit(not evaluated.agrees)
