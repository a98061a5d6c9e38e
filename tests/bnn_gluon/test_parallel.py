"""Loops that are shared out to threads, and what is said when they are compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from bnn_gluon.kernels import parallel

ROOT = Path(__file__).parents[2]


@parallel.loop
def count(part, times, threads):  # type: ignore[no-untyped-def]
    """times[i] += 1 for every iteration; in `threads`, which part had it."""
    for i in parallel.share(part, times.size):
        times[i] += 1
        threads[i] = part


@parallel.loop
def allocate(part, sizes):  # type: ignore[no-untyped-def]
    """Allocate more than there is."""
    for i in parallel.share(part, sizes.size):
        sizes[i] = np.zeros(sizes[i]).size


@pytest.mark.parametrize("iterations", [0, 1, 2, 3, 100])
@pytest.mark.parametrize("threads", sorted({1, min(2, numba.config.NUMBA_NUM_THREADS)}))
def test_each_iteration_is_done_once_by_the_threads_in_turn(iterations, threads):
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        times, parts = np.zeros((2, iterations), np.int64)
        count(times, parts)
    finally:
        numba.set_num_threads(before)
    assert (times == 1).all()
    assert (np.diff(parts) >= 0).all()
    assert len(set(parts)) == min(iterations, threads)


def test_a_thread_without_memory_is_an_error():
    with pytest.raises(MemoryError):
        allocate(np.full(2, 2**60))


def test_compiling_is_announced_once_and_only_where_nothing_is_compiled_yet(tmp_path):
    program = """
import numpy as np
from bnn_gluon import quantize, update
one = np.ones(8, np.float32)
for _ in range(2):
    quantize.binarize_deterministic(one, one[0], one.copy())
    update.add_penalty(one, one, one, one[0], one[0])
"""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
        ).stderr
        for _ in range(2)
    ]
    assert said == [parallel.NOTICE + "\n", ""]


@pytest.mark.slow
def test_without_shared_memory_the_engine_opens_and_says_nothing():
    """It is read-only: no semaphore can be made, and numba has a warning of five lines on that."""
    program = """
import multiprocessing
class Context:
    def RLock(self):
        raise OSError(30, "Read-only file system")
multiprocessing.get_context = Context
from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
recipe = load_recipe("binaryconnect-mnist", ["model.architecture=8FC-10FC"])
open_engine("gluon", recipe.model, recipe.image_shape, seed=0)
"""
    opened = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, env=os.environ
    )
    assert opened.stderr.replace(parallel.NOTICE + "\n", "") == ""
