"""Whether a file was written again."""

from __future__ import annotations

from pathlib import Path


def last_writing(path: Path) -> tuple[int, int]:
    """Inode and time of the last change in ns: any writing or replacing changes one of them, reading neither."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
