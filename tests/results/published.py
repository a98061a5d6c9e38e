"""Records and weights of this repository's registry, as tests take them.

By name, so that no test depends on what is added to the registry; or, where each network is another case, one of each
benchmark: five seeds of a benchmark are the same case, and the registry grows by them.
"""

from __future__ import annotations

from pathlib import Path

RUNS = Path(__file__).parents[2] / "results" / "runs"
# As schema 1 wrote them: the first ones, each of another benchmark.
FIRST = [
    RUNS / name
    for name in (
        "binaryconnect-mnist/4665776cbd583d9a.json",
        "chawla-mlp-mnist-binary/76827fca344d3200.json",
        "chawla-mlp-mnist-float/0b5029908e1a9efa.json",
        "rwth-lenet5-mnist-binary/237fe4a5f6da1e2c.json",
    )
]
OF_A_GPU = RUNS / "binaryconnect-mnist/6968a2db8b8ce604.json"  # as schema 2 wrote it, by the torch engine
WEIGHTS = sorted((RUNS.parent / "weights").glob("*/*.safetensors"))
WEIGHTS_OF_EACH_BENCHMARK = list({path.parent: path for path in WEIGHTS}.values())


def first(benchmark: str) -> Path:
    """The first record of a benchmark."""
    (path,) = [path for path in FIRST if path.parent.name == benchmark]
    return path
