"""`verify`: whether every record is what it must be."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.recipe import benchmark_ids
from commands.options import data_option, json_option, registry_option
from commands.output import print_json
from commands.registry import catalog_links, check_registry, table_rows
from results.errors import RegistryError


@click.command("verify")
@click.option("--reevaluate", is_flag=True, help="Also measure again what has published weights; needs the data.")
@registry_option
@data_option
@json_option
@click.pass_context
def command(ctx: click.Context, reevaluate: bool, registry: Path, data_root: Path, as_json: bool) -> None:
    """Check every record: schema, hash, consistency; and that results/table.csv and the README follow from them."""
    from benchmarks.verdict import check_record
    from results import verification
    from results.history import accepted_problems
    from results.views.csv import check_csv
    from results.views.markdown import check_section

    check_registry(ctx, registry, environment_too=True)
    benchmark_ids()  # what is wrong with the catalog itself is no problem of any record
    verified = verification.verify(registry, [check_record])
    accepted = accepted_problems(registry.parent / "accepted_changes.json", {entry.id for entry in verified.entries})
    problems, lines = [*verified.problems, *accepted], []
    if not problems:
        table = table_rows(verified.entries, registry, all_benchmarks=False)
        problems = [
            *check_csv(table, registry.parent / "table.csv"),
            *check_section(table, registry.parent.parent / "README.md", catalog_links()),
        ]
    if reevaluate:
        from benchmarks.run.evaluation import reevaluate as evaluate_again

        for line, problem in evaluate_again(verified.entries, registry=registry, data_root=data_root):
            lines.append(line)
            if not as_json:
                click.echo(line)
            if problem is not None:
                problems.append(problem)
    if as_json:
        listed = [{"path": str(p.path), "field": p.field, "message": p.message} for p in problems]
        print_json({"records": verified.records, "problems": listed} | ({"reevaluated": lines} if reevaluate else {}))
    else:
        for problem in problems:
            click.echo(str(problem))
        count = verified.records
        click.echo(f"{count} records, {len(problems)} problems" if problems else f"{count} records, all valid")
    sys.exit(RegistryError.exit_code if problems else 0)
