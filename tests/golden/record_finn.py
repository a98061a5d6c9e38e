"""Record what Brevitas computes: python tests/golden/record_finn.py [CASE...] (requirements-brevitas.txt)

Its networks with fewer units, trained for three steps and evaluated; writes tests/golden/finn/*.npz. The seed is the
first one with which no rounding error decides a step: no value that is quantized comes near to a threshold, and a run
in float64 from the same parameters agrees. `tox -e brevitas` tests that Brevitas computes the same today.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import brevitas_runs  # noqa: E402
from finn_cases import CASES, GOLDEN, Case  # noqa: E402

# How near a value may come to where a decision is taken; float32 computes them at least five times as exactly.
MARGIN, WEIGHT_MARGIN = 2e-6, 1e-6


def main() -> None:
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        arrays = record(CASES[name])
        np.savez_compressed(GOLDEN / f"{name}.npz", **{key: np.float32(value) for key, value in arrays.items()})
        print(f"{name}: seed {arrays['seed']}, losses {arrays['losses']}")


def record(case: Case) -> dict[str, np.ndarray]:
    """The run of the first seed that will do."""
    for seed in itertools.count(1):
        single = brevitas_runs.run(case, seed)
        if is_clear(single):
            double = brevitas_runs.run(case, seed, torch.float64)
            if is_clear(double) and agree(single.arrays, double.arrays):
                return single.arrays
    raise AssertionError


def is_clear(run: brevitas_runs.Run) -> bool:
    """Whether no rounding error decides anything in it."""
    return run.nearest_activation > MARGIN and run.nearest_weight > WEIGHT_MARGIN


def agree(single: dict[str, np.ndarray], double: dict[str, np.ndarray]) -> bool:
    """Whether float32 and float64 differ by rounding alone, and so little that no step of Adam is made of rounding
    errors, as of a parameter whose gradient is none."""
    for name, value in single.items():
        if np.abs(value - double[name]).max() > 1e-5 * np.abs(double[name]).max() + 1e-7:
            return False
    return True


if __name__ == "__main__":
    main()
