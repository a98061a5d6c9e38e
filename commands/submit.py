"""`submit`: the files of a contribution, and the text of its pull request."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.errors import RunError
from benchmarks.hints import python, quoted
from commands.options import json_option, registry_option, remember_runs_of, runs_option
from commands.output import echo, print_json
from commands.registry import check_registry, records_of
from results.files import writing

if TYPE_CHECKING:
    from benchmarks.run.contribution import Contribution
    from results.record import Record

SCHEMA = 1  # of what --json prints: docs/contributing-results.md


@click.command("submit")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False, resolve_path=True), required=True, metavar="DIR",
    help="A new or empty folder for the files and the text.",
)  # fmt: skip
@runs_option
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, runs: tuple[str, ...], out: Path, runs_root: Path, registry: Path, as_json: bool
) -> None:
    """Prepare a contribution: exactly its files, and the title and body of its pull request. Nothing is sent.

    RUN is a run's folder, a record (its file, or the beginning of its id), or a benchmark: all runs of its group that
    the registry has, chosen as in `compare`, by words behind @, if it has several. Each must be over, scoring, computed
    by the clean code of a commit, and name no path, host or user.
    """
    from benchmarks.run.contribution import contribution
    from benchmarks.run.selection import select_all

    check_registry(ctx, registry)
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out}: is not empty: expected a new or empty folder")
    recorded = records_of(registry)
    found: dict[str, Record] = {}
    for run in runs:
        remember_runs_of(runs_root, run)
        found |= {record.id: record for record in select_all(run, recorded, registry, runs_root)}
    made = contribution(list(found.values()), recorded, registry)
    with writing(out):
        _write(made, out)
    if as_json:
        print_json({"schema": SCHEMA, "folder": str(out), **made._asdict(), "files": sorted(made.files)})
    else:
        for line in _lines(made, out):
            echo(line)


def _write(made: Contribution, out: Path) -> None:
    """Put the folder there with all that is in it, or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", ignore_cleanup_errors=True) as temporary:
        whole = Path(temporary) / out.name
        for name, data in {
            **made.files,
            "title.txt": f"{made.title}\n".encode(),
            "body.md": made.body.encode(),
        }.items():
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            (whole / name).write_bytes(data)
        whole.replace(out)


def _lines(made: Contribution, out: Path) -> Iterator[str]:
    yield from (f"written: {out / name}" for name in sorted(made.files))
    yield f"title: {made.title}"
    yield f"body: {out / 'body.md'}"
    yield "next, on a branch of a clone of the project:"
    place = quoted(str(out))
    for command in (f"merge {place}", "table --write", "verify --recompute"):
        yield f"  {python(anywhere=True)} cli.py {command}"
    yield f'  git add results README.md && git commit --message "$(cat {place}/title.txt)"'
    yield f"then push it, and open a pull request with the text of {out / 'body.md'}"
