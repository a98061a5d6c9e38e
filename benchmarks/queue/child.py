"""Commands that end with the process that has started them, however that ends. The standard library alone."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

_INTERRUPTED = 130


def dying_with(parent: int, deaf_to: Iterable[int] = ()) -> Callable[[], None]:
    """For `preexec_fn`: the command is killed when its parent dies, and does not hear these signals.

    The first on Linux alone; elsewhere the lock of the run's folder is what helps. Source: prctl(2), PR_SET_PDEATHSIG.
    It is about the thread that starts the command, which waits for its end.
    """
    prctl = _libc().prctl if sys.platform.startswith("linux") else None

    def begin() -> None:
        for number in deaf_to:
            signal.signal(number, signal.SIG_IGN)
        if prctl is not None:
            prctl(1, int(signal.SIGKILL))
            if os.getppid() != parent:  # it has died already
                os._exit(_INTERRUPTED)

    return begin


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)
