"""How a thread waits for the others: at full speed on idle cores, and asleep on busy ones.

OpenMP's threads wait for work, and for each other, by asking again and again, for milliseconds, before they sleep. On
idle cores that is fastest: a step of rwth-lenet5-mnist-binary takes 7.9 ms, and 12.8 ms if they sleep at once. Where
other programs want the cores, they then wait for threads that do nothing but ask: 600 ms and more, against 60 ms
(docs/performance.md). No fixed number of attempts is good at both, so it is chosen anew every second.

GNU's runtime cuts the attempts to a thousand while it manages more threads than there are cores (libgomp,
config/linux/wait.h). A second team of threads, which sleeps, is what tells it so; when that team ends, they wait as
before. Nothing else changes, and no number does.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine.facts import usable_cores
from benchmarks.machine.openmp import Body, loaded_runtimes

_STAT = Path("/proc/stat")
_SECONDS = 1.0  # between two looks at the machine
_FIRST_SECONDS = 0.2
# Cores' worth of other programs' work that is let pass: below it a thread seldom meets them.
_TOLERATED = 0.25
_SET_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@functools.cache
def waiting(threads: int) -> Waiting:
    """Of this process, whose engines have so many threads."""
    return Waiting(threads)


class Waiting:
    """How the threads of this process wait, adapted to what else the machine does; see the module."""

    def __init__(self, threads: int) -> None:
        """Does nothing for one thread, where the user has chosen how to wait, or where Linux does not tell the use."""
        chosen = any(name in os.environ for name in _SET_BY_USER)
        self._threads, self._sleepers = threads, list[_Sleepers]()
        self._next_look = time.monotonic() + _FIRST_SECONDS
        self._last = _Usage.now() if threads > 1 and not chosen else None

    @property
    def gives_way(self) -> bool:
        """Whether threads go to sleep at once."""
        return bool(self._sleepers)

    def adapt(self) -> None:
        """To be called now and then; looks at the machine once a second."""
        now = time.monotonic()
        if self._last is None or now < self._next_look:
            return
        self._next_look, usage = now + _SECONDS, _Usage.now()
        if usage is None:
            return
        crowded = self._threads + usage.others_since(self._last) > usable_cores() + _TOLERATED
        self._last = usage
        if crowded and not self._sleepers:
            size = max(2, len(os.sched_getaffinity(0)) - self._threads + 2)  # together one more than there are cores
            self._sleepers = [_Sleepers(path, size) for path in loaded_runtimes() if "gomp" in path.name]
        elif not crowded and self._sleepers:
            self.close()

    def close(self) -> None:
        """Wait as the runtime does by itself."""
        for sleepers in self._sleepers:
            sleepers.end()
        self._sleepers = []


class _Usage(NamedTuple):
    """What the cores that this process may use have done since the machine was started, in seconds.

    Attributes:
        at: when it was asked for.
        busy: time of all cores together in programs that compete with this process.
        own: of this process.
    """

    at: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> _Usage | None:
        """None where the system does not tell it as Linux does."""
        try:
            cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
            rows = [line.split() for line in _STAT.read_text().splitlines()]
            ticks = [[int(count) for count in row[1:9]] for row in rows if row[0] in cores]
            user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(sum, zip(*ticks, strict=True))
        except (OSError, AttributeError, ValueError):
            return None
        # Programs of lower priority leave the cores to this one, unless it is one of them.
        low = nice if os.getpriority(os.PRIO_PROCESS, 0) > 0 else 0
        busy = (user + low + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
        return cls(time.monotonic(), busy, time.process_time())

    def others_since(self, before: _Usage) -> float:
        """How many cores other programs have used since."""
        return (self.busy - before.busy - (self.own - before.own)) / max(self.at - before.at, 1e-3)


class _Sleepers:
    """A team of threads, asleep, begun and ended by a thread of its own."""

    def __init__(self, runtime: Path, size: int) -> None:
        self._runtime, self._size = runtime, size
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._carry_out, daemon=True)
        self._thread.start()
        self._ready.wait()

    def _carry_out(self) -> None:
        nothing = Body(lambda _: None)
        ctypes.CDLL(str(self._runtime)).GOMP_parallel(
            nothing, None, ctypes.c_uint(usable_cores() + 1), ctypes.c_uint(0)
        )
        self._ready.set()
        self._over.wait()  # the team sleeps as long as the thread that began it lives

    def end(self) -> None:
        self._over.set()
        self._thread.join()
