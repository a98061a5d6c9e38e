"""How many threads OpenMP really gives: a library that is given fewer than it was told of can compute nonsense.

MXNet 1.9.1 divides a product among as many threads as were announced when it was loaded. Where the runtime then gives
fewer, because of OMP_THREAD_LIMIT, OMP_DYNAMIC or a limit of the batch system, parts are left uncomputed: no error,
wrong numbers (FullyConnected), or a wait that never ends (dot).
"""

from __future__ import annotations

import ctypes
import re
import threading
from pathlib import Path

from benchmarks.errors import EngineError

_MAPS = Path("/proc/self/maps")
_RUNTIME = re.compile(r"\S+/lib(?:gomp|omp|iomp5)[\w.-]*\.so[\w.]*$")
Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # what a thread of a parallel region carries out


def check_threads(threads: int) -> None:
    """Ask each OpenMP runtime of this process for `threads` threads, and count those that it gives.

    Where the system does not tell which libraries are loaded (other than Linux) nothing is asked.

    Raises:
        EngineError: a runtime gives fewer, or may do so later.
    """
    for path in loaded_runtimes():
        given, runtime = _given(path, threads), ctypes.CDLL(str(path))
        limit, dynamic = runtime.omp_get_thread_limit(), runtime.omp_get_dynamic()
        if given < threads or limit < threads or dynamic:
            raise EngineError(
                f"OpenMP ({path.name}) gives {given} threads where {threads} were asked for (thread limit {limit},"
                f" dynamic adjustment {'on' if dynamic else 'off'}), and products would be wrong: unset"
                " OMP_THREAD_LIMIT and OMP_DYNAMIC and start again, or pass --threads 1"
            )


def loaded_runtimes() -> list[Path]:
    """The files of the OpenMP runtimes that are loaded in this process."""
    maps = _MAPS.read_text(errors="surrogateescape").splitlines() if _MAPS.exists() else []
    found = {match[0] for match in map(_RUNTIME.search, maps) if match}
    return [Path(path) for path in sorted(found)]


def _given(path: Path, threads: int) -> int:
    """How many threads carry out a parallel region that asks for `threads` of them."""
    parallel = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
    if parallel is None:  # every runtime on Linux has it: compilers from GCC's family call it
        return threads
    present: list[int] = []
    body = Body(lambda _: present.append(threading.get_native_id()))
    parallel(body, None, ctypes.c_uint(threads), ctypes.c_uint(0))
    return len(present)
