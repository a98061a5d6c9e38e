"""Random numbers as a function of a run's seed and of what they are for: so they can be drawn again at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator (PCG64) of its own for each seed, purpose ("split", "labels train", ...) and numbers, as an epoch's.

    The letters of the purpose and the numbers are the spawn key of NumPy's SeedSequence, which keeps the streams of one
    seed apart, and apart from generators made from the seed alone.
    """
    import numpy as np

    key = (len(purpose), *purpose.encode("ascii"), *numbers)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
