"""Files that are whole or absent: atomic writing, hashing, locking, and disk errors in plain words."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data_prep.errors import StorageError

# EFBIG is what a file-size limit (ulimit -f) gives where a full disk gives ENOSPC.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing `path` into a StorageError of one line."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(f"no space left to write {path}: free some space") from error
        raise StorageError(f"cannot write {path} ({error.strerror}): name a folder that can be written") from error


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents where they do not exist."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream to write, read and seek in: `path` is what is in it when the block ends well, and what it was before
    otherwise, also after a failure or a kill at any moment.

    Raises:
        StorageError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with explained(path):
        try:
            with open(part, "w+b") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            put_in_place(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def need_space(folder: Path, size: int, purpose: str) -> None:
    """Raise StorageError unless the disk of `folder`, or of what exists above it, has `size` bytes free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if free < size:
        have = f"{size / 1e6:,.0f} MB, but {existing} has {free / 1e6:,.0f} MB free"
        raise StorageError(f"{purpose} needs {have}: free some space")


def put_in_place(part: Path, path: Path) -> None:
    """Rename the complete, synced file `part` to `path`, and make the renaming itself survive a power cut."""
    os.replace(part, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(path: Path, when_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`; `when_waiting` is called once if another process holds it.

    The kernel lets go of the lock when its process ends, however it ends, so no lock outlives a kill.
    """
    with explained(path):
        stream = open(path, "wb")  # noqa: SIM115 - closed by the next line; what runs inside is not explained
    with stream:
        with explained(path):
            _lock(stream, when_waiting)
        yield


def _lock(stream: BinaryIO, when_waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        when_waiting()
        fcntl.flock(stream, fcntl.LOCK_EX)
