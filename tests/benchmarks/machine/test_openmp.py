"""In processes of their own: an OpenMP runtime reads its settings once, when it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
CHECK = """
import ctypes, sys
ctypes.CDLL("libgomp.so.1")
from benchmarks.machine.openmp import check_threads, loaded_runtimes
assert [path.name for path in loaded_runtimes()], "not seen"
check_threads(2)
"""


def check(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHECK], cwd=REPOSITORY, env=os.environ | variables, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_a_runtime_that_gives_what_is_asked_for():
    assert check().returncode == 0


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OMP_THREAD_LIMIT": "1"}, "gives 1 threads where 2 were asked for (thread limit 1, dynamic adjustment off)"),
        ({"OMP_DYNAMIC": "true"}, "dynamic adjustment on"),
    ],
)
def test_a_runtime_that_gives_less_is_refused(variables, words):
    result = check(**variables)
    assert "EngineError: OpenMP (libgomp.so.1" in result.stderr
    assert words in result.stderr
