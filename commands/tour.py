"""`tour`: the first five minutes: data, a claim measured again, training beside the authors' own run, all results."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.errors import RunError
from benchmarks.hints import as_typed
from benchmarks.machine.facts import usable_cores
from benchmarks.recipe import Recipe, benchmark_ids, load_recipe
from benchmarks.start import INTERRUPTED
from commands.options import choose_engine, data_option, registry_option, runs_option
from commands.output import console, echo, note
from commands.plan import span
from commands.registry import records_of
from commands.running import end_as_by_ctrl_c, settle_code
from commands.site import write_leaderboard

if TYPE_CHECKING:
    from benchmarks.engine import Choice
    from benchmarks.run.folder import RunFolder
    from results.record import Record

# A network that trains in seconds an epoch, whose weights are published beside its record, and of which the authors
# publish the error after each epoch.
BENCHMARK = "rwth-lenet5-mnist-binary"
EPOCHS, SEED = 3, 1234
NEXT = ("binaryconnect-mnist", "binaryconnect-cifar10")  # what most come for
STEPS = 4


@click.command("tour")
@data_option
@runs_option
@registry_option
def command(data_root: Path, runs_root: Path, registry: Path) -> None:
    """See in a few minutes what this does: fetch MNIST, check a published claim, train beside the authors' own curve.

    The training is a short one that does not score, and enters no registry. Ctrl-C ends the tour at any moment; the
    same command goes on, and does again only what is missing.
    """
    end_as_by_ctrl_c(signal.SIGTERM)
    try:
        agrees = _tour(data_root, runs_root, registry)
    except KeyboardInterrupt:
        click.echo(as_typed("interrupted; go on with: python cli.py tour"), err=True)
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # at once: the engine's threads may be in the middle of a step
    sys.exit(not agrees)


def _tour(data_root: Path, runs_root: Path, registry: Path) -> bool:
    """All steps; whether the published network measured as recorded."""
    began = time.perf_counter()
    published, short = load_recipe(BENCHMARK), load_recipe(BENCHMARK, [f"train.epochs={EPOCHS}"])
    settle_code()
    click.echo(f"{STEPS} steps, a few minutes in all; Ctrl-C ends them at any moment, and the same command goes on")
    choice = choose_engine(short, "auto", "auto", "float32")
    with _step(1, f"{published.data.dataset}: fetch the images, and prove that they are the published bytes"):
        prepare(published, data_root)
    with _step(2, f"{BENCHMARK}: measure the published network again, from its weights"):
        agrees = check_claim(published, data_root, registry)
    with _step(3, f"{BENCHMARK}: train {EPOCHS} of its {published.train.epochs} epochs, beside the authors' own run"):
        train(short, choice, data_root, runs_root, registry)
    with _step(4, "the leaderboard: all results, for a browser"):
        click.echo(f"  {write_leaderboard(runs_root / 'leaderboard', registry, data_root)}")
    click.secho("\nwhat to run next", bold=True)
    for line in next_commands(published, choice, data_root, runs_root, registry):
        echo(as_typed(f"  {line}"))
    click.echo(f"\nthe whole tour took {_duration(time.perf_counter() - began)}")
    return agrees


@contextlib.contextmanager
def _step(number: int, what: str) -> Iterator[None]:
    """A step's line before it, and how long it took behind it."""
    began = time.perf_counter()
    click.secho(f"\n{number}/{STEPS} {what}", bold=True)
    yield
    click.echo(f"  took {_duration(time.perf_counter() - began)}")


def prepare(recipe: Recipe, data_root: Path) -> None:
    """Fetch the recipe's data set where it is not stored, and prove what is."""
    import data_prep

    stored = data_prep.prepare(recipe.data.dataset, data_root, None, data_prep.RichProgress(console(stderr=True)))
    click.echo(f"  {sum(stored.counts.values()):,} images in {stored.path}, from {stored.origin}")


def check_claim(recipe: Recipe, data_root: Path, registry: Path) -> bool:
    """Measure the network that is published with a record; say the claim and the verdict. Whether it is as recorded.

    Raises:
        RunError: no record of the benchmark has published weights.
    """
    from benchmarks.run import evaluation
    from benchmarks.verdict import judge_run
    from results.registry import read

    paths = evaluation.published_of(registry, recipe.id)
    if not paths:
        raise RunError(f"no record of {recipe.id} in {registry} has published weights: leave --registry out")
    with console(stderr=True).status("measuring"):
        found = evaluation.evaluate_published(paths[0], registry=registry, data_root=data_root, notify=note)
    if recipe.target is not None:
        echo(f"  the authors' claim: {recipe.target.test_error} % test error ({recipe.target.source})")
    echo(f"  measured now: {found.error:.3f} % ({found.wrong} of {found.images:,} images wrong); {found.comparison}")
    verdict = judge_run(read(paths[0]), recipe.target)
    echo(f"  verdict on this run: {verdict.word}{' (provisional)' * verdict.provisional}: {verdict.explanation}")
    return found.agrees


def train(recipe: Recipe, choice: Choice, data_root: Path, runs_root: Path, registry: Path) -> None:
    """Train, or go on with the run that an earlier tour began; say how it lies to the authors' own run."""
    from benchmarks.run import runner
    from benchmarks.run.display import LiveReporter

    assert not recipe.scoring  # or it would enter the registry
    begun = _begun(recipe, choice, runs_root)
    with LiveReporter(console(stderr=True)) as reporter:
        if begun is not None:
            outcome = runner.resume(begun, data_root=data_root, registry=registry, reporter=reporter, allow_change=True)
        else:
            outcome = runner.reproduce(
                recipe, data_root=data_root, runs_root=runs_root, registry=registry, seed=SEED, engine=choice.engine,
                device=choice.device, threads=None, reporter=reporter,
            )  # fmt: skip
    if begun is not None:
        click.echo(f"  an earlier tour began this run: {begun.path}")
    echo(f"  {_on_track(recipe, outcome.record)}")
    if outcome.comparison is not None:
        echo(f"  {outcome.comparison}")
    click.echo(f"  learning curve: {outcome.folder.path / 'learning-curve.png'}")


def _begun(recipe: Recipe, choice: Choice, runs_root: Path) -> RunFolder | None:
    """The latest run of these settings on this engine, over or not."""
    from benchmarks.recipe.settings import named_settings
    from benchmarks.run.folder import RunFolder
    from benchmarks.run.listing import run_folders

    wanted = (named_settings(recipe.settings, recipe.stated), SEED, choice.engine, choice.device)
    for path in reversed(run_folders(runs_root, recipe.id)):
        folder = RunFolder(path, lambda _: None)
        with contextlib.suppress(RunError):  # of a damaged one `resume` speaks, if somebody wants it
            begun = folder.manifest()
            if (begun.settings, begun.seed, begun.engine, begun.device) == wanted:
                return folder
    return None


def _on_track(recipe: Recipe, record: Record) -> str:
    """How many epochs lie where the authors' own did."""
    from msgspec import UNSET

    from benchmarks.run.published_curve import published_curve
    from results.views.reference import ReferenceCurve

    theirs, errors = published_curve(recipe), record.curve.valid_error
    if record.outcome != "finished" or theirs is None or errors is UNSET:
        return f"{record.outcome} after {len(record.curve.epoch)} epochs"
    reference = ReferenceCurve((), recipe.digest, theirs, recipe.data.valid_images)
    bands = [(error, reference.band(epoch)) for epoch, error in enumerate(errors, 1)]
    within = sum(band is not None and band.place(error) == "within" for error, band in bands)
    word = "on track: " if within == len(bands) else ""
    return f"{word}validation error within two standard errors of the authors' run in {within} of {len(bands)} epochs"


def next_commands(recipe: Recipe, choice: Choice, data_root: Path, runs_root: Path, registry: Path) -> Iterator[str]:
    """Commands, each with what `plan` says of its time here, and how long it took elsewhere."""
    from benchmarks.queue.plan import Asked, plan

    threads = usable_cores()
    for name in (recipe.id, *(name for name in NEXT if name in benchmark_ids())):
        asked = Asked(load_recipe(name), choice, threads, "float32", None, (), data_root, runs_root, registry)
        found = plan(asked).time
        here = "" if found.run is None else f"{span(*found.run)} here, {found.kind}"
        texts = [text for text in (here, _recorded_time(name, registry)) if text]
        yield f"python cli.py reproduce {name}: {'; '.join(texts)}"
    yield "python cli.py plan ID: more on that"
    yield f"python cli.py list: all {len(benchmark_ids())} benchmarks"


def _recorded_time(benchmark: str, registry: Path) -> str:
    """How long the fastest recorded run of each engine and device took; "" where there is none."""
    fastest: dict[str, float] = {}
    for run in records_of(registry):
        if run.benchmark == benchmark and run.recipe.scoring and run.outcome == "finished":
            where, seconds = f"{run.engine.name} {run.engine.device}", sum(one.seconds for one in run.sittings)
            fastest[where] = min(seconds, fastest.get(where, seconds))
    return ", ".join(f"{_duration(seconds)} as recorded on {where}" for where, seconds in sorted(fastest.items()))


def _duration(seconds: float) -> str:
    return span(seconds, seconds)
