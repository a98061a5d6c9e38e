"""Bytecode that Python has kept beside its source: whether it is that of the source as it is now.

Python takes the bytecode in `__pycache__` for current if the source has the size, and the second of its last change,
that it had when it was compiled. What was changed twice within a second, or was put there with an older time (`cp -p`,
`rsync`, an archive that has one time for all), runs as it was before. Whoever reads the sources, as a record's commit
and the folder of compiled loops do, then takes old code for new.
"""

from __future__ import annotations

import importlib.util
import marshal
import shlex
import struct
from collections.abc import Iterable
from pathlib import Path

from benchmarks.errors import CodeError

# Bytecode that was written so long after the last change of anything about its source was made from that.
_SURE_AFTER = 10 * 10**9  # nanoseconds
_HASHED, _CHECKED = 1, 2  # flags: bytecode that Python takes by a hash of the source, and whether it compares that


def check_bytecode(sources: Iterable[Path]) -> None:
    """Compare the bytecode that is kept of Python files, if Python would take it, with the files.

    Raises:
        CodeError: that of one is of another content.
    """
    for source in sources:
        kept = Path(importlib.util.cache_from_source(str(source)))
        if _is_taken(kept, source) and not _is_of(kept, source):
            raise CodeError(
                f"Python runs an earlier content of {source}, of the same size and time: nothing was computed;"
                f" `rm {shlex.quote(str(kept))}`, and start again"
            )


def _is_taken(kept: Path, source: Path) -> bool:
    """Whether Python would take it, as far as that is in doubt. Source: PEP 552; importlib._bootstrap_external."""
    try:
        found, made = source.stat(), kept.stat()
        if made.st_mtime_ns - found.st_ctime_ns > _SURE_AFTER:
            return False
        with kept.open("rb") as stream:
            header = stream.read(16)
    except OSError:
        return False
    if len(header) < 16 or header[:4] != importlib.util.MAGIC_NUMBER:
        return False
    flags, seconds, size = struct.unpack("<3I", header[4:])
    if flags & _HASHED:
        return not flags & _CHECKED
    return (seconds, size) == (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def _is_of(kept: Path, source: Path) -> bool:
    try:
        compiled = compile(source.read_bytes(), source, "exec", dont_inherit=True)
        return bool(marshal.loads(kept.read_bytes()[16:]) == compiled)  # noqa: S302 - what Python itself has loaded
    except OSError:
        return True  # it is being replaced: the files are compared again when all of them are loaded
    except (ValueError, TypeError, EOFError, SyntaxError):
        return False
