"""Whitening in a process of its own, where nothing but the images decides the result.

A BLAS library reads when it is loaded how many threads and which kernels it shall use, and either changes the order of
sums, and so the last bits. In the process that prepares, it has long been loaded. In this one, it has one thread (the
work is shared out by whitening.py) and, on x86-64, the kernels for processors with AVX2, also where it has newer ones.
With the same numpy and scipy the result has the same bits on all these machines; elsewhere it differs in the last ones.

The images are in memory that both processes share. The child says on its standard output what its parent's progress
bar is to show, and ends when its standard input does: with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.progress import Progress

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Step:
    """One ZCA, fitted to the first `fitted` images and applied to all; `bias` and `ddof` are those of `fit_zca`."""

    fitted: int
    bias: float
    ddof: int = 0


@contextlib.contextmanager
def shared_images(count: int, features: int) -> Iterator[tuple[int, Images]]:
    """A file descriptor of memory that can be shared with `whiten`, and the images in it, float32 (count, features)."""
    descriptor = os.memfd_create("images")
    try:
        os.ftruncate(descriptor, count * features * 4)
        yield descriptor, _images(descriptor, (count, features))
    finally:
        os.close(descriptor)


def _images(descriptor: int, shape: tuple[int, int]) -> Images:
    return np.frombuffer(mmap.mmap(descriptor, 0), np.float32).reshape(shape)


def whiten(descriptor: int, shape: tuple[int, int], steps: Sequence[Step], progress: Progress) -> None:
    """Whiten the images of `shared_images` in place, in one step after another.

    Raises:
        DataError: as `whitening.fit_zca`; or the process was ended from without.
    """
    job = json.dumps([descriptor, shape, [asdict(step) for step in steps]])
    command = [sys.executable, "-m", "data_prep.preprocess.whitening_process", job]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor], env=_environment(), text=True
    ) as child:
        assert child.stdout is not None
        failure = ""
        try:
            for line in child.stdout:
                word, *values = json.loads(line)
                if word == "failed":
                    failure = values[0]
                else:
                    getattr(progress, word)(*values)
        except BaseException:
            child.kill()
            raise
    if failure:
        raise DataError(failure)
    if child.returncode:
        raise DataError(f"whitening was ended from without ({child.returncode}), perhaps for want of memory: try again")


def _environment() -> dict[str, str]:
    found = dict(os.environ) | {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "BLIS")}
    found["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [found.get("PYTHONPATH")])])
    if _has_avx2():
        found |= {"OPENBLAS_CORETYPE": "Haswell", "MKL_CBWR": "AVX2"}
    return found


def _has_avx2() -> bool:
    with contextlib.suppress(OSError):
        flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
        return platform.machine() == "x86_64" and {"avx2", "fma"} <= set(flags.split())
    return False


class _ToParent:
    """Hands progress on, a line of JSON a call; threads may call it at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def tell(self, *words: object) -> None:
        with self._lock:
            print(json.dumps(words), flush=True)

    def start(self, description: str, total: int | None) -> None:
        """See Progress."""
        self.tell("start", description, total)

    def advance(self, amount: int) -> None:
        """See Progress."""
        self.tell("advance", amount)

    def done(self) -> None:
        """See Progress."""
        self.tell("done")

    def note(self, message: str) -> None:
        """See Progress."""
        self.tell("note", message)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _main(job: str) -> None:
    from data_prep.preprocess.whitening import fit_zca

    threading.Thread(target=_end_with_parent, daemon=True).start()
    descriptor, shape, steps = json.loads(job)
    images, progress = _images(descriptor, tuple(shape)), _ToParent()
    try:
        for step in (Step(**fields) for fields in steps):
            fit_zca(images[: step.fitted], step.bias, progress, ddof=step.ddof).apply(images, progress)
    except DataError as error:
        progress.tell("failed", str(error))
    except MemoryError:
        progress.tell("failed", "whitening needs more memory than there is: end other programs, then try again")


if __name__ == "__main__":
    _main(sys.argv[1])
