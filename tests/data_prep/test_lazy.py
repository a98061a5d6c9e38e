"""Images left in their file: what an array in memory would give, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import DataError
from data_prep.storage.lazy import LazyImages

REPOSITORY = Path(__file__).parents[2]
STORED = np.random.default_rng(1).standard_normal((40, 3, 4, 5)).astype(np.float32)
ROWS = np.random.default_rng(2).permutation(40)[:30].astype(np.int32)
ARRAY = 2 * STORED[ROWS]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lazy") / "file"
    path.write_bytes(b"a header" + STORED.tobytes() + b"something behind")
    return path


@pytest.fixture(scope="module")
def lazy(path) -> LazyImages:
    return LazyImages(path, 8, STORED.dtype, STORED.shape[1:], ROWS, lambda images: 2 * images)


def test_it_looks_like_an_array(lazy):
    assert (len(lazy), lazy.shape, lazy.dtype) == (30, (30, 3, 4, 5), np.float32)


indices = st.integers(-30, 29)
keys = st.one_of(
    indices,
    st.slices(30),
    st.lists(indices, max_size=12).map(lambda numbers: np.array(numbers, np.int64)),
    st.lists(st.integers(0, 29), min_size=1, max_size=12).map(lambda numbers: np.array(numbers, np.uint8)),
    st.lists(st.lists(indices, min_size=2, max_size=2), min_size=1, max_size=3).map(np.array),
)


@given(key=keys)
def test_any_index_gives_what_an_array_gives(lazy, key):
    found = lazy[key]
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, ARRAY[key])


@pytest.mark.parametrize("key", [30, -31, np.array([0, 30])])
def test_an_index_beyond_the_end_is_refused(lazy, key):
    with pytest.raises(IndexError):
        lazy[key]


def test_what_is_given_can_be_changed_without_changing_what_is_stored(lazy):
    lazy[:3][:] = 0
    np.testing.assert_array_equal(lazy[:3], ARRAY[:3])


def test_a_file_that_is_replaced_stays_what_it_was(tmp_path, path):
    copy = tmp_path / "file"
    copy.write_bytes(path.read_bytes())
    lazy = LazyImages(copy, 8, STORED.dtype, STORED.shape[1:], ROWS, lambda images: images)
    (tmp_path / "other").write_bytes(bytes(100))
    os.replace(tmp_path / "other", copy)
    np.testing.assert_array_equal(lazy[:], STORED[ROWS])


def test_a_file_that_becomes_shorter_is_told(tmp_path, path):
    copy = tmp_path / "file"
    copy.write_bytes(path.read_bytes())
    lazy = LazyImages(copy, 8, STORED.dtype, STORED.shape[1:], ROWS, lambda images: images)
    os.truncate(copy, 4000)
    with pytest.raises(DataError, match="has become shorter than it was"):
        lazy[:]


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*absent \(No such file"):
        LazyImages(tmp_path / "absent", 0, STORED.dtype, (3, 4, 5), ROWS, lambda images: images)


def test_the_file_is_closed_with_the_last_reference(path):
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    lazy = LazyImages(path, 8, STORED.dtype, STORED.shape[1:], ROWS, lambda images: images)
    assert count() == before + 1
    del lazy
    assert count() == before


@pytest.mark.parametrize("size", [1 << 27, pytest.param(1 << 30, marks=pytest.mark.nightly)])
def test_reading_a_large_file_in_random_order_takes_no_memory(tmp_path, size):
    """A sparse file of 128 MB, or of 1 GB, read whole."""
    with open(tmp_path / "large", "wb") as stream:
        stream.truncate(size)
    code = (
        "import sys, numpy as np; from pathlib import Path; from data_prep.storage.lazy import LazyImages\n"
        f"count = {size} // 12288\n"
        "rows = np.random.default_rng(0).permutation(count).astype(np.int32)\n"
        "images = LazyImages(Path(sys.argv[1]), 0, np.dtype('f4'), (3, 32, 32), rows, lambda images: images)\n"
        "for start in range(0, count, 50): images[np.arange(start, min(start + 50, count))]\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "large")]
    peak = int(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout) / 1024
    assert peak < 100  # MiB; the libraries alone take half of it
