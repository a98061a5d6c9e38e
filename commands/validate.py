"""`validate`: what is wrong with a catalog file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.errors import RecipeError
from commands.options import json_option
from commands.output import echo, print_json


@click.command("validate")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Say all that is wrong with a catalog file, or that nothing is. Exit code 2 if something is."""
    from benchmarks.recipe import catalog_file, other_file

    problems: list[str] = []
    try:
        catalog_file.read(file)
    except catalog_file.CatalogError as error:
        problems += error.problems
    if (other := other_file(file)) is not None:
        problems.append(f"id: {other.parent.name}/{other.name} has it already: rename or remove one of them")
    if as_json:
        print_json({"file": str(file), "problems": problems})
    else:
        for problem in problems:
            echo(problem)
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "nothing is wrong with it"
        echo(f"{file}: {count}")
    sys.exit(RecipeError.exit_code if problems else 0)
