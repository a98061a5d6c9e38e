"""Rows that lie side by side brought to where channels do, and back, against NumPy's transposition."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from bnn_gluon.kernels.squares import SIDE, give_rows, take_rows

_MARGIN = 3  # floats that nobody may touch


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 35), st.integers(0, 9), st.integers(0, 5))
@example(0, 2, SIDE, 0, 0)
@example(1, 2, SIDE - 1, 1, 1)
@example(2, 1, SIDE + 1, 1, 1)
def test_rows_are_taken_to_lanes(seed, blocks, count, offset, apart):
    draws, lanes = np.random.default_rng(seed), blocks * SIDE
    plain = draws.normal(size=(lanes, offset + count)).astype(np.float32)
    starts = draws.permutation(lanes) * plain.shape[1]
    side = np.full((count, lanes + apart), np.nan, np.float32)
    flat = np.concatenate([np.full(_MARGIN, 7, np.float32), side.reshape(-1), np.full(_MARGIN, 7, np.float32)])
    take_rows(plain.reshape(-1), starts, lanes, offset, count, flat, _MARGIN, lanes + apart)
    found = flat[_MARGIN:-_MARGIN].reshape(side.shape)
    np.testing.assert_array_equal(found[:, :lanes], plain[starts // plain.shape[1], offset:].T)
    assert np.isnan(found[:, lanes:]).all()
    assert (flat[:_MARGIN] == 7).all()
    assert (flat[-_MARGIN:] == 7).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 35), st.integers(1, 35), st.integers(0, 9), st.sampled_from([1, 0.3]))
@example(0, SIDE, SIDE, 0, 1)
@example(1, 2 * SIDE - 1, SIDE - 1, 1, 1)
@example(2, SIDE + 1, SIDE + 1, 1, 0.3)
def test_lanes_are_given_to_rows(seed, lanes, count, offset, scale):
    draws = np.random.default_rng(seed)
    side = draws.normal(size=(count, lanes + 1)).astype(np.float32)
    plain = np.full((lanes, offset + count), np.nan, np.float32)
    starts = draws.permutation(lanes) * plain.shape[1]
    flat = np.concatenate([plain.reshape(-1), np.full(_MARGIN, 7, np.float32)])
    give_rows(side.reshape(-1), 0, lanes + 1, count, np.float32(scale), flat, starts, lanes, offset)
    found = flat[:-_MARGIN].reshape(plain.shape)[starts // plain.shape[1]]
    np.testing.assert_array_equal(found[:, offset:], np.float32(scale) * side[:, :lanes].T)
    assert np.isnan(found[:, :offset]).all()
    assert (flat[-_MARGIN:] == 7).all()
