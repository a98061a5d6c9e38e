"""`reproduce`: train by the published rules, measure, judge."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.errors import RecipeError
from benchmarks.machine.facts import usable_cores
from benchmarks.queue.job import NewRun
from commands.group_runs import GroupRun, carry_out_group, note_launch
from commands.options import (
    at_once_option,
    choose_engine,
    chosen_recipe,
    data_option,
    engine_options,
    fail_on_option,
    folders,
    group_option,
    json_option,
    recipe_options,
    registry_option,
    runs_option,
    seed_option,
)
from commands.registry import print_row
from commands.running import carry_out, carry_out_all, prepare_if_absent, settle_code


@click.command("reproduce")
@click.argument("benchmark", metavar="ID")
@seed_option
@group_option
@at_once_option
@recipe_options
@engine_options
@fail_on_option
@data_option
@runs_option
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, benchmark: str, seeds: tuple[int, ...], size: str | None, at_once: int,
    overrides: Sequence[str], epochs: str | None, limit_train: str | None, engine: str, device: str,
    threads: int | None, precision: str, compile: str, fail_on: tuple[str, ...], data_root: Path, runs_root: Path,
    registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Train a benchmark by its published rules, measure its test error, and judge it.

    Prepares the data if they are absent. A run may be interrupted at any moment: `resume` goes on with it. With
    settings that are not the published ones the run does not score: it is kept, but never judged nor ranked.
    """
    if size is not None:
        _refuse_beside_seeds(ctx)
    recipe = chosen_recipe(benchmark, overrides, epochs, limit_train)
    settle_code()
    choice = choose_engine(recipe, engine, device, precision)
    prepare_if_absent(recipe, data_root)
    if size is not None:
        group = GroupRun(
            recipe, choice, precision, {"threads": threads, "compile": compile}, folders(ctx), data_root, runs_root,
            registry, as_json,
        )  # fmt: skip
        sys.exit(carry_out_group(group, int(size), fail_on))
    if len(seeds) > 1:
        threads = threads or max(1, usable_cores() // min(at_once, len(seeds)))
        jobs = {
            f"seed {seed}": NewRun(
                benchmark=benchmark, seed=seed, overrides=tuple(overrides), epochs=epochs, limit_train=limit_train,
                engine=choice.engine, device=choice.device, threads=threads, precision=precision, compile=compile,
                fail_on=fail_on, as_json=as_json, **folders(ctx),
            )
            for seed in seeds
        }  # fmt: skip
        exit_code = carry_out_all(jobs, at_once, choice.device, as_json)
        if recipe.scoring and not as_json:
            print_row(benchmark, registry)
        sys.exit(exit_code)
    from benchmarks.run import runner

    note_launch(recipe, registry, seeds[0], choice.engine, precision)
    carry_out(
        lambda reporter: runner.reproduce(
            recipe, data_root=data_root, runs_root=runs_root, registry=registry, seed=seeds[0], engine=choice.engine,
            device=choice.device, threads=threads, reporter=reporter, precision=precision, compile=compile,
        ),
        as_json, fail_on,
    )  # fmt: skip


def _refuse_beside_seeds(ctx: click.Context) -> None:
    """A group's runs are at the published settings, of the seeds that are registered, one after the other."""
    given = click.core.ParameterSource.COMMANDLINE
    for name, option in {
        "seeds": "--seed", "overrides": "--set", "epochs": "--epochs", "limit_train": "--limit-train",
        "at_once": "--at-once",
    }.items():  # fmt: skip
        if ctx.get_parameter_source(name) is given:
            raise RecipeError(
                f"{option} cannot be given with --seeds: a group has the published settings and registered seeds, run"
                " one after the other; expected one of the two options"
            )
