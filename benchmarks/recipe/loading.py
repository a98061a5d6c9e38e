"""The recipe: what is published about one experiment, typed and frozen, with overrides, a digest and the difference
between them.

A recipe is read from one file of benchmarks/catalog, where every setting has its value and its source. `settings` holds
all that can change the measured number; whatever differs from the published settings makes a run non-scoring.
"""

from __future__ import annotations

import contextlib
import functools
import re
import stat
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import msgspec

from benchmarks.errors import RecipeError
from benchmarks.paths import CATALOG
from benchmarks.recipe import catalog_file
from benchmarks.recipe.consistency import consistency_problems
from benchmarks.recipe.expected import convert, describe, kinds, nearest, nearest_names, nearest_word
from benchmarks.recipe.paper import Paper, PublishedErrors, Target
from benchmarks.recipe.settings import (
    CLASSES,
    DATASETS,
    DataSettings,
    ModelSettings,
    ProtocolSettings,
    Settings,
    TrainSettings,
    flatten,
    named_settings,
)
from benchmarks.recipe.words import WORDS
from results.escape import for_terminal
from results.record.canonical import digest

__all__ = [
    "CLASSES", "DATASETS", "DataSettings", "Difference", "ModelSettings", "Paper", "ProtocolSettings",
    "PublishedErrors", "Recipe", "Settings", "Summary", "Target", "TrainSettings", "apply_overrides", "benchmark_ids",
    "catalog_folder", "flatten", "load_recipe", "read_catalog_file", "recipe_from_settings", "summaries",
    "usable_summaries",
]  # fmt: skip


class SettingsError(RecipeError):
    """Overrides that cannot be; `problems` are all that were found, and the message has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        lines = list(map(for_terminal, problems))
        self.args = (lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} problems", *lines]),)


class Difference(msgspec.Struct, frozen=True):
    """One setting that is not as published, and which option made it so."""

    key: str
    published: Any
    value: Any
    source: str


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark, with the settings of this run.

    `version` is the catalog entry's: see versions.py. `stated` are the settings that the catalog, or the stored
    settings of an earlier run, name: "model.weights".
    """

    id: str
    title: str
    paper: Paper
    target: Target | None
    published: Settings
    settings: Settings
    sources: dict[str, str]
    overrides: dict[str, str] = {}
    version: int = 1
    stated: frozenset[str] = frozenset()

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
        return digest(named_settings(self.settings, self.stated))

    @property
    def published_digest(self) -> str:
        """The digest of the published settings."""
        return digest(named_settings(self.published, self.stated))

    @property
    def defaults(self) -> list[str]:
        """Settings at the value that stands for their absence: those that the digest leaves out."""
        named = named_settings(self.settings, self.stated)
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
    """The files of a catalog, by id, after which each is named. Hidden ones, such as an editor's, are none.

    Raises:
        RecipeError: two files have the same id, or a folder cannot be read.
    """
    files: dict[str, Path] = {}
    for folder in _entries(catalog, catalog):
        for path in _entries(folder, catalog):
            if path.suffix != ".yaml":
                continue
            if path.stem in files:
                first, second = (file.relative_to(catalog) for file in (files[path.stem], path))
                raise RecipeError(f"catalog files {first} and {second} have the same id: rename or remove one of them")
            files[path.stem] = path
    return files


def _entries(folder: Path, catalog: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing in a file. `Path.glob` would pass over what it cannot read."""
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return []
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        name = folder.relative_to(catalog)
        raise RecipeError(f"catalog folder {name}: it cannot be read: {error.strerror or error}") from error


def benchmark_ids() -> list[str]:
    """Every id of the catalog, sorted."""
    return sorted(_catalog_files())


def catalog_folder(benchmark: str) -> Path:
    """Where the file of a benchmark of the catalog lies."""
    return _catalog_files()[benchmark].parent


def other_file(path: Path) -> Path | None:
    """Another file of the catalog with the same id, which makes both unusable."""
    others = (p for folder in _entries(CATALOG, CATALOG) for p in _entries(folder, CATALOG))
    return next((other for other in others if other.name == path.name and other.resolve() != path.resolve()), None)


def summaries(warn: Callable[[str], None] | None = None) -> list[Summary]:
    """All benchmarks, sorted by id, read without their model, training and protocol: these are for `load_recipe`.

    With `warn`, what is wrong with a file is said to it, and that benchmark left out.

    Raises:
        RecipeError: as `read_catalog_file`, of what was read.
    """
    found = []
    for _, path in sorted(_catalog_files().items()):
        try:
            found.append(_read_summary(path))
        except RecipeError as error:
            if warn is None:
                raise
            warn(str(error))
    return found


def usable_summaries(recorded: Container[str], warn: Callable[[str], None]) -> list[Summary]:
    """`summaries`, but for files with something wrong that have no record, as drafts, on which nothing else depends.

    Raises:
        RecipeError: one that is `recorded` has something wrong with it.
    """
    complaints: list[str] = []
    found = summaries(complaints.append)
    left_out = {*_catalog_files()} - {summary.id for summary in found}
    if any(name in recorded for name in left_out):
        return summaries()
    for complaint in complaints:
        warn(complaint)
    return found


def load_recipe(benchmark: str, overrides: Iterable[str | tuple[str, str]] = ()) -> Recipe:
    """Load one benchmark, with overrides applied.

    Args:
        benchmark: id in the catalog.
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
    settings, options, problems = recipe.settings, dict(recipe.overrides), list[str]()
    refused, accepted = set[str](), set[str]()  # keys of settings; of an unknown one that is near, which was meant
    for override in overrides:
        text, source = (override, "--set") if isinstance(override, str) else override
        key, equals, value = text.partition("=")
        try:
            if not equals:
                raise RecipeError(f"override {text!r}: expected key=value, for example train.epochs=2")
            settings = _replace(settings, key.strip(), value.strip())
        except RecipeError as error:
            problems.append(str(error))
            refused.update(nearest_names(key.strip(), flatten(settings))[:1])
        else:
            accepted.add(key.strip())
        options[key.strip()] = source
    problems += _others(consistency_problems(settings), refused, accepted)
    if problems:
        raise SettingsError([f"{text}{_where_explained(text, recipe.id)}" for text in problems])
    return msgspec.structs.replace(recipe, settings=settings, overrides=options)


def recipe_from_settings(benchmark: str, settings: Mapping[str, Any], overrides: Mapping[str, str]) -> Recipe:
    """The recipe of an earlier run, from its stored settings, beside what the catalog says is published.

    Raises:
        RecipeError: if the benchmark or its settings are not known to this version.
    """
    recipe = load_recipe(benchmark)
    try:
        resolved = msgspec.convert(settings, Settings)
        if problems := consistency_problems(resolved):
            raise ValueError("; ".join(problems))
    except (msgspec.ValidationError, ValueError) as error:
        raise RecipeError(f"{benchmark}: stored settings do not fit this version: {error}") from error
    stated = frozenset(f"{group}.{key}" for group, values in settings.items() for key in values)
    return msgspec.structs.replace(recipe, settings=resolved, overrides=dict(overrides), stated=stated)


def read_catalog_file(path: Path) -> Recipe:
    """Read one file of the catalog, strictly: every setting there, none unknown, each with value and source.

    Raises:
        CatalogError: a RecipeError, naming the file and all that is wrong with it.
    """
    entry = catalog_file.read(path)
    about = {field: getattr(entry, field) for field in ("id", "title", "paper", "target", "version", "sources")}
    stated = frozenset(entry.sources)
    return Recipe(**about, published=entry.settings, settings=entry.settings, stated=stated)


def _read_summary(path: Path) -> Summary:
    head = catalog_file.read_head(path)
    paper = head.paper
    searched = " ".join(
        [head.id, head.title, path.parent.name, paper.name, paper.title, paper.authors, paper.url, paper.code]
    )
    return Summary(head.id, head.title, paper.name, head.dataset, head.target, searched)


def _others(problems: list[str], refused: set[str], accepted: set[str]) -> list[str]:
    """Problems that are there whatever the refused overrides would have been: none of these settings is named."""
    word = re.compile(r"[a-z]+\.[a-z_]+")
    return [text for text in problems if not (set(word.findall(text)) & (refused - accepted))]


def _where_explained(problem: str, benchmark: str) -> str:
    """Behind a problem with the words of a setting: the command that says what they mean."""
    key = problem.partition("=")[0]
    if key not in WORDS:
        return ""
    return f"; `python cli.py show {benchmark} --explain {key}` says what each word means"


def _replace(settings: Settings, key: str, text: str) -> Settings:
    known = flatten(settings)
    if key not in known:
        raise RecipeError(f"unknown setting {key!r}{nearest(key, known)}; see `python cli.py show ID`")
    group, name = key.split(".")
    part = getattr(settings, group)
    field_type = get_type_hints(type(part), include_extras=True)[name]
    types = tuple(map(type, kinds(field_type)))
    given: str | float | list[str] = text
    if msgspec.inspect.VarTupleType in types and text != "null":
        given = text.split(",")
    elif msgspec.inspect.FloatType in types:
        with contextlib.suppress(ValueError):  # what is no number is refused below
            given = float(text)  # ".1" and "1." too, which JSON has not
    try:
        value = convert(given, field_type, strict=False)
    except ValueError as error:
        expected = f"{describe(field_type)}{nearest_word(text, field_type)}"
        raise RecipeError(f"{key}={text}: expected {expected}") from error
    return msgspec.structs.replace(settings, **{group: msgspec.structs.replace(part, **{name: value})})
