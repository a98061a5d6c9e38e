"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST_KEPT = 2**30  # bytes; larger blocks, such as whole data sets, come and go as before


def keep_freed_memory() -> None:
    """Let the process keep memory that it frees, for its next tensors; where the C library is not glibc, do nothing.

    A step frees what the next one asks for. By default that goes back to the system, which then maps and clears every
    page anew: more than ten thousand a step of a convolutional network on the CPU (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return
    mallopt(_TRIM_THRESHOLD, -1)  # never
    # Older versions refuse a threshold above 32 MiB. There no block is mapped by itself.
    if not mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT):
        mallopt(_MMAP_MAX, 0)
