"""`bench`: the speed of training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import click

from benchmarks.machine import environment
from benchmarks.machine.facts import usable_cores
from commands.options import choose_engine, chosen_recipe, engine_options, json_option, recipe_options
from commands.output import announced, print_json


@click.command("bench")
@click.argument("benchmark", metavar="ID")
@recipe_options
@engine_options
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True, help="Timed blocks.")
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="Training steps a block.")
@click.option("--baseline", is_flag=True, help="Also time the framework's layers as they come, in turn.")
@click.option("--at-once", type=click.IntRange(1), default=1, metavar="N", help="Also time N runs side by side.")
@json_option
def command(
    benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None, engine: str, device: str,
    threads: int | None, precision: str, compile: str, repeats: int, steps: int, baseline: bool, at_once: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure the speed of training and evaluation, beside what this machine's processor and memory allow."""
    # NumPy's matrix products, the yardstick, read their number of threads when they are first used.
    environment.put("OPENBLAS_NUM_THREADS", str(threads or usable_cores()))
    from benchmarks import bench as measuring

    recipe = chosen_recipe(benchmark, overrides, epochs, limit_train)
    choice = choose_engine(recipe, engine, device, precision)
    blocks = f"opening the engine, then {repeats} round{'s' * (repeats > 1)}: {steps} training steps,"
    with announced(f"{blocks} {3 * steps * recipe.train.batch_size:,} images evaluated, and what the machine can do"):
        result = measuring.bench(
            recipe, choice.engine, choice.device, threads, repeats, steps, compare_baseline=baseline,
            precision=precision, compile=compile, at_once=at_once,
        )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        click.echo(measuring.to_text(result), nl=False)
