"""Files of facts beside the records, `<folder>/<benchmark>.jsonl`, one a line: lines are added, never changed.

The lines of a file are a set, whose order means nothing: so git joins the files of two branches line by line.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from results import leases
from results.errors import RegistryError, RegistryFileError, field_and_message
from results.files import read_whole, restoring
from results.record.canonical import canonical_json

SUFFIX = ".jsonl"
LONGEST = 10_000  # bytes of a line; patterns are looked for in it, which takes hours in one of a million

# What a line may say, which anybody may have written.
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Commit = Annotated[str, Meta(pattern=r"\A[0-9a-f]{40}([0-9a-f]{24})?\Z")]
Word = Annotated[str, Meta(pattern=r"\A[a-z0-9_]{1,40}\Z")]


def is_text(text: str) -> bool:
    """Whether it is one printable line of no more than anybody needs."""
    return text.isprintable() and len(text) <= 2000


def line_of(fact: msgspec.Struct) -> bytes:
    """The line of a fact: canonical JSON."""
    return canonical_json(msgspec.to_builtins(fact)) + b"\n"


def content(path: Path) -> bytes:
    """A file's bytes; none if there is none. Raises RegistryFileError if unreadable, RegistryError for a pipe."""
    try:
        return read_whole(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise RegistryFileError(f"{path}: cannot be read: {error.strerror or error}") from None


def refused(path: Path, where: str, what: str) -> RegistryError:
    """The error of a line that may not be there."""
    return RegistryError(f"{path}: {where}: {what}; {restoring(path)}", where)


def check_length(path: Path, where: str, line: bytes) -> None:
    """Raises RegistryError of a line that is longer than any fact."""
    if len(line) > LONGEST:
        raise refused(path, where, f"has {len(line):,} bytes, expected {LONGEST:,} at most")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time add to the files of a folder, which is made if it is not there."""
    import fcntl  # which Windows lacks; to read needs no lock

    lease = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RegistryFileError(f"{folder}: cannot be made: {error.strerror}; free or change that place") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if not leases.without_locks(error):
                raise
            lease = _lease(folder.parent / ".locks", folder.name)
        yield
    finally:
        os.close(handle)
        if lease is not None:
            lease.give_back()


def _lease(folder: Path, name: str) -> leases.Lease | None:
    try:
        return leases.acquire(folder, name, wait=True)
    except OSError as error:
        raise RegistryFileError(
            f"{folder}: cannot be written to: {error.strerror}; free or change that place"
        ) from None


def files_in(folder: Path) -> list[Path]:
    """The files of benchmarks in a folder, sorted, without unfinished writes, which begin with a dot."""
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


def problems(folder: Path, read: Callable[[Path], object]) -> list[tuple[Path, str, str]]:
    """(file, line, what is wrong with it) of every file of a folder; `read` raises RegistryError of one's lines."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if re.fullmatch(r"\..+\.tmp", path.name):  # what an unfinished write leaves
            continue
        if path.suffix != SUFFIX or not path.is_file() or path.is_symlink():
            found.append((path, "content", f"does not belong here, expected <benchmark>{SUFFIX}: remove it"))
            continue
        try:
            read(path)
        except RegistryError as error:
            found.append((path, *field_and_message(error, path)))
    return found
