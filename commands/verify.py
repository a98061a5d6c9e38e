"""`verify`: whether every record is what it must be."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.hints import as_typed
from benchmarks.recipe import benchmark_ids
from commands.options import data_option, json_option, registry_option
from commands.output import counted, echo, note, print_json
from commands.registry import catalog_links, check_registry, table_rows
from commands.running import prepare_if_absent
from results import reevaluations
from results.errors import RegistryError

if TYPE_CHECKING:
    from benchmarks.run.evaluation import Reevaluated
    from results.entries import Entry
    from results.registry import Problem
    from results.verification import Verified


def problems_of(registry: Path) -> tuple[Verified, list[Problem]]:
    """What was verified, and all that is wrong with the records, or else with what follows from them."""
    from benchmarks.run import published_file
    from benchmarks.verdict import check_record
    from results import verification
    from results.history import accepted_problems
    from results.registry import Problem
    from results.views.csv import check_csv
    from results.views.markdown import check_section

    benchmark_ids()  # what is wrong with the catalog itself is no problem of any record
    count = len(verification.record_files(registry)[0])
    with counted("checking records", count) if count > verification.SERIAL else contextlib.nullcontext() as checked:
        verified = verification.verify(registry, [check_record], checked=checked or (lambda: None))
    accepted = accepted_problems(registry.parent / "accepted_changes.json", {entry.id for entry in verified.entries})
    kept = (Problem(*problem) for problem in reevaluations.problems(registry, verified.entries))
    published = [(entry.benchmark, entry.id) for entry in verified.entries if entry.published_weights]
    said = published_file.problems(registry, published)
    problems = [*verified.problems, *accepted, *kept, *said]
    if not problems:
        table = table_rows(verified.entries, registry, all_benchmarks=False)
        problems = [
            *check_csv(table, registry.parent / "table.csv"),
            *check_section(table, registry.parent.parent / "README.md", catalog_links()),
        ]
    return verified, problems


@click.command("verify")
@click.option(
    "--recompute",
    "--reevaluate",
    "recompute",
    is_flag=True,
    help="Also measure the test error again from published weights; prepares the data that are absent.",
)
@click.option(
    "--extends",
    "before",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also: nothing that the registry DIR has is missing or changed here.",
)
@click.option("--keep", is_flag=True, help="With --recompute: write down in results/reevaluated/ what was measured.")
@registry_option
@data_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, recompute: bool, keep: bool, before: Path | None, registry: Path, data_root: Path, as_json: bool
) -> None:  # fmt: skip
    """Check every record: schema, hash, consistency; and that results/table.csv and the README follow from them.

    With --recompute, which was called --reevaluate, a record with published weights is re-evaluated: its test error is
    measured again from them and the data, and a forged one is found, however consistent it is. Each record without
    published weights is said to be not re-evaluated.
    """
    if keep and not recompute:
        raise click.UsageError("--keep goes with --recompute")
    check_registry(ctx, registry, environment_too=True)
    verified, problems = problems_of(registry)
    lines: list[str] = []
    if before is not None:
        from results.merging import lost

        problems += lost(before, registry)
    if recompute:
        count = sum(bool(entry.published_weights) for entry in verified.entries)
        if count and not as_json:
            note(f"measuring {count} published network{'s' * (count > 1)} again ...")
        for found in _recomputed(verified.entries, registry, data_root):
            lines.append(found.line)
            if not as_json:
                echo(found.line)
            if found.problem is not None:
                problems.append(found.problem)
            elif keep and found.measured is not None:
                reevaluations.add(registry, found.entry.benchmark, found.measured)
    if as_json:
        listed = [{"path": str(p.path), "field": p.field, "message": as_typed(p.message)} for p in problems]
        print_json({"records": verified.records, "problems": listed} | ({"reevaluated": lines} if recompute else {}))
    else:
        for problem in problems:
            click.echo(as_typed(str(problem)))
        count, wrong = verified.records, len(problems)
        summary = "all valid" if count else "there is nothing to check"
        if wrong:
            summary = f"{wrong} problem{'s' * (wrong != 1)}"
        click.echo(f"{count} record{'s' * (count != 1)}, {summary}")
    sys.exit(RegistryError.exit_code if problems else 0)


def _recomputed(entries: Sequence[Entry], registry: Path, data_root: Path) -> Iterator[Reevaluated]:
    """Of each record what was measured, or why nothing was; the data that are absent are prepared."""
    from benchmarks.recipe import recipe_from_settings
    from benchmarks.run.evaluation import reevaluate
    from results.registry import read

    for entry in entries:
        if entry.published_weights:
            record = read(registry / entry.benchmark / f"{entry.id}.json")
            prepare_if_absent(recipe_from_settings(record.benchmark, record.recipe.named_settings, {}), data_root)
    yield from reevaluate(entries, registry=registry, data_root=data_root)
