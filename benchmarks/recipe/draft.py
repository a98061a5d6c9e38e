"""The draft of a new file of the catalog: another benchmark's settings, each to be looked up in the new one's source.

What is to be looked up is TODO, which no command takes for a source: a draft cannot be run by mistake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from benchmarks.errors import RecipeError
from benchmarks.recipe.catalog_file import ID, TODO
from benchmarks.recipe.expected import describe
from benchmarks.recipe.loading import Recipe
from benchmarks.recipe.paper import Paper
from benchmarks.recipe.settings import Settings


def write_draft(benchmark: str, recipe: Recipe, folder: Path, *, same_paper: bool) -> Path:
    """Write `folder`/`benchmark`.yaml, made from a recipe; its paper stands in it if it is that of the new one too.

    Raises:
        RecipeError: the name is none, there is such a file, or it cannot be written.
    """
    for name in (benchmark, folder.name):
        if not ID.fullmatch(name):
            raise RecipeError(f"{name!r}: expected lower-case letters and digits with -, . or _ between them")
    path = folder / f"{benchmark}.yaml"
    text = "\n".join(_lines(benchmark, recipe, same_paper))
    try:
        folder.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except FileExistsError:
        raise RecipeError(f"{path} is there already: expected the id of a new benchmark") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _lines(benchmark: str, recipe: Recipe, same_paper: bool) -> Iterator[str]:
    yield f"# A draft, made from {recipe.id}. Give each value as the paper or its code has it and, in place of {TODO},"
    yield "# where it stands there. `python cli.py validate FILE` says what is left; see docs/add-a-benchmark.md."
    yield f"id: {benchmark}"
    yield f"title: {TODO}"
    yield "paper:"
    for field in Paper.__struct_fields__:
        if value := getattr(recipe.paper, field):
            yield f"  {field}: {_text(value) if same_paper else TODO}"
    yield "# Without a published number: target: null"
    yield "target:"
    yield f"  test_error: {TODO}  # percent in quotation marks, with the decimals that are printed: they count"
    yield "  provenance: read  # read: seen at the source; mem: from memory; 2nd: somebody else cites it"
    yield f"  source: {TODO}"
    groups = get_type_hints(Settings)
    for group, part in groups.items():
        yield ""
        yield f"{group}:"
        yield from _settings(group, part, recipe)


def _settings(group: str, part: type[Any], recipe: Recipe) -> Iterator[str]:
    """The recipe's settings; then, as comments, the settings that are at their default."""
    hints, values = get_type_hints(part, include_extras=True), getattr(recipe.published, group)
    names = [field.name for field in msgspec.structs.fields(part)]
    given = [name for name in names if f"{group}.{name}" in recipe.sources]
    for name in given:
        source = f"{recipe.id}: {recipe.sources[f'{group}.{name}']}"
        if (taken := describe(hints[name])) != "text":
            yield f"  # {taken}"
        yield f"  {name}: {{value: {_text(getattr(values, name))}, source: {TODO}}}  # {source}"
    if others := [name for name in names if name not in given]:
        yield "  # Left out, and so at their defaults:"
    for name in others:
        taken = describe(hints[name])
        comment = f"  # {taken}" if taken != "text" else ""
        yield f"  # {name}: {{value: {_text(getattr(values, name))}, source: {TODO}}}{comment}"


def _text(value: Any) -> str:
    """A value as YAML has it: JSON is YAML."""
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
