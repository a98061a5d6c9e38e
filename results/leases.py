"""Leases: one process at a time, of any machine that shares a folder, with no server, no lock and no common clock.

A lease is a series of files, `<folder>/<name>.1`, `<name>.2`, ...: each holder makes the next one, which the file
system lets one process alone do (O_CREAT | O_EXCL). Whose file has the highest number holds the lease. A file is never
removed or given to another, so that nobody can take away, by a look that has become old, what somebody else has just
got.

The holder counts up in its file every `beat` seconds. Who looks on measures, by its own monotonic clock, for how long
the count stood still: MISSED beats, and the holder is taken for dead. Times of machines are never compared. A holder
that was only stopped finds the next number when it counts again: it has lost the lease, and is told so. One that cannot
count for half of that time gives up by itself, before anybody else may begin.

The count is written in place, into bytes that the file has: a full disk does not stop it.

Where a file system has locks (flock) the house uses them, for they end with the process that holds them.
`without_locks` says of an error that it has none, and `acquire` gives a lease in place of the lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from results.errors import RegistryError
from results.files import read_whole

BEAT = 15.0  # seconds
LONGEST_BEAT = 3600.0  # nobody waits longer for the next holder: what says more is taken for damaged
MISSED = 8  # beats, after which a holder is taken for dead; half of them, and it takes itself for dead
# What flock says where there are no locks. EBADF: of a folder on NFS, which locks only what is open for writing.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}
_LINE = re.compile(rb"(\d{12}) (held|free) (\S+) (\S+) (.*)\n", re.DOTALL)


class Seen(NamedTuple):
    """What the file of a lease says. token: of the holder; beat: seconds between counts; where: what holds it."""

    counted: int
    is_free: bool
    token: str
    beat: float
    where: str


class LostError(Exception):
    """The lease is another's."""


class Lease:
    """A lease that this process holds, counted up by a thread until it is given back or lost.

    Attributes:
        number: of its file, from 1: how many have held it so far.
        lost: set as soon as it is known that the lease is another's, or that it may be.
    """

    def __init__(self, path: Path, number: int, beat: float) -> None:
        self.path, self.number, self.lost = path, number, threading.Event()
        self._next = path.with_name(f"{path.name.rpartition('.')[0]}.{number + 1}")
        self._beat, self._count = beat, 0
        self._counted = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry_on, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LostError if the lease is another's, or may be: to be asked before what must not be done twice."""
        if not self.lost.is_set() and (self._is_old() or os.path.lexists(self._next)):
            self.lost.set()
        if self.lost.is_set():
            raise LostError(f"{self.path}: taken over by another process")

    def give_back(self) -> None:
        """End it: another may have it at once."""
        self._over.set()
        self._thread.join()
        if not self.lost.is_set():
            with contextlib.suppress(OSError):  # then it is taken over after a while
                self._write(b"free")

    def _carry_on(self) -> None:
        while not self._over.wait(self._beat):
            with contextlib.suppress(OSError):
                if os.path.lexists(self._next):
                    return self.lost.set()
                self._count += 1
                self._write(b"held")
                self._counted = time.monotonic()
            if self._is_old():
                return self.lost.set()
        return None

    def _is_old(self) -> bool:
        return time.monotonic() - self._counted > self._beat * MISSED / 2

    def _write(self, state: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY)  # opened and closed each time: other machines see it by that
        try:
            os.pwrite(handle, b"%012d %s" % (self._count, state), 0)
            os.fsync(handle)
        finally:
            os.close(handle)


def take(folder: Path, name: str, after: int, where: str, beat: float = BEAT) -> Lease | None:
    """Take the lease after its `after` earlier holders, which are known to be no more; None if another was faster.

    Raises:
        OSError: the folder cannot be written to.
    """
    path, token = folder / f"{name}.{after + 1}", secrets.token_hex(8)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    try:  # if this fails, so that the file stays empty, it is taken over like that of a dead holder
        os.write(handle, b"%012d held %s %g %s\n" % (0, token.encode(), beat, where.encode()))
        os.fsync(handle)
    finally:
        os.close(handle)
    return Lease(path, after + 1, beat)


def read(path: Path, beat: float = BEAT) -> Seen:
    """What the file of a lease says; of a holder that has written nothing yet, the count is -1 and `beat` counts.

    So it is of a file that is damaged, or is none.
    """
    with contextlib.suppress(OSError, RegistryError, ValueError):
        if (found := _LINE.fullmatch(read_whole(path))) is not None:
            counted, state, token, text, where = found.groups()
            if 0 < (seconds := float(text)) <= LONGEST_BEAT:
                return Seen(int(counted), state == b"free", token.decode(), seconds, where.decode(errors="replace"))
    return Seen(-1, False, "", beat, "")


def without_locks(error: OSError) -> bool:
    """Whether it is because the file system has no locks that flock failed."""
    return error.errno in _NO_LOCKS


def acquire(folder: Path, name: str, *, wait: bool, beat: float = BEAT) -> Lease | None:
    """Take the lease as one takes a lock; None if another has it. A dead holder is waited for, MISSED beats.

    Args:
        wait: wait for one that is alive, too, so that there is always a lease.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watch, first = Watch(beat), None
    while True:
        number = holders(folder).get(name, 0)
        path = folder / f"{name}.{number}"
        if not number or watch.is_open(path):
            lease = take(folder, name, number, "a lock", beat)
            if lease is not None:
                return lease
        seen = read(path, beat)
        first = first or (path, seen)
        if not wait and (path, seen) != first:
            return None
        time.sleep(min(beat / 4, 0.2))


class Watch:
    """Looks on at leases, and says of which the holder is dead, by the monotonic clock of this process alone."""

    def __init__(self, beat: float = BEAT, clock: Callable[[], float] = time.monotonic) -> None:
        self._beat, self._clock = beat, clock
        self._since: dict[Path, tuple[Seen, float]] = {}

    def is_open(self, path: Path) -> bool:
        """Whether the next may take the lease: it was given back, or its count stood still for long enough."""
        seen, now = read(path, self._beat), self._clock()
        if seen.is_free:
            return True
        before, since = self._since.get(path, (None, now))
        if before != seen:
            since = now
        self._since[path] = seen, since
        return now - since > seen.beat * MISSED


def holders(folder: Path) -> dict[str, int]:
    """The number of the last file of each lease of a folder."""
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            name, _, text = entry.name.rpartition(".")
            if (number := number_of(text)) is not None:
                found[name] = max(found.get(name, 0), number)
    return found


def number_of(text: str) -> int | None:
    """The number of a holder or a try, as names of files end with it; None if it is none."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}", text) else None
