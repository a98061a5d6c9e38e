"""The recipe: what is published about one experiment, typed and frozen, with overrides, a digest and the difference
between them.

A recipe is read from one file of benchmarks/catalog, where every setting has its value and its source. `settings` holds
all that can change the measured number; whatever differs from the published settings makes a run non-scoring.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec
import yaml

from benchmarks.architecture import layer_shapes, parse_architecture
from benchmarks.errors import RecipeError
from results.canonical import digest

CATALOG = Path(__file__).parent / "catalog"

Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Rate = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class DatasetFacts(NamedTuple):
    """What of a data set a recipe's network and cost depend on: image (channels, rows, columns) and test images."""

    image_shape: tuple[int, int, int]
    test_images: int


DATASETS = {
    "mnist": DatasetFacts((1, 28, 28), 10_000),
    "mnist-small": DatasetFacts((1, 28, 28), 200),
    "cifar10": DatasetFacts((3, 32, 32), 10_000),
    "cifar10-small": DatasetFacts((3, 32, 32), 200),
    "svhn": DatasetFacts((3, 32, 32), 26_032),
}
CLASSES = 10


# A setting added to one of these classes later takes a default that means its absence: settings at their default are
# left out of the digest, so that the digests in older records stay valid.
class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    pass


class DataSettings(_Settings, frozen=True):
    """Which images are trained on, and what is done to them first."""

    dataset: Literal["mnist", "mnist-small", "cifar10", "cifar10-small", "svhn"]
    preprocessing: Literal[
        "centered", "unit", "signed", "gcn_zca", "gcn_lcn_red", "gcn_lcn", "standardized", "torch7_zca", "torch7_lcn"
    ]
    train_images: Count
    valid_images: Count


class ModelSettings(_Settings, frozen=True):
    """The network and its training rule: all that an engine needs to know.

    `weights` says how training binarises the real-valued weights: by their sign ("deterministic"), by a random draw
    ("stochastic") or not at all ("real"); `evaluation_weights` whether evaluation uses the binary weights or the
    real-valued ones. `weight_limit` is H: binary weights are -H or +H, real-valued ones are clipped to +-H; with
    "half_glorot" it is half the limit of Glorot's initialisation, layer by layer. `clipped` says whether biases, gamma
    and beta are clipped to it too.

    "torch" names what Torch7 does otherwise: as `output_batch_norm`, the normalisation of the network's output if it is
    another than `batch_norm`, with `output_batch_norm_alpha`; as `initialization`, random biases and random gamma of
    that normalisation; in `lr_scale`, that biases are scaled as weights are, and gamma too, or that the scale is
    rounded to a power of two (AP2).
    """

    architecture: str
    activation: Literal["relu", "binary_tanh", "binary_sigmoid", "stochastic_sign"]
    weights: Literal["deterministic", "stochastic", "real"]
    evaluation_weights: Literal["binary", "real"]
    weight_limit: Positive | Literal["half_glorot"]
    lr_scale: Literal["glorot", "none", "torch_glorot", "torch_glorot_ap2"]
    batch_norm: Literal["binaryconnect", "lasagne", "shift"]
    batch_norm_alpha: Fraction
    batch_norm_epsilon: Positive
    loss: Literal["squared_hinge"]
    optimizer: Literal["adam", "sgd", "shift_adamax"]
    dropout_input: Rate = 0.0
    dropout_hidden: Rate = 0.0
    max_pool_gradient: Literal["first", "all"] = "first"
    clipped: Literal["weights", "all"] = "weights"
    output_batch_norm: Literal["torch"] | None = None
    output_batch_norm_alpha: Fraction | None = None
    initialization: Literal["lasagne", "torch"] = "lasagne"


class TrainSettings(_Settings, frozen=True, kw_only=True):
    """How long and how fast.

    The learning rate starts at `lr_start`. With `lr_decay` "exponential" it is multiplied after each epoch so that it
    would be `lr_final` after the last one; with "halving" it is halved after every `lr_halving_epochs` epochs.
    """

    epochs: Count
    batch_size: Count
    lr_start: Positive
    lr_final: Positive | None = None
    lr_decay: Literal["exponential", "halving"]
    lr_halving_epochs: Count | None = None
    shuffle: Literal["cumulative"]


class ProtocolSettings(_Settings, frozen=True):
    """Which epoch's test error is the result, and what becomes of images that do not fill a last batch.

    `counted_test_images`: the verdict counts all test images, or only those of whole batches of `batch_size`.
    """

    selection: Literal["best_validation"]
    remainder: Literal["dropped"]
    counted_test_images: Literal["all", "whole_batches"] = "all"


class Settings(_Settings, frozen=True):
    """All that can change the measured number."""

    data: DataSettings
    model: ModelSettings
    train: TrainSettings
    protocol: ProtocolSettings


class Paper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the experiment was published."""

    name: str
    title: str
    url: str
    code: str


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The published test error in percent, as printed there ("1.15": its decimals count).

    `provenance` is "read" in the place named, "mem" where that could not be checked, "2nd" if seen only in a secondary
    source. `margin_standard_errors` times the binomial standard error of the target on the test set is the margin
    within which a run reproduces it.
    """

    test_error: str
    source: str
    provenance: Literal["read", "mem", "2nd"]
    note: str = ""
    margin_standard_errors: Positive = 2.0

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
    """One benchmark, with the settings of this run."""

    id: str
    title: str
    paper: Paper
    target: Target | None
    published: Settings
    settings: Settings
    sources: dict[str, str]
    overrides: dict[str, str] = {}

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


def flatten(settings: Settings) -> dict[str, Any]:
    """Settings as {"train.epochs": 250, ...}."""
    return {
        f"{group}.{name}": getattr(getattr(settings, group), name)
        for group in settings.__struct_fields__
        for name in getattr(settings, group).__struct_fields__
    }


@functools.cache
def _catalog_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(CATALOG.glob("*/*.yaml"))}


def benchmark_ids() -> list[str]:
    """Every id of the catalogue, sorted."""
    return sorted(_catalog_files())


def load_recipe(benchmark: str, overrides: Iterable[str] | Mapping[str, str] = ()) -> Recipe:
    """Load one benchmark, with overrides applied.

    Args:
        benchmark: id in the catalogue.
        overrides: "key=value" texts, or {"key=value": option that said so}.

    Raises:
        RecipeError: unknown id or key (with the nearest ones), a value of the wrong type or an impossible one.
    """
    files = _catalog_files()
    if benchmark not in files:
        raise RecipeError(f"unknown benchmark {benchmark!r}{_nearest(benchmark, files)}; see `python cli.py list`")
    published = read_catalog_file(files[benchmark])
    return apply_overrides(published, overrides)


def apply_overrides(recipe: Recipe, overrides: Iterable[str] | Mapping[str, str]) -> Recipe:
    """The recipe with "key=value" settings changed; a later one of the same key wins.

    Raises:
        RecipeError: as `load_recipe`.
    """
    sources = overrides if isinstance(overrides, Mapping) else dict.fromkeys(overrides, "--set")
    settings, options = recipe.settings, dict(recipe.overrides)
    for text, source in sources.items():
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"override {text!r}: expected key=value, for example train.epochs=2")
        settings = _replace(settings, key.strip(), value.strip())
        options[key.strip()] = source
    _check_consistency(settings)
    return msgspec.structs.replace(recipe, settings=settings, overrides=options)


def recipe_from_settings(benchmark: str, settings: Mapping[str, Any], overrides: Mapping[str, str]) -> Recipe:
    """The recipe of an earlier run, from its stored settings, beside what the catalogue says is published.

    Raises:
        RecipeError: if the benchmark or its settings are not known to this version.
    """
    recipe = load_recipe(benchmark)
    try:
        resolved = msgspec.convert(settings, Settings)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{benchmark}: stored settings do not fit this version: {error}") from error
    return msgspec.structs.replace(recipe, settings=resolved, overrides=dict(overrides))


def read_catalog_file(path: Path) -> Recipe:
    """Read one file of the catalogue, strictly: every setting there, none unknown, each with value and source.

    Raises:
        RecipeError: naming file and key.
    """
    try:
        return _recipe_from_content(_with_parent(_read_yaml(path), path), path)
    except (OSError, yaml.YAMLError, msgspec.ValidationError, RecipeError, KeyError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error).replace("\n", " ")
        raise RecipeError(f"catalogue file {path.name}: {detail}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506 - a safe loader
    if not isinstance(content, dict):
        raise RecipeError("expected a mapping")
    return content


def _with_parent(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """A variant's content, laid over that of the benchmark in the same folder that `variant_of` names."""
    if "variant_of" not in content:
        return content
    parent_path = path.with_name(f"{content['variant_of']}.yaml")
    parent = _with_parent(_read_yaml(parent_path), parent_path)
    merged = {"paper": parent["paper"]} | content
    for group in Settings.__struct_fields__:
        merged[group] = parent[group] | content.get(group, {})
    return merged


def _recipe_from_content(content: dict[str, Any], path: Path) -> Recipe:
    known = {"id", "variant_of", "title", "paper", "target", *Settings.__struct_fields__}
    unknown = sorted(set(content) - known)
    if unknown:
        raise RecipeError(f"unknown key {unknown[0]!r}{_nearest(unknown[0], known)}")
    if content["id"] != path.stem:
        raise RecipeError(f"id is {content['id']!r}, but the file is named {path.stem!r}")
    values: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for group in Settings.__struct_fields__:
        values[group] = {}
        for name, entry in content[group].items():
            if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
                raise RecipeError(f"{group}.{name}: expected {{value: ..., source: ...}}")
            values[group][name], sources[f"{group}.{name}"] = entry["value"], entry["source"]
    settings = msgspec.convert(values, Settings)
    _check_consistency(settings)
    return Recipe(
        id=content["id"],
        title=content["title"],
        paper=msgspec.convert(content["paper"], Paper),
        target=msgspec.convert(content["target"], Target | None),
        published=settings,
        settings=settings,
        sources=sources,
    )


def _replace(settings: Settings, key: str, text: str) -> Settings:
    known = flatten(settings)
    if key not in known:
        raise RecipeError(f"unknown setting {key!r}{_nearest(key, known)}; see `python cli.py show ID`")
    group, name = key.split(".")
    part = getattr(settings, group)
    field_type = get_type_hints(type(part), include_extras=True)[name]
    try:
        value = msgspec.convert(text, field_type, strict=False)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"{key}={text}: expected {_describe(field_type)}{_nearest_literal(text, field_type)}"
        ) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{key}={text}: expected {_describe(field_type)}")
    return msgspec.structs.replace(settings, **{group: msgspec.structs.replace(part, **{name: value})})


def _check_consistency(settings: Settings) -> None:
    """Refuse settings that no single field can refuse by itself."""
    try:
        layers = parse_architecture(settings.model.architecture)
        shapes = layer_shapes(layers, DATASETS[settings.data.dataset].image_shape)
    except ValueError as error:
        raise RecipeError(f"model.architecture={settings.model.architecture}: {error}") from error
    if shapes[-1].output_shape != (CLASSES,):
        raise RecipeError(
            f"model.architecture={settings.model.architecture}: expected {CLASSES}FC at the end, one unit a class"
        )
    if settings.data.train_images < settings.train.batch_size:
        raise RecipeError(
            f"data.train_images={settings.data.train_images}: expected at least one batch"
            f" (train.batch_size={settings.train.batch_size})"
        )
    _check_learning_rates(settings.train)
    model = settings.model
    if model.weights == "real" and (model.evaluation_weights, model.lr_scale, model.clipped) != (
        *("real", "none", "weights"),
    ):
        raise RecipeError(
            "model.weights=real: expected model.evaluation_weights=real, model.lr_scale=none and model.clipped=weights"
            " with it"
        )


def _check_learning_rates(train: TrainSettings) -> None:
    """Refuse a schedule whose end is missing, above its start, or that of another."""
    given = {"exponential": train.lr_final, "halving": train.lr_halving_epochs}
    names = {"exponential": "train.lr_final", "halving": "train.lr_halving_epochs"}
    if [decay for decay, value in given.items() if value is not None] != [train.lr_decay]:
        raise RecipeError(f"train.lr_decay={train.lr_decay}: expected {names[train.lr_decay]} with it, and only that")
    if train.lr_final is not None and train.lr_final > train.lr_start:
        raise RecipeError(f"train.lr_final={train.lr_final}: expected at most train.lr_start={train.lr_start}")


def _nearest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f": did you mean {' or '.join(matches)}?" if matches else ""


def _nearest_literal(text: str, field_type: Any) -> str:
    kinds = _kinds(field_type)
    return _nearest(
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
    return "null" if isinstance(info, msgspec.inspect.NoneType) else "text"
