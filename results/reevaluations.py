"""Published weights that were measured again: by which engine, on which machine, with which result.

`<registry>/../reevaluated/<benchmark>.jsonl` has one measurement a line. Lines are added, never changed, and are a set:
their order means nothing, so that git joins the files of two branches line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from results import lines
from results.entries import Entry
from results.files import write_atomically
from results.lines import SUFFIX, Commit, Word, check_length, content, is_text, line_of, locked, refused
from results.record.private import private
from results.record.ranges import MOST_IMAGES
from results.record.utc import is_time

SCHEMA = 1


class Reevaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record's network was measured again, with this many of its test images wrong.

    differing: images whose outcome is another than the record's. device: the processor's or GPU's name. time: UTC, as
    "2024-05-01T12:00:00Z". commit: of the code that measured; None where none was known.
    """

    schema: int = SCHEMA
    record: Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    wrong: int
    images: int
    differing: int
    engine: Word
    device: str
    time: str
    commit: Commit | None


def folder_of(root: Path) -> Path:
    """The folder of the measurements of the registry at `root`."""
    return root.parent / "reevaluated"


def path_of(root: Path, benchmark: str) -> Path:
    """The file of a benchmark's measurements."""
    return folder_of(root) / f"{benchmark}{SUFFIX}"


def read(root: Path, benchmark: str) -> list[Reevaluation]:
    """Of a benchmark, in the order of their times; empty if there are none. Raises RegistryError naming the line."""
    return read_file(path_of(root, benchmark))


def read_file(path: Path) -> list[Reevaluation]:
    """As `read`, from a file of any registry."""
    found = {
        _reevaluation(line, number, path) for number, line in enumerate(content(path).splitlines(keepends=True), 1)
    }
    return sorted(found, key=lambda one: (one.time, one.record, line_of(one)))


def add(root: Path, benchmark: str, *measured: Reevaluation) -> int:
    """Write measurements down, each once and in order; how many are new.

    Raises RegistryError if the file holds anything else.
    """
    path = path_of(root, benchmark)
    with locked(path.parent):
        before = set(read_file(path))
        known = before.union(measured)
        ordered = b"".join(sorted(map(line_of, known)))
        if ordered != content(path):
            write_atomically(path, ordered)
    return len(known) - len(before)


def problems(root: Path, entries: Iterable[Entry]) -> list[tuple[Path, str, str]]:
    """(file, line or record, what is wrong with it): of files, and of measurements that say otherwise than a record."""
    folder, known = folder_of(root), {entry.id: entry for entry in entries}
    found = lines.problems(folder, read_file)
    unreadable = {path for path, *_ in found}
    for path in lines.files_in(folder):
        if path not in unreadable:
            found += contradictions(path, known)
    return found


def contradictions(path: Path, known: Mapping[str, Entry]) -> list[tuple[Path, str, str]]:
    """Of a file's measurements those that cannot be of the record, by id, that they name; as `problems`."""
    return [
        (path, one.record, complaint)
        for one in read_file(path)
        if (complaint := _contradiction(one, known.get(one.record), path))
    ]


def _contradiction(one: Reevaluation, entry: Entry | None, path: Path) -> str:
    """Why a measurement cannot be of the record that it names; "" if it can."""
    if entry is None or f"{entry.benchmark}{SUFFIX}" != path.name:
        return "no such record of this benchmark is in the registry"
    if entry.results is not None and one.images != entry.results.declared.test_images:
        return f"images: is {one.images}, of the record {entry.results.declared.test_images}"
    there = one.wrong if entry.results is None else entry.results.declared.test_wrong
    if abs(there - one.wrong) > one.differing:
        return f"wrong: is {one.wrong}, which {one.differing} of {there} cannot become"
    return ""


def _reevaluation(line: bytes, number: int, path: Path) -> Reevaluation:
    where = f"line {number}"
    check_length(path, where, line)
    try:
        one = msgspec.json.decode(line, type=Reevaluation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refused(path, where, str(error)) from None
    if line_of(one) != line or one.schema != SCHEMA:
        raise refused(path, where, f"is not as schema {SCHEMA} writes it")
    if found := private(line.decode()):
        raise refused(path, where, f"has {found}, which nothing published may have")
    if not (0 <= one.differing <= one.images <= MOST_IMAGES and 0 <= one.wrong <= one.images and is_time(one.time)):
        raise refused(path, where, "expected counts of images, and UTC as 2024-05-01T12:00:00Z")
    if not is_text(one.device):
        raise refused(path, where, "device: is no printable line")
    return one
