"""The recipe: what is published about one experiment, typed and frozen, with overrides, a digest and the difference
between them.

A recipe is read from one file of benchmarks/catalog, where every setting has its value and its source. `settings` holds
all that can change the measured number; whatever differs from the published settings makes a run non-scoring.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

import msgspec
import yaml

from benchmarks.consistency import check_consistency, nearest
from benchmarks.errors import RecipeError
from benchmarks.settings import (
    CLASSES,
    DATASETS,
    Count,
    DataSettings,
    ModelSettings,
    Positive,
    ProtocolSettings,
    Settings,
    TrainSettings,
    flatten,
)
from results.canonical import digest

__all__ = [
    "CATALOG", "CLASSES", "DATASETS", "DataSettings", "Difference", "ModelSettings", "Paper", "ProtocolSettings",
    "PublishedErrors", "Recipe", "Settings", "Summary", "Target", "TrainSettings", "apply_overrides", "benchmark_ids",
    "catalog_folder", "flatten", "load_recipe", "read_catalog_file", "recipe_from_settings", "summaries",
]  # fmt: skip

CATALOG = Path(__file__).parent / "catalog"


class Paper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the experiment was published."""

    name: str
    title: str
    url: str
    code: str
    authors: str = ""


class PublishedErrors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Errors that the authors publish for every epoch: a CSV file beside the benchmark's, and where they are from."""

    file: str
    source: str


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The published test error in percent, as printed there ("1.15": its decimals count).

    `provenance` is "read" in the place named, "mem" where that could not be checked, "2nd" if seen only in a secondary
    source. `margin_standard_errors` times the binomial standard error of the target on the test set is the margin
    within which a run reproduces it. `validation_errors` are those of the run whose error this is.
    """

    test_error: str
    source: str
    provenance: Literal["read", "mem", "2nd"]
    note: str = ""
    margin_standard_errors: Positive = 2.0
    validation_errors: PublishedErrors | None = None

    @property
    def percent(self) -> float:
        """The target as a number."""
        return float(self.test_error)

    @property
    def decimals(self) -> int:
        """Decimal places that the paper prints."""
        return len(self.test_error.partition(".")[2])

    @property
    def mark(self) -> str:
        """What is printed beside a target that could not be checked: "", " (mem)" or " (2nd)"."""
        return "" if self.provenance == "read" else f" ({self.provenance})"


class Difference(msgspec.Struct, frozen=True):
    """One setting that is not as published, and which option made it so."""

    key: str
    published: Any
    value: Any
    source: str


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark, with the settings of this run. `version` is the catalogue entry's: see catalog_versions."""

    id: str
    title: str
    paper: Paper
    target: Target | None
    published: Settings
    settings: Settings
    sources: dict[str, str]
    overrides: dict[str, str] = {}
    version: int = 1

    @property
    def data(self) -> DataSettings:
        return self.settings.data

    @property
    def model(self) -> ModelSettings:
        return self.settings.model

    @property
    def train(self) -> TrainSettings:
        return self.settings.train

    @property
    def protocol(self) -> ProtocolSettings:
        return self.settings.protocol

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: (channels, rows, columns)."""
        return DATASETS[self.data.dataset].image_shape

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of every setting that can change the number."""
        return digest(msgspec.to_builtins(self.settings))

    @property
    def published_digest(self) -> str:
        """As `digest`, of the published settings."""
        return digest(msgspec.to_builtins(self.published))

    @property
    def defaults(self) -> list[str]:
        """Settings at the value that stands for their absence: those that the digest leaves out."""
        named = msgspec.to_builtins(self.settings)
        return [key for key in flatten(self.settings) if key.partition(".")[2] not in named[key.partition(".")[0]]]

    @property
    def differences(self) -> list[Difference]:
        """Settings that are not as published, in the order of the recipe."""
        published, actual = flatten(self.published), flatten(self.settings)
        return [
            Difference(key, published[key], value, self.overrides.get(key, ""))
            for key, value in actual.items()
            if value != published[key]
        ]

    @property
    def scoring(self) -> bool:
        """Whether the settings are exactly the published ones."""
        return self.settings == self.published


class Summary(NamedTuple):
    """What a list of benchmarks says of one, and the text in which a user's word for its paper is looked up."""

    id: str
    title: str
    paper: str
    dataset: str
    target: Target | None
    searched: str = ""


@functools.cache
def _catalog_files() -> dict[str, Path]:
    return catalog_files(CATALOG)


def catalog_files(catalog: Path) -> dict[str, Path]:
    """The files of a catalogue, by id: each is named after its id. Hidden ones, such as an editor's, are none.

    Raises:
        RecipeError: two files have the same id, or one is not named after its own.
    """
    files: dict[str, Path] = {}
    for path in sorted(catalog.glob("*/*.yaml")):
        if any(part.startswith(".") for part in path.relative_to(catalog).parts):
            continue
        if path.stem in files:
            first, second = (file.relative_to(catalog) for file in (files[path.stem], path))
            raise RecipeError(f"catalogue files {first} and {second} have the same id: rename or remove one of them")
        files[path.stem] = path
        with _errors_of(path):
            text = path.read_bytes()
            # To parse all files takes long: that is for one that does not give its id in the usual way.
            if re.findall(rb"^id:.*$", text, re.MULTILINE) != [f"id: {path.stem}".encode()]:
                _check_id(_parse_yaml(text), path)
    return files


def benchmark_ids() -> list[str]:
    """Every id of the catalogue, sorted."""
    return sorted(_catalog_files())


def catalog_folder(benchmark: str) -> Path:
    """Where the file of a benchmark of the catalogue lies."""
    return _catalog_files()[benchmark].parent


def summaries() -> list[Summary]:
    """All benchmarks, sorted by id, read without their model, training and protocol: these are for `load_recipe`.

    Raises:
        RecipeError: as `read_catalog_file`, of what was read.
    """
    return [_read_summary(path) for _, path in sorted(_catalog_files().items())]


def load_recipe(benchmark: str, overrides: Iterable[str | tuple[str, str]] = ()) -> Recipe:
    """Load one benchmark, with overrides applied.

    Args:
        benchmark: id in the catalogue.
        overrides: "key=value" texts, or such a text with the option that said so; a text alone was said by --set.

    Raises:
        RecipeError: unknown id or key (with the nearest ones), a value of the wrong type or an impossible one.
    """
    files = _catalog_files()
    if benchmark not in files:
        raise RecipeError(f"unknown benchmark {benchmark!r}{nearest(benchmark, files)}; see `python cli.py list`")
    published = read_catalog_file(files[benchmark])
    return apply_overrides(published, overrides)


def apply_overrides(recipe: Recipe, overrides: Iterable[str | tuple[str, str]]) -> Recipe:
    """The recipe with "key=value" settings changed; a later one of the same key wins.

    Raises:
        RecipeError: as `load_recipe`.
    """
    settings, options = recipe.settings, dict(recipe.overrides)
    for override in overrides:
        text, source = (override, "--set") if isinstance(override, str) else override
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"override {text!r}: expected key=value, for example train.epochs=2")
        settings = _replace(settings, key.strip(), value.strip())
        options[key.strip()] = source
    check_consistency(settings)
    return msgspec.structs.replace(recipe, settings=settings, overrides=options)


def recipe_from_settings(benchmark: str, settings: Mapping[str, Any], overrides: Mapping[str, str]) -> Recipe:
    """The recipe of an earlier run, from its stored settings, beside what the catalogue says is published.

    Raises:
        RecipeError: if the benchmark or its settings are not known to this version.
    """
    recipe = load_recipe(benchmark)
    try:
        resolved = msgspec.convert(settings, Settings)
        check_consistency(resolved)
    except (msgspec.ValidationError, RecipeError) as error:
        raise RecipeError(f"{benchmark}: stored settings do not fit this version: {error}") from error
    return msgspec.structs.replace(recipe, settings=resolved, overrides=dict(overrides))


def read_catalog_file(path: Path) -> Recipe:
    """Read one file of the catalogue, strictly: every setting there, none unknown, each with value and source.

    Raises:
        RecipeError: naming file and key.
    """
    with _errors_of(path):
        return _recipe_from_content(_with_parent(_read_yaml(path), path), path)


def _read_summary(path: Path) -> Summary:
    with _errors_of(path):
        content = _with_parent(_read_head(path), path, _read_head)
        _check_id(content, path)
        target = msgspec.convert(content["target"], Target | None)
        paper, dataset = content["paper"], content["data"]["dataset"]["value"]
        searched = " ".join([content["id"], content["title"], path.parent.name, *map(str, paper.values())])
        return Summary(content["id"], content["title"], paper["name"], dataset, target, searched)


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file, as one line that names it."""
    try:
        yield
    except (OSError, yaml.YAMLError, msgspec.ValidationError, RecipeError, KeyError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error).replace("\n", " ")
        raise RecipeError(f"catalogue file {path.name}: {detail}") from error
    except (TypeError, AttributeError) as error:
        raise RecipeError(
            f"catalogue file {path.name}: a group or setting has another shape than"
            " `setting: {value: ..., source: ...}`"
        ) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    return _parse_yaml(path.read_bytes())


@functools.cache
def _read_head(path: Path) -> dict[str, Any]:
    """What stands before the model, three quarters of a file, which take as much of the time; not to be changed."""
    return _parse_yaml(path.read_bytes().partition(b"\nmodel:")[0])


def _parse_yaml(text: bytes) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    if not isinstance(content, dict):
        raise RecipeError("expected a mapping")
    return content


def _check_id(content: dict[str, Any], path: Path) -> None:
    if content["id"] != path.stem:
        raise RecipeError(f"id is {content['id']!r}, but the file is named {path.stem!r}: expected the same")


def _with_parent(
    content: dict[str, Any], path: Path, read: Callable[[Path], dict[str, Any]] = _read_yaml
) -> dict[str, Any]:
    """A variant's content, laid over that of the benchmark in the same folder that `variant_of` names."""
    if "variant_of" not in content:
        return content
    parent_path = path.with_name(f"{content['variant_of']}.yaml")
    parent = _with_parent(read(parent_path), parent_path, read)
    merged = {"paper": parent["paper"]} | content
    for group in Settings.__struct_fields__:
        if group in parent:
            merged[group] = parent[group] | content.get(group, {})
    return merged


def _recipe_from_content(content: dict[str, Any], path: Path) -> Recipe:
    known = {"id", "version", "variant_of", "title", "paper", "target", *Settings.__struct_fields__}
    unknown = sorted(set(content) - known)
    if unknown:
        raise RecipeError(f"unknown key {unknown[0]!r}{nearest(unknown[0], known)}")
    _check_id(content, path)
    values: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for group in Settings.__struct_fields__:
        values[group] = {}
        for name, entry in content[group].items():
            if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
                raise RecipeError(f"{group}.{name}: expected {{value: ..., source: ...}}")
            values[group][name], sources[f"{group}.{name}"] = entry["value"], entry["source"]
    settings = msgspec.convert(values, Settings)
    check_consistency(settings)
    return Recipe(
        id=content["id"],
        title=content["title"],
        paper=msgspec.convert(content["paper"], Paper),
        target=msgspec.convert(content["target"], Target | None),
        published=settings,
        settings=settings,
        sources=sources,
        version=msgspec.convert(content.get("version", 1), Count),
    )


def _replace(settings: Settings, key: str, text: str) -> Settings:
    known = flatten(settings)
    if key not in known:
        raise RecipeError(f"unknown setting {key!r}{nearest(key, known)}; see `python cli.py show ID`")
    group, name = key.split(".")
    part = getattr(settings, group)
    field_type = get_type_hints(type(part), include_extras=True)[name]
    kinds = tuple(map(type, _kinds(field_type)))
    given: str | float | list[str] = text
    if msgspec.inspect.VarTupleType in kinds and text != "null":
        given = text.split(",")
    elif msgspec.inspect.FloatType in kinds:
        with contextlib.suppress(ValueError):  # what is no number is refused below
            given = float(text)  # ".1" and "1." too, which JSON has not
    try:
        value = msgspec.convert(given, field_type, strict=False)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"{key}={text}: expected {_describe(field_type)}{_nearest_literal(text, field_type)}"
        ) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{key}={text}: expected {_describe(field_type)}")
    return msgspec.structs.replace(settings, **{group: msgspec.structs.replace(part, **{name: value})})


def _nearest_literal(text: str, field_type: Any) -> str:
    kinds = _kinds(field_type)
    return nearest(
        text, [str(v) for kind in kinds if isinstance(kind, msgspec.inspect.LiteralType) for v in kind.values]
    )


def _describe(field_type: Any) -> str:
    return " or ".join(_describe_kind(kind) for kind in _kinds(field_type))


def _kinds(field_type: Any) -> tuple[Any, ...]:
    info = msgspec.inspect.type_info(field_type)
    return info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)


def _describe_kind(info: Any) -> str:
    if isinstance(info, msgspec.inspect.LiteralType):
        return " or ".join(sorted(map(str, info.values)))
    if isinstance(info, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        kind = "a whole number" if isinstance(info, msgspec.inspect.IntType) else "a number"
        bounds = ((info.ge, "at least"), (info.gt, "above"), (info.le, "at most"), (info.lt, "below"))
        return ", ".join([kind, *(f"{words} {bound}" for bound, words in bounds if bound is not None)])
    if isinstance(info, msgspec.inspect.VarTupleType):
        return f"{_describe_kind(info.item_type)}, or several joined by ','"
    names = {msgspec.inspect.NoneType: "null", msgspec.inspect.BoolType: "true or false"}
    return names.get(type(info), "text")
