"""Record what Larq computes: python tests/golden/record_larq.py (requirements-larq.txt)

Trains the tutorial's network with fewer units for an epoch of three steps, as its notebook does, and evaluates it;
writes tests/golden/larq/mnist.npz. The seed is the first one with which no rounding error decides a step. `tox -e larq`
tests that Larq computes the same today.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import larq_runs  # noqa: E402
from larq_cases import GOLDEN  # noqa: E402

MARGIN = 2e-6  # how near a value may come to where a decision is taken


def main() -> None:
    GOLDEN.parent.mkdir(exist_ok=True)
    recorded = next(found for found in map(larq_runs.run, itertools.count(1)) if found.nearest > MARGIN)
    np.savez_compressed(GOLDEN, **recorded.arrays)
    print(f"seed {recorded.arrays['seed']}, losses {recorded.arrays['losses']}")


if __name__ == "__main__":
    main()
