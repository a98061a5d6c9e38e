"""`show`: one benchmark, with the source of each setting."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from benchmarks.hints import as_typed
from benchmarks.recipe import Recipe, flatten
from benchmarks.recipe.settings import setting_text
from commands.options import chosen_recipe, json_option, recipe_options
from commands.output import print_json


@click.command("show")
@click.argument("benchmark", metavar="ID")
@recipe_options
@click.option("--explain", metavar="KEY", help="Say instead what a setting and each of its words mean.")
@json_option
def command(
    benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None, explain: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show a benchmark: its settings, each with its source, its target, its cost, and what would run."""
    from benchmarks.recipe.cost import cost

    recipe = chosen_recipe(benchmark, overrides, epochs, limit_train)
    if explain is not None:
        _print_explanation(recipe, explain, as_json)
        return
    if as_json:
        print_json({
            "id": recipe.id, "title": recipe.title, "paper": recipe.paper, "target": recipe.target, "digest":
            recipe.digest, "scoring": recipe.scoring, "settings": recipe.settings, "sources": recipe.sources,
            "differences": recipe.differences, "cost": cost(recipe),
        })  # fmt: skip
        return
    click.echo(f"{recipe.id}: {recipe.title}")
    click.echo(f"  {recipe.paper.title}, {recipe.paper.url}")
    click.echo(f"  code: {recipe.paper.code}")
    if recipe.target is None:
        click.echo("  no published target")
    else:
        click.echo(f"  target: {recipe.target.test_error} %{recipe.target.mark} test error; {recipe.target.source}")
        if recipe.target.note:
            click.echo(f"          {recipe.target.note}")
        if recipe.target.validation_errors:
            click.echo(
                f"          Validation error of every epoch of theirs: {recipe.target.validation_errors.source}."
            )
    published, width = flatten(recipe.published), max(map(len, [*recipe.sources, *recipe.overrides]))
    click.echo("\nsettings")
    absent = []
    for key, value in flatten(recipe.settings).items():
        if key not in recipe.sources and value == published[key]:
            absent.append(f"{key}={setting_text(value)}")
            continue
        changed = ""
        if value != published[key]:
            changed = f"  <- published: {setting_text(published[key])} ({recipe.overrides[key]})"
        click.echo(f"  {key:{width}}  {setting_text(value):16}{changed}  [{recipe.sources.get(key, 'default')}]")
    if absent:
        click.echo(f"  and without, at their defaults: {', '.join(absent)}")
    click.echo("\ncost")
    for line in cost(recipe).lines():
        click.echo(f"  {line}")
    click.echo(
        f"\nrecipe digest {recipe.digest[:16]}; {'scores' if recipe.scoring else 'does not score: not as published'}"
    )
    changes = "".join(f" --set {shlex.quote(f'{d.key}={setting_text(d.value)}')}" for d in recipe.differences)
    click.echo(as_typed(f"it would run: python cli.py reproduce {recipe.id}{changes}"))


def _print_explanation(recipe: Recipe, key: str, as_json: bool) -> None:
    from benchmarks.recipe import explain
    from benchmarks.recipe.words import WORDS

    setting, values = explain.find(key), flatten(recipe.settings)
    value = setting_text(values[setting.key])
    if as_json:
        words = [word._asdict() for word in WORDS.get(setting.key, ())]
        print_json(setting._asdict() | {"value": value, "words": words})
        return
    click.echo(explain.explain(key))
    click.echo(f"\nin {recipe.id}: {value}  [{recipe.sources.get(setting.key, 'default')}]")
