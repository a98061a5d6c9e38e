"""What this machine's processor and memory allow, measured in the same rounds as the engine."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench.blocks import SEED
from benchmarks.machine.facts import usable_cores
from benchmarks.recipe.architecture import Dense, LayerShape
from benchmarks.recipe.cost import recipe_shapes

if TYPE_CHECKING:
    from benchmarks.recipe import Recipe

COPY_BYTES = 200 * 10**6  # far larger than any cache
SQUARE = 2048  # rows and columns of the matrices whose product shows the machine's sgemm speed
ATTEMPTS = 3  # a limit is the best of so many
# OpenMP's and OpenBLAS's threads spin for tens of milliseconds after their work, on the cores of what is timed next.
REST_SECONDS = 0.3


def _blas_threads() -> int:
    """Threads of NumPy's OpenBLAS, which reads these variables once, when NumPy is imported."""
    values = [os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")]
    set_to = [int(value) for value in values if value.isdigit() and int(value)]
    return min(set_to[0], usable_cores()) if set_to else usable_cores()


BLAS_THREADS = _blas_threads()  # now: opening an engine sets OMP_NUM_THREADS, too late for NumPy


class Limits(Protocol):
    """What is measured in every round beside the engine."""

    def measure(self) -> tuple[float, float, float]:
        """Speed of square products and of the dense layers' products, GFLOP/s, and of copying, GB/s."""


class MachineLimits:
    """What this machine can do, measured with NumPy on the CPU."""

    def __init__(self, recipe: Recipe, threads: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(SEED))
        self._square = [(self._matrix(SQUARE, SQUARE), self._matrix(SQUARE, SQUARE))]
        self._network = self._dense_products(recipe_shapes(recipe), recipe.train.batch_size)
        self._pool = ThreadPoolExecutor(threads)
        self._source = np.array_split(np.ones(COPY_BYTES // 4, np.float32), threads)
        self._target = [np.zeros_like(part) for part in self._source]

    def measure(self) -> tuple[float, float, float]:
        """Speed of square sgemm and of the dense layers' sgemm, GFLOP/s, and of copying, GB/s."""
        time.sleep(REST_SECONDS)
        square, network = _gflops(self._square), _gflops(self._network)
        time.sleep(REST_SECONDS)
        return square, network, 2 * COPY_BYTES / _best_seconds(self._copy) / 1e9

    def _matrix(self, rows: int, columns: int) -> NDArray[Any]:
        return self._generator.standard_normal((rows, columns), np.float32)

    def _dense_products(self, shapes: Sequence[LayerShape], batch_size: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """The matrix products of a training step in the fully connected layers, as pairs of factors."""
        return [(self._matrix(m, k), self._matrix(k, n)) for m, k, n in dense_shapes(shapes, batch_size)]

    def _copy(self) -> None:
        for _ in self._pool.map(np.copyto, self._target, self._source):
            pass


def dense_shapes(shapes: Sequence[LayerShape], batch_size: int) -> list[tuple[int, int, int]]:
    """The matrix products of a training step in the fully connected layers: rows, inner size and columns of each.

    Of a network without such layers those of its last convolution, whose pixels are rows.
    """
    linear = [shape for shape in shapes if shape.weights]
    dense = [shape for shape in linear if isinstance(shape.layer, Dense)]
    products = []
    for shape in dense or linear[-1:]:
        units, rows = shape.output_shape[0], batch_size * math.prod(shape.output_shape[1:])
        products += [(rows, shape.fan_in, units), (units, rows, shape.fan_in)]
        products += [(rows, units, shape.fan_in)] if shape is not shapes[0] else []
    return products


def _gflops(products: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    seconds = 0.0
    for left, right in products:
        out = np.empty((left.shape[0], right.shape[1]), np.float32)
        seconds += _best_seconds(functools.partial(np.matmul, left, right, out=out))
    return sum(2 * left.size * right.shape[1] for left, right in products) / seconds / 1e9


def _best_seconds(call: Callable[[], object]) -> float:
    return min(_seconds(call) for _ in range(ATTEMPTS))


def _rested_ms(call: Callable[[], object]) -> float:
    """Milliseconds of a call, after the threads of whatever ran before have come to rest."""
    time.sleep(REST_SECONDS)
    return _seconds(call) * 1e3


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
