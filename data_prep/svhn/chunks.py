"""Chunks of images: the unit in which SVHN is computed, written, and resumed."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_prep.cores import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

# Images in a chunk: 6 MB as bytes and 25 MB as float32, so that some of them in work at once are far from 1 GB.
CHUNK = 2000
# More than this many chunks in work at once would need too much memory.
_MOST_THREADS = 16


@dataclass(frozen=True)
class Chunk:
    """Images that are stored together, ready to be written.

    Attributes:
        images: (n, 3, 32, 32), C-contiguous.
        digest: SHA-256 of them, in hexadecimal.
        measured: what was found out about them, for the statistics of the file.
    """

    images: NDArray[Any]
    digest: str
    measured: list[float]


def chunk_of(images: NDArray[Any], measured: list[float]) -> Chunk:
    """A chunk of C-contiguous images."""
    return Chunk(images, hashlib.sha256(images.reshape(-1).view(np.uint8).data).hexdigest(), measured)


def ranges(files: Sequence[int]) -> list[range]:
    """The images of each chunk, given how many images each file has: no chunk has images of two files."""
    found, start = [], 0
    for count in files:
        end = start + count
        found += [range(first, min(first + CHUNK, end)) for first in range(start, end, CHUNK)]
        start = end
    return found


def threads() -> int:
    """How many chunks to work on at once: one for each core that this process may use."""
    return min(usable_cores(), _MOST_THREADS)


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` done to each item in parallel threads, few of them ahead of their turn, so that memory is bounded."""
    count = threads()
    with ThreadPoolExecutor(count) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > count + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
