"""`plan`: what a benchmark would take, before anything begins."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.hints import as_typed
from benchmarks.machine import environment
from benchmarks.machine.facts import usable_cores
from commands.options import (
    choose_engine,
    chosen_recipe,
    data_option,
    engine_options,
    json_option,
    recipe_options,
    registry_option,
    runs_option,
)
from commands.output import byte_size, echo, note, print_json

if TYPE_CHECKING:
    from benchmarks.queue.plan import Plan, PlannedSeed

DAY = 86400
# Parameters of `reproduce` that its commands repeat where they are given, and their options.
REPEATED = {
    "overrides": "--set", "epochs": "--epochs", "limit_train": "--limit-train", "engine": "--engine",
    "device": "--device", "threads": "--threads", "precision": "--precision", "compile": "--compile",
}  # fmt: skip


@click.command("plan")
@click.argument("benchmark", metavar="ID")
@click.option(
    "--seeds", "size", type=click.Choice(["3", "5", "10"]), help="Of a group.  [default: as registered, else 5]"
)
@recipe_options
@engine_options
@data_option
@runs_option
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, benchmark: str, size: str | None, overrides: Sequence[str], epochs: str | None,
    limit_train: str | None, engine: str, device: str, threads: int | None, precision: str, compile: str,
    data_root: Path, runs_root: Path, registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Say what reproducing a benchmark would take here: steps, seeds, hours, disk, and what to type.

    Nothing begins and no file is written. Hours are those of an earlier run of the same work on this machine, or on the
    same processor by a record; where there is none, the machine's matrix products are measured, which takes about a
    second, and the hours follow from them.
    """
    import msgspec

    # NumPy's matrix products, the yardstick, read their number of threads when they are first used.
    environment.put("OPENBLAS_NUM_THREADS", str(threads or usable_cores()))
    from benchmarks.queue.plan import Asked, plan

    recipe = chosen_recipe(benchmark, overrides, epochs, limit_train)
    choice = choose_engine(recipe, engine, device, precision)
    if not as_json:
        note("looking at earlier runs and at this machine: a few seconds")
    found = plan(Asked(
        recipe, choice, threads or usable_cores(), precision, int(size) if size else None, _given(ctx), data_root,
        runs_root, registry,
    ))  # fmt: skip
    found = msgspec.structs.replace(found, commands=[(as_typed(typed), what) for typed, what in found.commands])
    if as_json:
        print_json(found)
        return
    echo(f"{recipe.id}: {recipe.title}")
    for name, text in _lines(found, _given(ctx)):
        echo(f"  {name:9} {text}")
    click.echo("\nwhat to type; nothing has begun")
    for typed, what in found.commands:
        echo(f"  {typed}")
        echo(f"      {what}")


def _given(ctx: click.Context) -> list[str]:
    """The options of `reproduce` that were given, as words of a command line."""
    named = click.core.ParameterSource.COMMANDLINE
    given = {name: ctx.params[name] for name in REPEATED if ctx.get_parameter_source(name) is named}
    values = {name: value if isinstance(value, tuple) else (value,) for name, value in given.items()}
    return [
        shlex.quote(word) for name, all_of in values.items() for one in all_of for word in (REPEATED[name], str(one))
    ]


def _lines(plan: Plan, given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What the plan says, as (subject, text); "" goes on with the one before. `given`: options, of `bench` too."""
    work, disk = plan.work, plan.disk
    threads = f"{plan.threads} thread{'s' * (plan.threads > 1)}"
    yield "engine", f"{plan.engine} on {plan.device}, {threads}, {plan.precision}"
    yield (
        "work",
        f"{work.epochs:,} epochs of {work.steps_per_epoch:,} steps: {work.steps:,} steps of {work.batch_size:,} images",
    )
    yield "", f"{work.multiply_adds:,} multiply-adds a training image"
    yield from _seed_lines(plan)
    yield from _time_lines(plan, given)
    for file in plan.data:
        state = "prepared" if file.prepared else "not prepared"
        yield "data", f"{file.name}: {byte_size(file.bytes)}, {state}"
    published = f", weights {byte_size(disk.weights)}" if disk.weights else ", no weights are published"
    yield "disk", f"a run {byte_size(disk.training)}, {byte_size(disk.finished)} once it is over"
    yield "", f"its record about {byte_size(disk.record)}{published}"
    yield "", f"free: {byte_size(plan.free['data'])} for data, {byte_size(plan.free['runs'])} for runs"
    if plan.compiled is not None:
        kept = f"{plan.compiled} functions kept from earlier" if plan.compiled else "none kept: about a minute at first"
        yield "compiled", kept
    elif plan.engine == "torch":
        yield "compiled", "by torch.compile as a run begins; what its own cache has is not known"


def _time_lines(plan: Plan, given: Sequence[str]) -> Iterator[tuple[str, str]]:
    time = plan.time
    if time.run is None or time.missing is None:
        yield "time", f"not known: {time.source}"
        return
    missing = sum(seed.is_missing for seed in plan.seeds)
    rest = f"; all that is missing {span(*time.missing)}" if missing and time.missing != time.run else ""
    yield "time", f"a run {span(*time.run)}{rest}"
    if time.kind == "measured":
        yield "", f"measured: {time.source}"
    else:
        yield "", "projected, from how far engines came elsewhere of what this machine does at its best,"
        yield "", f"{time.source};"
        bench = " ".join(["python cli.py bench", plan.benchmark, *given])
        yield "", f"`{as_typed(bench)}` measures it"


def _seed_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    if not plan.scoring:
        yield "seeds", "one run, which does not score: its settings are not the published ones"
        return
    seeds = ", ".join(str(seed.seed) for seed in plan.seeds)
    counts = Counter("missing" if seed.is_missing else "recorded" for seed in plan.seeds)
    group = "registered" if plan.registered else "not registered yet"
    yield "seeds", f"{seeds}: {group}; {counts['recorded']} recorded, {counts['missing']} missing"
    for seed in plan.seeds:
        if seed.record or seed.run or seed.state not in ("new", "registered"):
            yield "", f"seed {seed.seed}: {_state(seed)}"
    if plan.recorded_elsewhere:
        yield "", f"not of the group: records {', '.join(plan.recorded_elsewhere)}"


def _state(seed: PlannedSeed) -> str:
    record = f", record {seed.record}" if seed.record else ""
    state = "running here" if seed.running else "interrupted here"
    run = f"; {state} after epoch {seed.epoch}, run {seed.run}" if seed.run else ""
    return f"{seed.state}{record}{run}"


def span(least: float, most: float) -> str:
    """ "3 h 20 min", "3.2 to 6.4 h", "5.5 to 11 days"."""
    from benchmarks.run.display import duration

    if least == most and most < 2 * DAY:
        return duration(most)
    units = (("days", DAY), ("h", 3600), ("min", 60), ("s", 1))
    unit, seconds = next((one for one in units if most >= 2 * one[1]), units[-1])
    low, high = (f"{value:.2g}" if value < 99 else f"{value:,.0f}" for value in (least / seconds, most / seconds))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
