"""One file of the catalog, read strictly: all that is wrong with it is found at once, and said key by key.

YAML is read as version 1.2 has numbers: 1e-4 is one, and what looks like another notation (0100, 1_000, 1:30) is none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import msgspec
import yaml

from benchmarks.errors import RecipeError
from benchmarks.recipe.consistency import consistency_problems
from benchmarks.recipe.expected import convert, describe, nearest, nearest_word, shown
from benchmarks.recipe.paper import Paper, Target
from benchmarks.recipe.settings import DATASETS, Count, Settings

LARGEST = 1_000_000  # bytes; those of the catalog have 10,000
TODO = "TODO"  # what a draft has where a paper is to be looked up
ID = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")  # the name of a file, of folders of runs, and a word of commands
ENTRY = "{value: ..., source: ...}"
_TEXTS = ("id", "title", "paper", "target")
_LOOK_UP = f"still {TODO}, to be looked up"
_KNOWN = (*_TEXTS, "version", "variant_of", *Settings.__struct_fields__)
_INTEGER, _NUMBER = re.compile(r"[-+]?(0|[1-9]\d{0,17})"), re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_HEAD_KEY = re.compile(rb"^\W?(id|title|paper|target|variant_of|data)\b", re.MULTILINE)
_PERCENT = re.compile(r"\d{1,2}(\.\d{1,9})?")


class CatalogError(RecipeError):
    """A file of the catalog that is not as it must be; `problems` are all that were found, a line each."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        if unwritten := [problem.partition(":")[0] for problem in problems if problem.endswith(_LOOK_UP)]:
            others = [problem for problem in problems if not problem.endswith(_LOOK_UP)]
            problems = [*others, f"{_LOOK_UP}: {', '.join(unwritten)}"]
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        super().__init__(f"catalog file {path.name}: {count}{'; '.join(problems)}")
        self.problems = problems


class Entry(NamedTuple):
    """What a file says of a benchmark: settings with their sources, by "group.name"."""

    id: str
    title: str
    paper: Paper
    target: Target | None
    version: int
    settings: Settings
    sources: dict[str, str]


class Head(NamedTuple):
    """What a file says before the model."""

    id: str
    title: str
    paper: Paper
    target: Target | None
    dataset: str


def read(path: Path) -> Entry:
    """The whole file.

    Raises:
        CatalogError: anything is wrong with it.
    """
    problems: list[str] = []
    content = _content(path, _read_yaml, problems)
    problems += [f"{key!r}: unknown key{nearest(str(key), _KNOWN)}" for key in content if key not in _KNOWN]
    paper, target = _about(content, path, problems)
    version = _value("version", content.get("version", 1), Count, problems)
    values: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    found = len(problems)
    for group, group_type in get_type_hints(Settings).items():
        values[group] = dict(_read_group(group, group_type, content, sources, problems))
    if len(problems) == found:
        settings = msgspec.convert(values, Settings)
        problems += consistency_problems(settings)
    problems += [f"{key}: {text}" for key, source in sources.items() if (text := _text_problem(source))]
    if problems:
        raise CatalogError(path, problems)
    assert paper is not None
    return Entry(content["id"], content["title"], paper, target, version, settings, sources)


def read_head(path: Path) -> Head:
    """What stands before the model: to read that is four times as fast.

    Raises:
        CatalogError: something is wrong with it.
    """
    problems: list[str] = []
    content = _content(path, _read_yaml_head, problems)
    paper, target = _about(content, path, problems)
    dataset = content.get("data")
    for key in ("dataset", "value"):
        dataset = dataset.get(key) if isinstance(dataset, dict) else None
    if dataset not in DATASETS:
        problems.append(f"data.dataset: expected {' or '.join(DATASETS)}{nearest(str(dataset), DATASETS)}")
    if problems:
        raise CatalogError(path, problems)
    assert paper is not None
    return Head(content["id"], content["title"], paper, target, str(dataset))


# -- YAML --------------------------------------------------------------------------------------------------------------

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Keeps what is wrong and stops nothing: keys that stand twice."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.problems: list[str] = []

    def mapping(self, node: Any) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in keys:
                self.problems.append(
                    f"{shown(key.value)} in line {key.start_mark.line + 1}: the key stands there twice"
                )
            keys.add(key.value if isinstance(key.value, str) else "")
        content: dict[Any, Any] = self.construct_mapping(node, deep=True)
        return content

    def integer(self, node: Any) -> int | str:
        text: str = self.construct_scalar(node)
        return int(text) if _INTEGER.fullmatch(text) else text

    def number(self, node: Any) -> float | str:
        text: str = self.construct_scalar(node)
        return float(text) if _NUMBER.fullmatch(text) else text


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"{_NUMBER.pattern}\Z"), [*"-+.0123456789"])
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)


def _has_alias(text: bytes) -> bool:
    """Whether a value stands for one that is written elsewhere: a few lines of such are a value without end."""
    return b"*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _SafeLoader))


def _parse(text: bytes, path: Path, problems: list[str]) -> dict[str, Any]:
    loader = _Loader(text)
    try:
        if _has_alias(text):
            raise CatalogError(path, ["it has an alias (*name): expected each value where it is meant"])
        content = loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CatalogError(path, [" ".join(str(error).split())]) from error
    finally:
        loader.dispose()
    problems += loader.problems
    if not isinstance(content, dict):
        raise CatalogError(path, [f"expected a mapping, `id: {path.stem}` and so on"])
    return content


def _bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise CatalogError(path, ["it is no file"])
        if path.stat().st_size > LARGEST:
            raise CatalogError(path, [f"it has {path.stat().st_size:,} bytes, expected {LARGEST:,} at most"])
        return path.read_bytes()
    except OSError as error:
        raise CatalogError(path, [f"it cannot be read: {error.strerror or error}"]) from error


def _read_yaml(path: Path, problems: list[str]) -> dict[str, Any]:
    return _parse(_bytes(path), path, problems)


def _read_yaml_head(path: Path, problems: list[str]) -> dict[str, Any]:
    content, found = _parse_head(path)
    problems += found
    return content


@functools.cache
def _parse_head(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What stands before the model, a quarter of a file, which takes as much of the time; not to be changed."""
    problems: list[str] = []
    text = _bytes(path)
    head, _, rest = text.partition(b"\nmodel:")
    return _parse(text if _HEAD_KEY.search(rest) else head, path, problems), problems


# -- what a file is made of --------------------------------------------------------------------------------------------


def _content(
    path: Path, read: Callable[[Path, list[str]], dict[str, Any]], problems: list[str], variants: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """A file's content; that of a variant is laid over the one in the same folder that `variant_of` names."""
    content = read(path, problems)
    if "variant_of" not in content:
        return content
    name = content["variant_of"]
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise CatalogError(path, [f"variant_of: expected the id of a benchmark in the same folder, not {shown(name)}"])
    parent_path = path.with_name(f"{name}.yaml")
    if parent_path in (path, *variants):
        raise CatalogError(path, [f"variant_of: {name} is in the end a variant of itself: expected another benchmark"])
    if not parent_path.exists():
        known = sorted(file.stem for file in path.parent.glob("*.yaml") if file != path)
        raise CatalogError(path, [f"variant_of: there is no {name} in this folder{nearest(name, known)}"])
    parent = _content(parent_path, read, problems, (path, *variants))
    merged = {key: parent[key] for key in ("paper", *Settings.__struct_fields__) if key in parent} | content
    for group in Settings.__struct_fields__:
        own, others = content.get(group, {}), parent.get(group, {})
        if isinstance(own, dict) and isinstance(others, dict) and group in merged:
            merged[group] = others | own
    return merged


def _about(content: Mapping[str, Any], path: Path, problems: list[str]) -> tuple[Paper | None, Target | None]:
    """Check id and title; read paper and target."""
    for key in ("id", "title"):
        if key not in content:
            problems.append(f"{key} is missing: expected text")
        elif text := _text_problem(content[key]):
            problems.append(f"{key}: {text}")
    name = content.get("id", path.stem)
    if name != path.stem:
        problems.append(f"id is {shown(name)}, but the file is named {path.stem!r}: expected the same")
    elif not ID.fullmatch(path.stem):
        problems.append(f"id: expected lower-case letters and digits with -, . or _ between them, not {shown(name)}")
    paper = _struct("paper", content, Paper, problems)
    target = None
    if "target" not in content or content["target"] is not None:
        target = _struct("target", content, Target, problems)
    return paper, target


def _struct(key: str, content: Mapping[str, Any], struct: Any, problems: list[str]) -> Any:
    """A group of plain values as a structure; None, and problems, if it is not that."""
    group, fields = content.get(key), _fields(struct)
    if not isinstance(group, dict):
        found = f"{key}: expected" if key in content else f"{key} is missing: expected"
        null = "null or " if struct is Target else ""
        problems.append(f"{found} {null}a group with {', '.join(name for name, f in fields.items() if f.required)}")
        return None
    before = len(problems)
    problems += [f"{key}.{name}: unknown key{nearest(str(name), fields)}" for name in group if name not in fields]
    values = {}
    for name, field in fields.items():
        full = f"{key}.{name}"
        if name in group:
            values[name] = _value(full, group[name], field.type, problems)
        elif field.required:
            problems.append(f"{full} is missing: expected {_described(full, field.type)}")
    return struct(**values) if len(problems) == before else None


def _read_group(
    group: str, group_type: Any, content: Mapping[str, Any], sources: dict[str, str], problems: list[str]
) -> Iterator[tuple[str, Any]]:
    """Names and values of a group's settings, those that are right."""
    part, fields = content.get(group), _fields(group_type)
    if not isinstance(part, dict):
        missing = "" if group in content else " is missing"
        problems.append(f"{group}{missing}: expected settings, each as `name: {ENTRY}`")
        return
    for name, entry in part.items():
        key = f"{group}.{name}"
        if name not in fields:
            problems.append(f"{key}: unknown setting{_nearest_setting(str(name), key)}")
        elif not isinstance(entry, dict) or set(entry) != {"value", "source"}:
            problems.append(f"{key}: expected {ENTRY}, not {shown(entry)}")
        else:
            sources[key] = entry["source"]
            yield name, _value(key, entry["value"], fields[name].type, problems)
    for name, field in fields.items():
        if field.required and name not in part:
            problems.append(f"{group}.{name} is missing: expected {describe(field.type)}")


def _value(key: str, value: object, field_type: Any, problems: list[str]) -> Any:
    """The value as its field's type, and a problem if it is not of that type."""
    if value == TODO:
        problems.append(f"{key}: {_LOOK_UP}")
        return None
    try:
        if key == "target.test_error":
            _check_percent(value)
        if key == "target.validation_errors" and isinstance(value, dict) and set("/\\") & set(str(value.get("file"))):
            raise ValueError("another folder")
        converted = convert(value, field_type)
    except ValueError:
        near = nearest_word(value, field_type)
        problems.append(f"{key}: expected {_described(key, field_type)}, not {shown(value)}{near}")
        return None
    if isinstance(converted, str) and TODO in converted.split():
        problems.append(f"{key}: {_LOOK_UP}")
    return converted


def _check_percent(value: object) -> None:
    if not isinstance(value, str) or not _PERCENT.fullmatch(value) or float(value) == 0:
        raise ValueError("no error in percent")


def _described(key: str, field_type: Any) -> str:
    special = {
        "target.test_error": 'percent in quotation marks, above 0 and below 100, with the decimals printed, as "8.27"',
        "target.validation_errors": "a group with file, the name of one beside this, and source",
    }
    return special.get(key) or describe(field_type)


def _text_problem(value: object) -> str:
    """What is wrong with a text that somebody has to write; empty if nothing is."""
    if not isinstance(value, str):
        return f"expected text, not {shown(value)}: quotation marks make it one"
    if not value.strip():
        return "expected text, and it is empty"
    return _LOOK_UP if TODO in value.split() else ""


class _Field(NamedTuple):
    type: Any
    required: bool


@functools.cache
def _fields(struct: Any) -> dict[str, _Field]:
    """A structure's fields by name; to find out their types takes long."""
    hints = get_type_hints(struct, include_extras=True)
    return {field.name: _Field(hints[field.name], field.required) for field in msgspec.structs.fields(struct)}


def _nearest_setting(name: str, key: str) -> str:
    names = [f"{group}.{known}" for group, part in get_type_hints(Settings).items() for known in part.__struct_fields__]
    in_another_group = [known for known in names if known.partition(".")[2] == name]
    return nearest(key, in_another_group) if in_another_group else nearest(key, names)
