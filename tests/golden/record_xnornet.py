"""Record what XNOR-Net-PyTorch's training gives, with PyTorch: python tests/golden/record_xnornet.py [CASE...]

Its networks with fewer filters and units, as tests/xnornet_runs.py has them, in float64; writes
tests/golden/xnornet/*.npz in float32. The seed is the first one with which no rounding error of float32 decides a step.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import xnornet_runs  # noqa: E402
from xnornet_cases import CASES, GOLDEN  # noqa: E402

MARGIN = 1e-6  # how near a value may come to where a decision is taken


def main() -> None:
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        runs = (xnornet_runs.run(CASES[name], seed) for seed in itertools.count(1))
        arrays = next(run.arrays for run in runs if run.nearest > MARGIN)
        np.savez_compressed(GOLDEN / f"{name}.npz", **{key: np.float32(value) for key, value in arrays.items()})
        print(f"{name}: seed {arrays['seed']}, losses {arrays['losses']}")


if __name__ == "__main__":
    main()
