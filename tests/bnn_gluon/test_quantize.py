from __future__ import annotations

from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_gluon import quantize

UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")
ONE = np.float32(1)


@numba.njit
def philox(counter, key):
    return quantize.philox4x32(counter[0], counter[1], counter[2], counter[3], key[0], key[1])


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    """The known answers of the authors' Random123 library, file kat_vectors, philox4x32-10."""
    assert list(philox(np.array(counter, np.uint32), np.array(key, np.uint32))) == expected


def draw(weights: np.ndarray, limit: float = 1.0, tensor: int = 0, step: int = 1, seed: int = 7) -> np.ndarray:
    binary = np.empty_like(weights)
    words = (np.uint32(tensor), np.uint32(step), np.uint32(seed), np.uint32(0))
    quantize.binarize_stochastic(weights, np.float32(limit), *words, binary)
    return binary


def test_deterministic_on_the_edge_cases_of_the_original():
    x = UNITS["special/x"]
    finite = np.isfinite(x)
    binary = np.empty_like(x)
    quantize.binarize_deterministic(x, ONE, binary)
    np.testing.assert_array_equal(binary[finite], UNITS["special/Wb_det_away"][finite])


def test_probability_on_the_edge_cases_of_the_original():
    probability = numba.vectorize(["float32(float32)"])(lambda w: quantize.probability_of_plus(w, np.float32(1)))
    x = UNITS["special/x"]
    finite = np.isfinite(x)
    np.testing.assert_array_equal(probability(x)[finite], UNITS["special/hard_sigmoid"][finite])


def test_comparison_with_uniforms_is_strict_as_in_the_original():
    binary = np.empty(6, np.float32)
    weights = (2 * UNITS["stoch/p"] - 1).astype(np.float32)
    quantize.compare_with_uniforms(weights, ONE, UNITS["stoch/u"], binary)
    np.testing.assert_array_equal((binary + 1) / 2, UNITS["stoch/bit"])


@pytest.mark.parametrize("weight", [-1.0, -0.5, 0.0, 0.3, 1.0])
def test_draws_have_the_right_probability(weight):
    n = 400_000
    share = np.mean(draw(np.full(n, weight, np.float32)) == 1)
    p = (weight + 1) / 2
    assert abs(share - p) <= 5 * np.sqrt(p * (1 - p) / n)


def test_draws_of_steps_tensors_and_seeds_are_independent():
    weights = np.zeros(100_000, np.float32)
    base = draw(weights)
    for other in (draw(weights, step=2), draw(weights, tensor=1), draw(weights, seed=8)):
        assert abs(np.mean(base * other)) < 5 / np.sqrt(weights.size)
    for lag in (1, quantize.CHUNK // 4, quantize.CHUNK):
        assert abs(np.mean(base[lag:] * base[:-lag])) < 5 / np.sqrt(weights.size - lag)


@given(st.integers(1, 3 * quantize.CHUNK), st.integers(0, 2**32 - 1), st.sampled_from([0.25, 1.0, 3.0]))
def test_draws_do_not_depend_on_what_follows(n, step, limit):
    """The draw of a weight depends on its index, not on how many there are; and it is always -H or +H."""
    weights = np.linspace(-limit, limit, 3 * quantize.CHUNK, dtype=np.float32)
    whole = draw(weights, limit, step=step)
    np.testing.assert_array_equal(draw(weights[:n], limit, step=step), whole[:n])
    assert set(np.unique(np.abs(whole))) == {np.float32(limit)}


@pytest.mark.threads
def test_draws_do_not_depend_on_the_number_of_threads():
    weights = np.zeros(5 * quantize.CHUNK + 3, np.float32)
    threads = numba.get_num_threads()
    base = draw(weights)
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(draw(weights), base)
    finally:
        numba.set_num_threads(threads)
