"""The registry as commands read it: whether it is there, its records, and the table's rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.recipe import Summary, benchmark_ids, catalog_folder, usable_summaries
from commands.output import announced, echo, fail, warn

if TYPE_CHECKING:
    from benchmarks.verdict import Verdict
    from results.entries import Run
    from results.members import Members
    from results.registered import Registration
    from results.views.rows import Benchmark, Row


def check_registry(ctx: click.Context, registry: Path, *, environment_too: bool = False) -> None:
    """A folder that is named must be there; the default one may not be, before the first record.

    That of the environment is one that `reproduce` makes: it must be there for what says that all is well in it.
    """
    sources = click.core.ParameterSource
    named = {sources.COMMANDLINE: "--registry "} | ({sources.ENVIRONMENT: "$BNN_REGISTRY "} if environment_too else {})
    source = ctx.get_parameter_source("registry")
    if source in named and not registry.is_dir():
        fail(f"{named[source]}{registry}: there is no such folder: expected one with records", 1)


def check_named(ctx: click.Context, name: str, folder: Path) -> None:
    """A folder that an option names must be there: nothing in one that is not would be no answer."""
    if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE and not folder.is_dir():
        (option,) = (parameter.opts[0] for parameter in ctx.command.params if parameter.name == name)
        fail(f"{option} {folder}: there is no such folder", 1)


def records_of(registry: Path) -> Sequence[Run]:
    """What the table needs of the registry's records; a warning for each that is passed over."""
    from results.index import entries

    with announced("reading the records; many are read whole once, and then looked up"):
        return entries(registry, lambda line: echo(f"warning: {line}", err=True))


def table_rows(
    records: Sequence[Run],
    registry: Path,
    *,
    all_benchmarks: bool = True,
    benchmarks: Sequence[Summary] | None = None,
) -> list[Row]:
    """The rows of all benchmarks, or of those that have a record; registered groups are those of the registry."""
    from benchmarks.verdict import judge_run, target_of
    from benchmarks.verdict.group import judge_group
    from benchmarks.verdict.report import short
    from results.registered import read_all
    from results.views.rows import rows

    recorded = {record.benchmark for record in records}
    known_ones = {b.id: b for b in (usable_summaries(recorded, warn) if benchmarks is None else benchmarks)}

    def judge(record: Run) -> Verdict:
        known = known_ones.get(record.benchmark)
        return judge_run(record, target_of(record) if known is None else known.target)

    def judge_registered(group: Registration, found: Members) -> str:
        known, run = known_ones.get(group.key.benchmark), next(seed.run for seed in found.seeds if seed.run)
        return short(judge_group(group, found, target_of(run) if known is None else known.target))

    registrations = read_all(registry, lambda line: echo(f"warning: {line}", err=True))
    listed = (_table_benchmark(b) for b in known_ones.values() if all_benchmarks or b.id in recorded)
    found = rows(records, judge, listed, registrations, judge_registered)
    return [row for row in found if all_benchmarks or row.runs or row.diverged]


def _table_benchmark(summary: Summary) -> Benchmark:
    from benchmarks.recipe.versions import current

    entry: Benchmark = {"id": summary.id, "paper": summary.paper, "data": summary.dataset, "target": None}
    if (version := current(summary.id)) is not None:
        entry["digest"] = version.digest
    if summary.target is not None:
        target = summary.target
        entry |= {"target": target.percent, "decimals": target.decimals, "kind": target.provenance}
    return entry


def catalog_links() -> dict[str, str]:
    """The catalog's file of each benchmark, as the README links it."""
    names = {name: catalog_folder(name).name for name in benchmark_ids()}
    return {name: f"benchmarks/catalog/{folder}/{name}.yaml" for name, folder in names.items()}


def print_row(benchmark: str, registry: Path) -> None:
    """What all recorded runs of a benchmark come to: its row of `list`."""
    from results.views.text import to_columns

    rows = [
        row for row in table_rows(records_of(registry), registry, all_benchmarks=False) if row.benchmark == benchmark
    ]
    if rows:
        click.echo(to_columns(rows), nl=False)
