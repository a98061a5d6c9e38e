"""`check`: the verdict on groups of runs, with every number it is made of."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.hints import as_typed
from benchmarks.recipe import load_recipe, usable_summaries
from commands.options import json_option, registry_option
from commands.output import echo, print_json, warn
from commands.registry import check_registry, records_of


@click.command("check")
@click.argument("benchmarks", metavar="[ID...]", nargs=-1)
@registry_option
@json_option
@click.pass_context
def command(ctx: click.Context, benchmarks: tuple[str, ...], registry: Path, as_json: bool) -> None:
    """Judge groups of runs: does a benchmark reproduce? Without ID, all, corrected for how many they are.

    Exit codes: 0 reproduced, 3 not reproduced or suspiciously good, 4 inconclusive or not yet a verdict, 6 nothing was
    measured. docs/verdicts.md says what each word and number means.
    """
    from benchmarks.machine.facts import cpu_model
    from benchmarks.verdict.every import SCHEMA, as_family, exit_code, judge_all, optimism
    from benchmarks.verdict.report import brief, lines
    from results.registered import read_all

    check_registry(ctx, registry)
    records = records_of(registry)
    registrations = read_all(registry, lambda line: warn(str(line)))
    measured = {record.benchmark for record in records} | {group.key.benchmark for group in registrations}
    for name in benchmarks:
        if name not in measured:
            load_recipe(name)  # which says what is wrong with an unknown one
    targets = {summary.id: summary.target for summary in usable_summaries(measured, warn)}
    verdicts = judge_all(records, registrations, targets, list(dict.fromkeys(benchmarks)) or sorted(measured))
    if not benchmarks:
        verdicts = as_family(verdicts)
    code = exit_code(verdicts, all_named=bool(benchmarks))
    summary = optimism(verdicts)
    if as_json:
        print_json({"schema": SCHEMA, "exit_code": code, "verdicts": verdicts, "optimism": summary})
    else:
        here = cpu_model() if benchmarks else ""
        for verdict in verdicts:
            for line in lines(verdict, here) if benchmarks else brief(verdict):
                echo(as_typed(line))
        if summary is not None:
            count, mean, deviation = summary
            echo(f"over these {count} groups, (mean - claim) / margin: {mean:+.2f}, standard deviation {deviation:.2f}")
        if not benchmarks:
            echo(as_typed("`python cli.py check ID` shows every number") if verdicts else "nothing was measured yet")
    sys.exit(code)
