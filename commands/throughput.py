"""`throughput`: both engines and plain PyTorch, each beside the others."""

from __future__ import annotations

from typing import Any

import click

from benchmarks.engine import DEVICES, PRECISIONS
from benchmarks.recipe import load_recipe
from commands.options import json_option
from commands.output import announced, note, print_json


class Contenders(click.ParamType):
    """Names of contenders with commas between them."""

    name = "contenders"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        from benchmarks.bench.throughput import CONTENDERS

        names = tuple(str(value).split(","))
        if not set(names) <= set(CONTENDERS) or len(set(names)) < len(names):
            self.fail(f"{value!r}: expected different ones of {', '.join(CONTENDERS)}, as in torch,plain", param, ctx)
        return names


@click.command("throughput")
@click.argument("benchmarks", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--contenders", type=Contenders(), default="torch,gluon,plain,plain-compiled", show_default=True,
    metavar="NAME[,NAME...]", help="The others are compared with the first; plain is the network as one writes it first"
    " with PyTorch, eager or compiled.",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="How often each is measured.")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Training steps a block.")
@click.option("--device", type=click.Choice(DEVICES), default=DEVICES[0], show_default=True, help="Where they compute.")
@click.option("--precision", type=click.Choice(PRECISIONS), default=PRECISIONS[0], show_default=True,
              help="Of products; other than float32 not of gluon.")  # fmt: skip
@json_option
def command(
    benchmarks: tuple[str, ...], contenders: tuple[str, ...], rounds: int, steps: int, device: str, precision: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Compare the training speed of both engines and of plain PyTorch, each in processes of its own, in turn.

    `bench` measures one engine beside what the machine allows.
    """
    from benchmarks.bench.throughput import Conditions, compare, to_text

    for benchmark in benchmarks:
        load_recipe(benchmark)  # which refuses those that there are not, before anything is measured
    conditions, results = Conditions(rounds, steps, device, precision), []
    for benchmark in benchmarks:
        with announced(f"{benchmark}: {rounds} times {', '.join(contenders)} in turn, each in a process of its own"):
            results.append(compare(benchmark, contenders, conditions, note))
        if not as_json:
            click.echo(to_text(results[-1]))
    if as_json:
        print_json(results)
