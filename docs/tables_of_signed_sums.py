"""Products of a matrix of -1 and +1 with a real one: NumPy's, and from tables of signed sums (docs/performance.md).

    python docs/tables_of_signed_sums.py [THREADS]

Needs numpy and numba, not MXNet. Each line: the product (lines x rows) (rows x sums), the median times of 9 rounds, in
which the two take turns, and the largest error against float64, as a share of the largest value.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

THREADS = sys.argv[1] if len(sys.argv) > 1 else "1"
os.environ |= {"OPENBLAS_NUM_THREADS": THREADS, "OMP_NUM_THREADS": THREADS, "NUMBA_NUM_THREADS": THREADS}
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402 - reads the number of threads

from bnn_gluon.kernels.table_products import TableProduct  # noqa: E402

SHAPES = [(100, 784, 2048), (100, 2048, 2048), (100, 4096, 4096), (50, 8192, 1024), (256, 1024, 1024), (16, 1024, 1024)]
ROUNDS = 9


def milliseconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(1)
    print(f"{THREADS} threads, ms        NumPy   packing  from tables   times as fast   error of NumPy, of tables")
    for lines, rows, sums in SHAPES:
        signs = np.where(rng.random((rows, sums)) < 0.5, -1, 1).astype(np.float32)
        real = rng.normal(size=(lines, rows)).astype(np.float32)
        by_numpy, by_tables = (np.empty((lines, sums), np.float32) for _ in range(2))
        tables = TableProduct()
        steps: list[Callable[[], object]] = [
            functools.partial(np.matmul, real, signs, out=by_numpy),
            functools.partial(tables.pack, signs),
            functools.partial(tables.multiply, real, by_tables),
        ]
        rounds = [[milliseconds(step) for step in steps] for _ in range(ROUNDS + 1)][1:]  # the first compiles
        numpys, packing, multiplying = (statistics.median(times) for times in zip(*rounds, strict=True))
        ratio = statistics.median(one / (two + three) for one, two, three in rounds)
        exact = real.astype(np.float64) @ signs
        errors = [np.abs(product - exact).max() / np.abs(exact).max() for product in (by_numpy, by_tables)]
        print(
            f"{lines:4} x {rows:4} x {sums:4} {numpys:8.2f} {packing:9.2f} {multiplying:12.2f} {ratio:15.2f}"
            f"   {errors[0]:15.1e}, {errors[1]:.1e}"
        )


if __name__ == "__main__":
    main()
