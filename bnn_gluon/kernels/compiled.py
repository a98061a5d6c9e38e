"""Machine code that numba has compiled, kept for later processes.

numba's own cache is not used. It takes a compiled function for current as long as the function's own file is: one that
is called in another file may have changed. Where its folder cannot be written it goes on in another, with what an
earlier version of this package left there. And it loads a damaged file as it is. Here an entry is named by everything
that decides what is compiled, the sources of the whole package first, and holds the digest of its content: what does
not fit exactly is compiled anew.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from benchmarks.machine.bytecode import check_bytecode

PACKAGE = Path(__file__).parents[1]
# The one file outside of the package that it takes constants from.
CONSTANTS = PACKAGE.parent / "benchmarks" / "engine" / "updates.py"
UNUSED_DAYS = 30  # after which what an older version of the package compiled is deleted
_DIGEST_BYTES = 32


def keep_compiled(dispatcher: Any) -> Any:
    """The function that `numba.njit` has made, its machine code kept from now on."""
    dispatcher._cache = Kept(dispatcher.py_func, kept_in())
    return dispatcher


class Kept:
    """The compiled versions of one function, one for each signature, as files of a folder: numba's interface."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._function, self.cache_path = function, str(folder)

    def enable(self) -> None:
        """Nothing to do."""

    disable = flush = enable

    def load_overload(self, signature: Any, target: Any) -> Any | None:
        """The compiled function, or None: not kept, or the file is not as it was written."""
        target.refresh()
        try:
            content = self._path(signature, target.codegen()).read_bytes()
        except OSError:
            content = b""
        digest, machine_code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(machine_code).digest() != digest:
            return None
        return CompileResult._rebuild(target, *pickle.loads(machine_code))  # noqa: S301 - own files, in an own folder

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep it; a disk that is full or read-only is no reason to stop."""
        if compiled.library.has_dynamic_globals:
            return  # addresses of this very process
        path, machine_code = self._path(signature, compiled.codegen), dumps(compiled._reduce())
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(hashlib.sha256(machine_code).digest() + machine_code)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _path(self, signature: Any, codegen: Any) -> Path:
        """Named by function, types of its arguments, processor, and what a function that made it has put into it."""
        function = self._function
        inside = tuple(cell.cell_contents for cell in function.__closure__ or ())
        parts = (function.__module__, function.__qualname__, signature, codegen.magic_tuple())
        name = hashlib.sha256(repr(parts).encode() + function.__code__.co_code + dumps(inside)).hexdigest()
        return Path(self.cache_path) / f"{function.__name__}-{name[:32]}"


def sources_digest(package: Path, *others: Path) -> str:
    """The SHA-256 of all Python files of a package, those of its sub-folders included, and of others; hexadecimal."""
    sha = hashlib.sha256()
    for file in (*sorted(package.rglob("*.py")), *others):
        sha.update(hashlib.sha256(file.read_bytes()).digest())
    return sha.hexdigest()


@functools.cache
def kept_in() -> Path:
    """The folder of what is compiled of these sources by this Python and this numba; made if it is not there.

    In the user's cache folder; where that cannot be written, in one of the user's own among the temporary files; where
    that fails too, in a new one that ends with the process.

    Raises:
        CodeError: Python runs kept bytecode that is not of these sources: what is compiled of it must not be kept.
    """
    check_bytecode((*PACKAGE.rglob("*.py"), CONSTANTS))
    name = _folder_name()
    for parent in _parents():
        with contextlib.suppress(OSError):
            folder = _own_folder(parent) / name
            folder.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            os.utime(folder)
            _delete_unused(folder)
            return folder
    print("note: no folder for compiled code can be written: it is compiled anew each time", file=sys.stderr)
    temporary = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)


def find_kept() -> Path | None:
    """What `kept_in` gives, if something was kept in the user's cache folder; nothing is made, no other is tried."""
    with contextlib.suppress(RuntimeError):
        folder = _cache_folder() / _folder_name()
        return folder if folder.is_dir() else None
    return None


def _folder_name() -> str:
    parts = (sys.version_info[:3], numba.__version__, llvmlite.__version__, np.__version__)
    # Whether Intel's vector math stands for exp, log and tanh: numba takes it where the package icc_rt is.
    versions = repr((*parts, numba.core.config.USING_SVML, numba.core.config.MACHINE_BITS))
    return f"{sources_digest(PACKAGE, CONSTANTS)[:16]}-{hashlib.sha256(versions.encode()).hexdigest()[:8]}"


def _parents() -> Iterator[Path]:
    """Where kept machine code may lie, the best place first."""
    with contextlib.suppress(RuntimeError):
        yield _cache_folder()
    yield Path(tempfile.gettempdir()) / f"bnn-reproducibility-{os.getuid()}"


def _cache_folder() -> Path:
    """Raises RuntimeError if no home folder is known."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "bnn-reproducibility"


def _own_folder(path: Path) -> Path:
    """Make a folder; raises OSError if others than this user could write to it, and thereby choose what is run."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(path)
    return path


def _delete_unused(current: Path) -> None:
    for folder in current.parent.iterdir():
        if folder != current and time.time() - folder.stat().st_mtime > UNUSED_DAYS * 86400:
            shutil.rmtree(folder, ignore_errors=True)
