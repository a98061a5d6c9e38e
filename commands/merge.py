"""`merge`: records, weights, registered groups and re-evaluations of other machines and people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.hints import as_typed
from commands.options import json_option, registry_option
from commands.output import echo, note, print_json
from results.errors import RegistryError

if TYPE_CHECKING:
    from results.entries import Entry
    from results.merging import Merged

SCHEMA = 1  # of what --json prints: docs/contributing-results.md


@click.command("merge")
@click.argument("places", metavar="DIR|FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would come in, and change nothing.")
@registry_option
@json_option
def command(places: tuple[Path, ...], dry_run: bool, registry: Path, as_json: bool) -> None:
    """Bring records, weights, groups and re-evaluations of other machines and people into the registry.

    A place is a registry or a checkout that has one, a folder of records, a record's file, or the file of a benchmark's
    groups. Each is checked first, as `verify` does: what has a problem is refused whole, in one line, with exit code 7,
    and the rest comes in. Order and repetition change nothing.
    """
    from benchmarks.run.published_file import content_of
    from benchmarks.verdict import check_record
    from results.merging import merge

    merged = merge(places, registry, [check_record], file_of=content_of, dry_run=dry_run)
    if as_json:
        print_json(_as_json(merged, dry_run))
    else:
        for line in _lines(merged, dry_run):
            echo(as_typed(line))
        if (merged.added or merged.lines or merged.in_order) and not dry_run:
            note("`python cli.py table --write` brings results/table.csv and the README up to date")
    sys.exit(RegistryError.exit_code if merged.refused else 0)


def _lines(merged: Merged, dry_run: bool) -> Iterator[str]:
    would = "would be " if dry_run else ""
    for entry in merged.added:
        yield f"{would}added: {entry.benchmark}/{entry.id}: {_described(entry)}"
    for benchmark, count in merged.lines.items():
        yield f"{would}added: {_counted(count, 'line')} of the registered groups of {benchmark}"
    for benchmark, count in merged.reevaluations.items():
        yield f"{would}added: {_counted(count, 're-evaluation')} of {benchmark}"
    for benchmark in merged.in_order:
        yield f"{would}put in order: the lines of the registered groups of {benchmark}"
    for problem in merged.refused:
        yield f"refused: {problem}"
    lines, problems = _counted(sum(merged.lines.values()), "line"), _counted(len(merged.refused), "problem")
    records = _counted(len(merged.added), "record")
    known = f"{merged.known} were here already"
    measured = _counted(sum(merged.reevaluations.values()), "re-evaluation")
    yield f"{records} {would}added, {known}; {lines} of registered groups and {measured} {would}added; {problems}"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _described(entry: Entry) -> str:
    result = entry.outcome
    if entry.results is not None:
        result = f"test error {entry.results.counted.test_error:.{entry.target.decimals + 1}f} %"
    return f"seed {entry.seed}, {result}{', with weights' if entry.published_weights else ''}"


def _as_json(merged: Merged, dry_run: bool) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "dry_run": dry_run,
        "added": [{"benchmark": entry.benchmark, "id": entry.id, "seed": entry.seed} for entry in merged.added],
        "known": merged.known,
        "registered_lines": merged.lines,
        "put_in_order": merged.in_order,
        "reevaluations": merged.reevaluations,
        "refused": [{"path": str(p.path), "field": p.field, "message": as_typed(p.message)} for p in merged.refused],
    }
