"""What a setting means, and each of its words: for `show --explain`, and for docs/settings.md, which this writes:

python -m benchmarks.recipe.explain > docs/settings.md
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

import msgspec

from benchmarks.errors import RecipeError
from benchmarks.recipe.expected import describe, nearest_names
from benchmarks.recipe.layerwise import (
    layer_activations,
    layer_hidden_batch_norms,
    layer_linear_outputs,
    layer_weights,
)
from benchmarks.recipe.loading import benchmark_ids, load_recipe
from benchmarks.recipe.settings import Settings, setting_text
from benchmarks.recipe.word import Word
from benchmarks.recipe.words import WORDS, names_of

LAYERWISE = {
    "model.weights": layer_weights,
    "model.activation": layer_activations,
    "model.linear_output": layer_linear_outputs,
    "model.batch_norm": layer_hidden_batch_norms,
}
_HEAD = """# Settings

All that can change a measured number. This page is made from benchmarks/recipe/settings.py and words.py there:
`python -m benchmarks.recipe.explain > docs/settings.md`. One setting at a time: `python cli.py show ID --explain KEY`.
Behind each word stands how many benchmarks of the catalog use it, and one that does.

Symbols: w is a real-valued weight, w_q what the forward pass uses for it, H its `weight_limit`; x is a layer's input, z
its output, s the scores, g a gradient, p a parameter, t the number of the update from 1.
"""


class Setting(NamedTuple):
    """A setting as its class has it; `default` is None if it must be given."""

    key: str
    type: str
    description: str
    default: str | None


@functools.cache
def settings() -> dict[str, Setting]:
    """All settings by key, "model.weights", in the order of the classes."""
    found = {}
    for group, struct in get_type_hints(Settings).items():
        hints = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            key, hint = f"{group}.{field.name}", hints[field.name]
            default = None if field.required else setting_text(field.default)
            found[key] = Setting(key, _type(key, hint), _description(hint), default)
    return found


def _type(key: str, hint: Any) -> str:
    return f"{' or '.join(names_of(key))}, or one a layer" if key in LAYERWISE else describe(hint)


def _description(hint: Any) -> str:
    """What `settings._said` says; the innermost Meta is the type's own."""
    said = [meta.description for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    return next((text for text in reversed(said) if text), "")


@functools.cache
def uses() -> Mapping[str, Mapping[str, list[str]]]:
    """The ids of the benchmarks that use each word, by setting and word."""
    found: dict[str, dict[str, list[str]]] = {key: defaultdict(list) for key in WORDS}
    for benchmark in benchmark_ids():
        try:
            recipe = load_recipe(benchmark)
        except RecipeError:  # what is wrong with it, `list` and `validate` say
            continue
        for key in WORDS:
            group, name = key.split(".")
            words_of_layers = LAYERWISE.get(key)
            value = getattr(getattr(recipe.settings, group), name)
            for word in sorted(set(words_of_layers(recipe.model))) if words_of_layers else [value]:
                found[key][word].append(benchmark)
    return found


def find(key: str) -> Setting:
    """The setting of a key, "model.weights", or of its name alone, "weights".

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    known = settings()
    if key in known:
        return known[key]
    if named := [setting for setting in known.values() if setting.key.partition(".")[2] == key]:
        return named[0]
    names = {name.partition(".")[2]: name for name in known}
    near = nearest_names(key, known) or [names[name] for name in nearest_names(key, names)]
    expected = f": did you mean {' or '.join(near)}?" if near else f": expected one of {', '.join(known)}"
    raise RecipeError(f"unknown setting {key!r}{expected}")


def explain(key: str) -> str:
    """A setting in lines: key, type, what it means, default; then each of its words.

    Raises:
        RecipeError: as `find`.
    """
    setting = find(key)
    default = "it must be given" if setting.default is None else f"default: {setting.default}"
    lines = [setting.key, f"  {setting.description}", f"  {setting.type}; {default}"]
    for word in WORDS.get(setting.key, ()):
        lines += ["", f"  {word.name}", *(f"    {line}" for line in _lines(setting.key, word))]
    return "\n".join(lines)


def _lines(key: str, word: Word) -> list[str]:
    labels = {"forward": word.formula, "gradient": word.gradient, "source": word.source}
    if word.bits is not None:
        labels["size"] = f"{word.bits} bit{'s' * (word.bits != 1)} a value"
    return [word.meaning, *(f"{label}: {text}" for label, text in labels.items() if text), _used(key, word.name)]


def _used(key: str, word: str) -> str:
    benchmarks = uses()[key].get(word, [])
    example = f", such as {benchmarks[0]}" if benchmarks else ""
    return f"used by: {len(benchmarks)} benchmark{'s' * (len(benchmarks) != 1)}{example}"


def page() -> str:
    """The text of docs/settings.md."""
    parts, group = [_HEAD], ""
    for setting in settings().values():
        if setting.key.partition(".")[0] != group:
            group = setting.key.partition(".")[0]
            parts.append(f"\n## {group}\n")
        default = "must be given" if setting.default is None else f"default `{setting.default}`"
        parts.append(f"\n### {setting.key}\n\n{setting.description}\n")
        kind = "" if setting.key in WORDS and setting.key != "model.weight_limit" else f"{setting.type}; "
        parts.append(f"\n{_sentence(kind + default)}\n")
        for word in WORDS.get(setting.key, ()):
            parts.append(f"\n- **{word.name}**: {word.meaning}\n")
            parts += [f"  - {_in_code(line)}\n" for line in _lines(setting.key, word)[1:]]
    return "".join(parts)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _in_code(line: str) -> str:
    """Formulas as code, in which nothing is markup."""
    label, _, text = line.partition(": ")
    return f"{label}: `{text}`" if label in ("forward", "gradient") else line


if __name__ == "__main__":
    print(page(), end="")
