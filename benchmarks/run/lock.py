"""The lock of a run's folder: one process at a time trains the run.

It is flock's, which ends with the process, however that ends. Where the file system has no such locks (Lustre without
its option `flock`, NFS without a lock service) it is a lease, which ends after a while: results/leases.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from benchmarks.errors import RunError
from results import leases

WAITS = (0.05, 0.2)  # seconds: `is_held` holds a lock for a moment, to see whether it is free
_LEASES, _LEASE = "leases", "lock"  # folder and name


class RunLock:
    """The lock of one folder, for one process. `name`: of the run, as a user knows it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._lease: leases.Lease | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it.

        Raises:
            RunError: another process does, or the folder cannot be written to.
        """
        with self._file() as handle:
            try:
                self._lock(handle)
            except OSError as error:
                if not leases.without_locks(error):
                    raise
                self._lease = leases.acquire(self._folder / _LEASES, _LEASE, wait=False)
                if self._lease is None:
                    raise self._busy() from None
            try:
                yield
            finally:
                if self._lease is not None:
                    self._lease.give_back()

    def check(self) -> None:
        """To be called before something is written: raises RunError if a lease that stood for the lock is lost."""
        try:
            if self._lease is not None:
                self._lease.check()
        except leases.LostError:
            raise RunError(f"run {self._name} was taken over by another process, for this one seemed dead") from None

    def _lock(self, handle: IO[str]) -> None:
        for wait in (*WAITS, None):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if wait is None:
                raise self._busy()
            time.sleep(wait)

    def _busy(self) -> RunError:
        return RunError(f"run {self._name} is being worked on by another process")

    def _file(self) -> IO[str]:
        try:
            return (self._folder / "lock").open("w")
        except OSError as error:
            raise RunError(
                f"run {self._name} cannot be worked on: {error.strerror}: {error.filename}; make its folder writable"
            ) from error


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of a run's folder: asked for without a file being written."""
    try:
        handle = (folder / "lock").open("rb")
    except FileNotFoundError:
        return False
    with handle:
        try:
            # Shared, and for no longer than this: `RunLock` waits for it.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            if not leases.without_locks(error):
                raise
            number = leases.holders(folder / _LEASES).get(_LEASE, 0)
            return bool(number) and not leases.read(folder / _LEASES / f"{_LEASE}.{number}").is_free
    return False
