"""Published weights that were measured again: by which engine, on which machine, with which result.

`<registry>/../reevaluated/<benchmark>.jsonl` has one measurement a line. Lines are added, never changed, and are a set:
their order means nothing, so that git joins the files of two branches line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from results.entries import Entry
from results.errors import RegistryError, RegistryFileError
from results.files import write_atomically
from results.record.canonical import canonical_json
from results.record.private import private

SCHEMA = 1
SUFFIX = ".jsonl"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Reevaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record's network was measured again, with this many of its test images wrong.

    differing: images whose outcome is another than the record's. device: the processor's or GPU's name. time: UTC, as
    "2024-05-01T12:00:00Z". commit: of the code that measured; None where none was known.
    """

    schema: int = SCHEMA
    record: str
    wrong: int
    images: int
    differing: int
    engine: str
    device: str
    time: str
    commit: str | None


def folder_of(root: Path) -> Path:
    """The folder of the measurements of the registry at `root`."""
    return root.parent / "reevaluated"


def read(root: Path, benchmark: str) -> list[Reevaluation]:
    """Of a benchmark, in the order of their times; empty if there are none. Raises RegistryError naming the line."""
    path = folder_of(root) / f"{benchmark}{SUFFIX}"
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RegistryFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    found = {_reevaluation(line, number, path) for number, line in enumerate(lines, 1)}
    return sorted(found, key=lambda one: (one.time, one.record, _line(one)))


def add(root: Path, benchmark: str, measured: Reevaluation) -> Path:
    """Write a measurement down; the file. Raises RegistryError if the file holds anything else."""
    path = folder_of(root) / f"{benchmark}{SUFFIX}"
    lines = sorted({*map(_line, read(root, benchmark)), _line(measured)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, b"".join(lines))
    return path


def problems(root: Path, entries: Iterable[Entry]) -> Iterator[tuple[Path, str, str]]:
    """(file, line, what is wrong with it): of every file, and of measurements that say otherwise than the record."""
    known = {entry.id: entry for entry in entries}
    folder = folder_of(root)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if re.fullmatch(r"\..+\.tmp", path.name):  # what an unfinished write leaves
            continue
        try:
            measured = read(root, path.name.removesuffix(SUFFIX)) if path.suffix == SUFFIX else None
        except RegistryError as error:
            yield path, error.field, str(error)
            continue
        if measured is None:
            yield path, "content", f"does not belong here, expected <benchmark>{SUFFIX}: remove it"
            continue
        for one in measured:
            entry = known.get(one.record)
            if entry is None or f"{entry.benchmark}{SUFFIX}" != path.name:
                yield path, one.record, "no such record of this benchmark is in the registry"
            elif entry.results is not None and abs(entry.results.declared.test_wrong - one.wrong) > one.differing:
                there = entry.results.declared.test_wrong
                yield path, one.record, f"wrong: is {one.wrong}, which {one.differing} of {there} cannot become"


def _reevaluation(line: bytes, number: int, path: Path) -> Reevaluation:
    where = f"line {number}"
    try:
        one = msgspec.json.decode(line, type=Reevaluation)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused(path, where, str(error)) from None
    if _line(one) != line or one.schema != SCHEMA:
        raise _refused(path, where, f"is not as schema {SCHEMA} writes it")
    if found := private(line.decode()):
        raise _refused(path, where, f"has {found}, which nothing published may have")
    if not (0 <= one.differing <= one.images and 0 <= one.wrong <= one.images and _TIME.fullmatch(one.time)):
        raise _refused(path, where, "expected counts of images, and UTC as 2024-05-01T12:00:00Z")
    return one


def _line(one: Reevaluation) -> bytes:
    return canonical_json(msgspec.to_builtins(one)) + b"\n"


def _refused(path: Path, where: str, what: str) -> RegistryError:
    return RegistryError(f"{path}: {where}: {what}; `git checkout {path}` restores it", where)
