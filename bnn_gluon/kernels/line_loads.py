"""How many cache lines a second vector registers can be loaded with from the first-level cache: the limit of `tables`,
whose additions are one line each."""

from __future__ import annotations

import time

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bnn_gluon.kernels import parallel, vectors
from bnn_gluon.kernels.tables import LANES, LINE_BYTES, first_of_line

_LINES = 256  # 16 KiB
_UNROLLED = 16  # lines; as many sums are added up, so that no addition waits for another
_PASSES = 20_000
_ATTEMPTS = 5


def lines_per_second() -> float:
    """Of all threads together; the best of some attempts."""
    sums = np.zeros(numba.get_num_threads(), np.float32)
    _load(1, sums)  # compiles
    return _PASSES * _LINES * len(sums) / min(_seconds(sums) for _ in range(_ATTEMPTS))


def _seconds(sums: np.ndarray) -> float:
    start = time.perf_counter()
    _load(_PASSES, sums)
    return time.perf_counter() - start


# -- compiled ----------------------------------------------------------------------------------------------------------


@intrinsic
def _sum(typing_context, lines, first, passes):
    """The sum of a lane of all lines, `passes` times, from lines[first] on: flat float32."""

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), vectors.REGISTER // 4)
        start = vectors.address(context, builder, signature, arguments, 0, 1)
        sums = [cgutils.alloca_once(builder, vector) for _ in range(_UNROLLED)]
        for kept in sums:
            builder.store(vector(None), kept)
        blocks = vectors.INDEX(_LINES // _UNROLLED)
        with cgutils.for_range(builder, builder.mul(arguments[2], blocks), intp=vectors.INDEX) as loop:
            block = builder.urem(loop.index, blocks)
            at = builder.gep(start, [builder.mul(block, vectors.INDEX(_UNROLLED * LANES))])
            for number in range(_UNROLLED * LINE_BYTES // vectors.REGISTER):
                kept = sums[number % _UNROLLED]
                loaded = vectors.load(builder, at, vector, number)
                builder.store(builder.fadd(builder.load(kept), loaded), kept)
        total = builder.load(sums[0])
        for kept in sums[1:]:
            total = builder.fadd(total, builder.load(kept))
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.float32(lines, types.int64, types.int64), generate


@parallel.loop
def _load(part, passes, sums):
    lines = np.zeros(_LINES * LANES + LANES, np.float32)
    first = first_of_line(lines)
    for thread in parallel.share(part, sums.size):
        sums[thread] = _sum(lines, first, passes)
