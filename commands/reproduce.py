"""`reproduce`: train by the published rules, measure, judge."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.machine.facts import usable_cores
from benchmarks.queue.job import NewRun
from commands.options import (
    at_once_option,
    choose_engine,
    chosen_recipe,
    data_option,
    engine_options,
    fail_on_option,
    folders,
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
    ctx: click.Context, benchmark: str, seeds: tuple[int, ...], at_once: int, overrides: Sequence[str],
    epochs: str | None, limit_train: str | None, engine: str, device: str, threads: int | None, precision: str,
    compile: str, fail_on: tuple[str, ...], data_root: Path, runs_root: Path, registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Train a benchmark by its published rules, measure its test error, and judge it.

    Prepares the data if they are absent. A run may be interrupted at any moment: `resume` goes on with it. With
    settings that are not the published ones the run does not score: it is kept, but never judged nor ranked.
    """
    recipe = chosen_recipe(benchmark, overrides, epochs, limit_train)
    settle_code()
    choice = choose_engine(recipe, engine, device, precision)
    prepare_if_absent(recipe, data_root)
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

    carry_out(
        lambda reporter: runner.reproduce(
            recipe, data_root=data_root, runs_root=runs_root, registry=registry, seed=seeds[0], engine=choice.engine,
            device=choice.device, threads=threads, reporter=reporter, precision=precision, compile=compile,
        ),
        as_json, fail_on,
    )  # fmt: skip
