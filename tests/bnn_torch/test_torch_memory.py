"""Memory that a step frees stays with the process, for the next step."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
    ),
]
# Pages of 64 MiB that are mapped when they are taken, filled and freed again and again: those of the last time. An
# aligned block is looked for in a larger one, so the first few may not fit where another has been.
FAULTS = """
import resource
from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe

model = load_recipe("binarynet-mnist", ["model.architecture=8FC-10FC"]).model
open_engine("torch", model, (1, 28, 28), 0, "cpu", 1, compile="off")

import torch

for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, 2**26 // resource.getpagesize())
"""


def test_freed_memory_is_not_mapped_anew():
    root = Path(__file__).parents[2]
    python = subprocess.run([sys.executable, "-c", FAULTS], cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    mapped, pages = map(int, python.stdout.split())
    assert mapped < pages / 10
