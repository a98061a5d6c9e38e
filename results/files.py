"""Reading a whole file of the registry; and writing one so that whoever looks, whenever, sees the old content or the
new one and never half of either."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from results.errors import RegistryError, RegistryFileError

LARGEST_BYTES = 64 * 2**20  # of a file of the registry: 1,500 epochs with errors by class take 2 MB


def read_whole(path: Path) -> bytes:
    """The bytes of a file of the registry, which may come from anybody.

    Raises OSError; RegistryError for what would be read for ever: a pipe, a device, a huge file.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_BYTES:
        raise RegistryError(f"{path}: content: is no file of at most {LARGEST_BYTES:,} bytes, as all of a registry are")
    return path.read_bytes()


def restoring(path: Path) -> str:
    """The end of an error message: what brings back a file, or a folder, as it was; in whatever folder it is typed."""
    folder, name = shlex.quote(str(path.parent.absolute())), shlex.quote(path.name)
    return f"restore it: where it is under version control `git -C {folder} checkout -- {name}` does"


def write_atomically(path: Path, data: bytes | memoryview, mode: int = 0o644) -> None:
    """Put `data` at `path`: temporary file beside it, fsync, rename, fsync of the folder; with these permissions.

    Creates the folder if needed. A device or a pipe, as /dev/null, takes the data and stays what it is, where a rename
    would put a file in its place. Raises RegistryFileError, and leaves nothing behind, if the file cannot be written.
    """
    with writing(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        _make_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with open(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)  # mkstemp's 0600 would keep a shared registry from being read
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(path.parent)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise RegistryFileError, naming `path`, if it cannot be written: the error of a full disk names no file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RegistryFileError(f"{path}: cannot be written: {reason}; free or change that place") from None


def _make_folder(folder: Path) -> None:
    """mkdir -p that survives a power cut: each new entry is fsynced in the folder that holds it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
