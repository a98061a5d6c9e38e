"""A derived index of a large registry: the entries of its records, so that a table need not read them all again.

It lies in the user's cache folder, is never part of a registry, and says nothing that the files do not say: an entry
counts only while its file's path, size, times and inode are those it was made from, and while the program that made it
is the same. `verify` does not use it. Damaged or absent, it is made anew; where it cannot be written, all is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from results.entries import Entry, entry_of
from results.errors import RegistryError, RegistryFileError
from results.files import write_atomically
from results.registry import read, record_paths

SMALLEST = 100  # records; fewer are read in a moment
# Within this time of a change another one may leave the same times: no entry is kept of such a file.
SETTLED = 2.0  # seconds

Stamp = tuple[int, ...]  # size, mtime_ns, ctime_ns, inode; nothing of a file of which they are not known


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    stamp: Stamp
    entry: Entry


class _Index(msgspec.Struct, frozen=True, array_like=True):
    program: str
    kept: dict[str, _Kept]  # by "<benchmark>/<file>"


def entries(root: Path, warn: Callable[[str], None]) -> list[Entry]:
    """The entries of all records that `results.registry.read_all` gives, in its order; `warn` as there."""
    files = record_paths(root, warn)
    path = index_path(root) if len(files) >= SMALLEST else None
    before = _load(path) if path is not None else {}
    now, found, kept = time.time_ns(), [], {}
    for file in files:
        name, stamp = f"{file.parent.name}/{file.name}", _stamp(file)
        old = before.get(name)
        if old is None or old.stamp != stamp:
            entry = _read_entry(file, warn)
            if entry is None:
                continue
            old = _Kept(stamp, entry)
        found.append(old.entry)
        if stamp and max(stamp[1:3]) < now - SETTLED * 1e9:
            kept[name] = old
    if path is not None and {n: k.stamp for n, k in kept.items()} != {n: k.stamp for n, k in before.items()}:
        with contextlib.suppress(RegistryFileError):  # it is a help, not a result
            write_atomically(path, msgspec.msgpack.encode(_Index(_program(), kept)))
    return found


def _read_entry(path: Path, warn: Callable[[str], None]) -> Entry | None:
    try:
        return entry_of(read(path))
    except RegistryError as error:
        warn(f"passed over: {error}")
    return None


def index_path(root: Path) -> Path:
    """Where the index of a registry lies."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return cache / "binary-networks" / f"registry-{name}.msgpack"


def _stamp(file: Path) -> Stamp:
    """Size and times of a record's file."""
    try:
        status = os.stat(file)
    except OSError:
        return ()  # why it cannot be read, whoever reads it says
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _load(path: Path) -> dict[str, _Kept]:
    """What an earlier command kept; nothing of what another program wrote, or of what is damaged."""
    try:
        index = msgspec.msgpack.decode(path.read_bytes(), type=_Index)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return {}
    return index.kept if index.program == _program() else {}


def _program() -> str:
    """What changes with every change of this package, whose checks decide what is kept."""
    package = Path(__file__).parent
    files = sorted([*package.glob("*.py"), *package.glob("record/*.py")])
    stats = [(str(file), status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
    return hashlib.sha256(repr((sys.version, stats)).encode()).hexdigest()
