"""The engines' random draws, made again in NumPy: so that a step with dropout or drawn weights can be computed twice.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, written from the paper.
"""

from __future__ import annotations

import numpy as np

MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
LANE, WORDS = 1024, 4


def philox(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Four words, uint64 below 2^32, of a counter of four words."""
    c = [np.asarray(word, np.uint64) for word in counter]
    low = np.uint64(0xFFFFFFFF)
    for number in range(10):
        k = [np.uint64((start + number * weyl) & 0xFFFFFFFF) for start, weyl in zip(key, WEYL, strict=True)]
        p, q = c[0] * np.uint64(MULTIPLIERS[0]), c[2] * np.uint64(MULTIPLIERS[1])
        c = [(q >> np.uint64(32)) ^ c[1] ^ k[0], q & low, (p >> np.uint64(32)) ^ c[3] ^ k[1], p & low]
    return c


def uniforms(shape: tuple[int, ...], tensor: int, step: int, seed: int) -> np.ndarray:
    """Uniforms in [0, 1), float32 of `shape`: number [chunk, word, lane] of the flat tensor is that word of the block
    chunk * LANE + lane, its upper 24 bits."""
    size = int(np.prod(shape))
    blocks = np.arange(-(-size // (LANE * WORDS)) * LANE, dtype=np.uint64)
    others = (np.zeros_like(blocks), np.full_like(blocks, step), np.full_like(blocks, tensor))
    words = np.stack(philox([blocks, *others], (seed & 0xFFFFFFFF, seed >> 32)))
    ordered = words.reshape(WORDS, -1, LANE).transpose(1, 0, 2).ravel()[:size]
    return ((ordered >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)).reshape(shape)
