"""The registry: one file a run, `<root>/<benchmark>/<record id>.json`, written once, never rewritten, verifiable.

With some records weights are published: see results/weights.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET

from results import weights
from results.errors import RegistryError, RegistryFileError
from results.escape import for_terminal
from results.files import read_whole, restoring, write_atomically
from results.record import Record, checks, content_of, from_bytes, seal, seal_problems, to_bytes
from results.record.migrations import dropped_problems

ExtraCheck = Callable[[Record], Iterable[tuple[str, str]]]


class Problem(NamedTuple):
    """Something that is wrong with one file; `field` is a path inside the record, as `curve.lr[3]`."""

    path: Path
    field: str
    message: str

    def __str__(self) -> str:
        return for_terminal(f"{self.path}: {self.field}: {self.message}")


def write(record: Record, root: Path, published: bytes | None = None, file_of: weights.FileOf | None = None) -> Path:
    """Seal the record, write it under `root`, return its path. Writing the same record again changes nothing.

    `published` are the weights that the record describes, written first, as `file_of` has it: a record is there only
    with them.

    Raises RegistryError if the record is inconsistent or a different file has its name, RegistryFileError (exit code 1)
    if the place cannot be written to.
    """
    sealed = seal(record)
    if record.id not in ("", sealed.id):
        raise RegistryError(f"record of {record.benchmark}: id: is {record.id}, but the content has {sealed.id}", "id")
    return add(to_bytes(sealed), root, published, file_of)


def add(data: bytes, root: Path, published: bytes | None = None, file_of: weights.FileOf | None = None) -> Path:
    """Add a record that is written already, of whichever schema, as `write` does: its bytes stay as they are."""
    record = from_bytes(data, "record")
    name = f"record of {record.benchmark}"
    if found := [*seal_problems(data, record.id, name), *_inconsistencies(data, record)]:
        raise RegistryError(f"{name}: {checks.as_lines(found)}", found[0][0])
    described = UNSET if published is None else weights.described(published)
    if record.published_weights != described:
        raise RegistryError(f"{name}: published_weights: are not those that the record describes", "published_weights")
    if published is not None:
        weights.store(record, root, published, file_of)
    path = root / record.benchmark / f"{record.id}.json"
    _write_once(path, data)
    return path


def _inconsistencies(data: bytes, record: Record) -> list[checks.FieldProblem]:
    found = checks.problems(record)
    return found or list(dropped_problems(content_of(data, record.id), record))


def registered_path(record: Record, root: Path) -> Path | None:
    """Where the record is registered, as it was written and with the weights published with it; None if it is not."""
    path = root / record.benchmark / f"{record.id}.json"
    whole = path.exists() and not any(seal_problems(file_content(path), record.id, str(path)))
    return path if whole and not any(weights.problems(record, root)) else None


def _write_once(path: Path, data: bytes) -> None:
    if not path.exists():
        write_atomically(path, data)
    elif file_content(path) != data:
        raise RegistryError(f"{path}: content: is not what was recorded under this name; {restoring(path)}")


def read(path: Path) -> Record:
    """The record in a file, as it was written under its name, and consistent with itself.

    Raises RegistryError naming file and field.
    """
    data = file_content(path)
    record = from_bytes(data, str(path))
    for field, problem in [*seal_problems(data, path.stem, str(path)), *_inconsistencies(data, record)]:
        raise RegistryError(f"{path}: {field}: {problem}", field)
    return record


def read_all(root: Path, warn: Callable[[str], None], benchmark: str = "*") -> list[tuple[Path, Record]]:
    """Every record of the registry that is what it says, sorted by benchmark and id; empty if there is no folder.

    `warn` is told of what is passed over: files of a newer schema, damaged, or not consistent with themselves, and
    folders that cannot be read.
    benchmark: only what lies in the folder of this one.
    """
    found = []
    for path in record_paths(root, warn, benchmark):
        try:
            found.append((path, read(path)))
        except RegistryError as error:
            warn(f"passed over: {error}")
    return found


def find(root: Path, text: str) -> Path:
    """The record that `text` means: the path of a file, or the beginning of a record id.

    Raises RegistryError if there is none or more than one.
    """
    if text.endswith(".json") and Path(text).is_file():
        return Path(text)
    found = [path for path in record_paths(root, lambda _: None) if text and path.stem.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{path.parent.name}/{path.stem}" for path in found)
        raise RegistryError(f"{text!r} is the beginning of {len(found)} records: {names}; give more digits")
    raise RegistryError(f"no record {text!r} under {root}; expected the beginning of a record's id or a record's file")


def verify(root: Path, extra_checks: Iterable[ExtraCheck] = ()) -> list[Problem]:
    """Every problem of every record under `root`, sorted by file; empty if all is well.

    Checked: schema, name = hash of the content, checksums, canonical bytes, consistency, published weights, and
    `extra_checks`, which give (field, message) pairs. See results/verification.py.
    """
    from results import verification  # which needs this module

    return verification.verify(root, extra_checks).problems


def record_paths(root: Path, warn: Callable[[str], None], benchmark: str = "*") -> list[Path]:
    """What is named as a record under `root`, sorted; `warn` is told of folders that cannot be read.

    Names that begin with a dot are unfinished writes and no records.
    """
    folders = _names_in(root, warn) if benchmark == "*" else [benchmark]
    return [
        root / folder / name
        for folder in folders
        for name in _names_in(root / folder, warn)
        if name.endswith(".json") and not name.startswith(".")
    ]


def _names_in(folder: Path, warn: Callable[[str], None]) -> list[str]:
    """Sorted; none where there is no folder."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        warn(f"passed over: {folder}: cannot be read: {error.strerror or error}")
        return []


def file_content(path: Path) -> bytes:
    """The bytes of a record's file. Raises RegistryFileError; RegistryError for what is none: a pipe, a huge file."""
    try:
        return read_whole(path)
    except OSError as error:
        raise RegistryFileError(f"{path}: cannot be read: {error.strerror or error}") from None
