"""The registry: one file a run, `<root>/<benchmark>/<record id>.json`, written once, never rewritten, verifiable.

With some records weights are published: see results/weights.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET

from results import checks, weights
from results.canonical import leaves
from results.errors import RegistryError, StorageError
from results.files import write_atomically
from results.record import Record, checksums, from_bytes, record_id, seal, to_bytes

ExtraCheck = Callable[[Record], Iterable[tuple[str, str]]]


class Problem(NamedTuple):
    """Something that is wrong with one file; `field` is a path inside the record, as `curve.lr[3]`."""

    path: Path
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.field}: {self.message}"


def write(record: Record, root: Path, published: bytes | None = None) -> Path:
    """Seal the record, write it under `root`, return its path. Writing the same record again changes nothing.

    `published` are the weights that the record describes, written first: a record is there only with them.

    Raises RegistryError if the record is inconsistent or a different file has its name, StorageError (exit code 1) if
    the place cannot be written to.
    """
    sealed = seal(record)
    name = f"record of {record.benchmark}"
    if record.id not in ("", sealed.id):
        raise RegistryError(f"{name}: id: is {record.id}, but the content has {sealed.id}", "id")
    if found := checks.problems(sealed):
        raise RegistryError(f"{name}: {checks.as_lines(found)}", found[0][0])
    described = UNSET if published is None else weights.described(published)
    if sealed.published_weights != described:
        raise RegistryError(f"{name}: published_weights: are not those that the record describes", "published_weights")
    if published is not None:
        _write_once(weights.path_of(root, sealed.benchmark, sealed.id), published)
    path = root / sealed.benchmark / f"{sealed.id}.json"
    _write_once(path, to_bytes(sealed))
    return path


def registered_path(record: Record, root: Path) -> Path | None:
    """Where the record is registered, with the weights published with it; None if it is not."""
    path = root / record.benchmark / f"{record.id}.json"
    whole = path.exists() and _content(path) == to_bytes(record) and not any(weights.problems(record, root))
    return path if whole else None


def _write_once(path: Path, data: bytes) -> None:
    if not path.exists():
        write_atomically(path, data)
    elif _content(path) != data:
        raise RegistryError(f"{path}: content: is not what was recorded under this name; restore it (git checkout)")


def read(path: Path) -> Record:
    """The record in a file, its schema checked. Raises RegistryError naming file and field."""
    return from_bytes(_content(path), str(path))


def read_all(root: Path) -> list[tuple[Path, Record]]:
    """Every record of the registry, sorted by benchmark and id; empty if the folder does not exist."""
    return [(path, read(path)) for path in _record_files(root)]


def find(root: Path, text: str) -> Path:
    """The record that `text` means: the path of a file, or the beginning of a record id.

    Raises RegistryError if there is none or more than one.
    """
    if text.endswith(".json") and Path(text).is_file():
        return Path(text)
    found = [path for path in _record_files(root) if text and path.stem.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{path.parent.name}/{path.stem}" for path in found)
        raise RegistryError(f"{text!r} is the beginning of {len(found)} records: {names}; give more digits")
    raise RegistryError(f"no record {text!r} under {root}; expected the beginning of a record's id or a record's file")


def verify(root: Path, extra_checks: Iterable[ExtraCheck] = ()) -> list[Problem]:
    """Every problem of every record under `root`, sorted by file; empty if all is well.

    Checked: schema, name = hash of the content, checksums, canonical bytes, consistency, published weights, and
    `extra_checks`, which give (field, message) pairs.
    """
    every = tuple(extra_checks)
    files = _record_files(root, "**/*.json")
    found = [Problem(path, *problem) for path in files for problem in _file_problems(path, root, every)]
    return found + list(_stray_weights(root))


def _stray_weights(root: Path) -> Iterator[Problem]:
    for path in sorted(weights.folder_of(root).glob(f"*/*{weights.SUFFIX}")):
        record = root / path.parent.name / f"{path.stem}.json"
        if not path.name.startswith(".") and not record.exists():
            yield Problem(path, "content", f"belongs to no record: there is no {record.name}; remove it")


def _file_problems(path: Path, root: Path, extra_checks: Iterable[ExtraCheck]) -> Iterator[checks.FieldProblem]:
    try:
        data = _content(path)
        record = from_bytes(data, str(path))
    except RegistryError as error:
        field = error.field or "content"
        yield field, str(error).removeprefix(f"{path}: ").removeprefix(f"{field}: ")
        return
    yield from _seal_problems(record, path.stem)
    if path.parent != root / record.benchmark:
        yield "benchmark", f"is {record.benchmark}, but the file is not in that folder"
    yield from _text_problems(data, to_bytes(record))
    inconsistent = checks.problems(record)
    yield from inconsistent
    yield from (("published_weights", f"the file {problem}") for problem in weights.problems(record, root))
    if not inconsistent:  # they reckon with what stands there
        for check in extra_checks:
            yield from check(record)


def _seal_problems(record: Record, name: str) -> Iterator[checks.FieldProblem]:
    """What was changed after the record was written under its name: which field, else that something was."""
    right, content_id = checksums(record), record_id(record)
    if name != record.id:
        yield "id", f"is {record.id}, the file's name {name}"
    fields = sorted(right.keys() | record.checksums.keys())
    changed = [field for field in fields if right.get(field) != record.checksums.get(field)]
    for field in changed:
        if content_id in (record.id, name):  # the content is as it was named: the checksum is what changed
            yield f"checksums.{field}", f"is {record.checksums.get(field)}, the field's is {right.get(field)}"
        else:
            yield field, "was changed after the record was written: it does not match its checksum"
    if content_id not in (record.id, name) and not changed:
        yield "content (hash)", f"has the hash {content_id}, the record's id is {record.id}"


def _text_problems(data: bytes, canonical: bytes) -> Iterator[checks.FieldProblem]:
    """Bytes that mean the same but are not the canonical ones, as 1.50 for 1.5: still not the file that was written."""
    if data == canonical:
        return
    texts, right = (dict(leaves(json.loads(part, parse_float=str, parse_int=str))) for part in (data, canonical))
    field = next((field for field in right if texts.get(field) != right[field]), "content")
    yield field, "is not in canonical form: the bytes are not those that were written"


def _record_files(root: Path, pattern: str = "*/*.json") -> list[Path]:
    """The record files under `root`; names that begin with a dot are unfinished writes and no records."""
    return sorted(path for path in root.glob(pattern) if not path.name.startswith("."))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
