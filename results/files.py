"""Writing a file so that whoever looks, whenever, sees the old content or the new one and never half of either."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from results.errors import RegistryFileError


def write_atomically(path: Path, data: bytes | memoryview, mode: int = 0o644) -> None:
    """Put `data` at `path`: temporary file beside it, fsync, rename, fsync of the folder; with these permissions.

    Creates the folder if needed. Raises RegistryFileError, and leaves nothing behind, if the file cannot be written.
    """
    try:
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
