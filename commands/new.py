"""`new`: the draft of a catalog file."""

from __future__ import annotations

import shlex

import click

from benchmarks import start
from benchmarks.errors import RecipeError
from benchmarks.hints import as_typed
from benchmarks.recipe import benchmark_ids, load_recipe
from commands.output import fail


@click.command("new")
@click.argument("benchmark", metavar="ID")
@click.option("--from", "origin", required=True, metavar="ID", help="The benchmark that it is most like.")
@click.option("--folder", metavar="NAME", help="Folder of its paper in the catalog.  [default: that of --from]")
def command(benchmark: str, origin: str, folder: str | None) -> None:
    """Begin a benchmark: write a commented draft of its catalog file, in which each source is to be filled in."""
    from benchmarks.recipe import catalog_folder
    from benchmarks.recipe.draft import write_draft

    if benchmark in benchmark_ids():
        fail(f"{benchmark} is in the catalog already: expected the id of a new benchmark", RecipeError.exit_code)
    recipe, home = load_recipe(origin), catalog_folder(origin)
    place = home.parent / (folder or home.name)
    path = write_draft(benchmark, recipe, place, same_paper=place == home)
    file = shlex.quote(start.relative(str(path)))
    click.echo(as_typed(f"{file}: a draft; what is still to be done, says: python cli.py validate {file}"))
