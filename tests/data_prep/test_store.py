"""The stored file: whole, proved, or refused."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import DamagedDataError, DataError, MissingDataError, StorageError, store

REPOSITORY = Path(__file__).parents[2]
ARRAYS = {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "mean": np.float32([0.25, 0.5])}
DIGEST = store.digest_of(ARRAYS)
STATISTICS = {"pixel_mean": 33.25}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    root = tmp_path_factory.mktemp("whole")
    store.write("tiny", root, ARRAYS, "a test", STATISTICS)
    return store.path_of("tiny", root).read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def refused(root: Path, content: bytes, message: str = "") -> None:
    store.path_of("tiny", root).write_bytes(content)
    with pytest.raises(DamagedDataError, match=f"{message}.*: run `python cli.py prepare tiny`$"):
        store.read("tiny", root, DIGEST)


def sealed(content: bytes) -> bytes:
    """`content` with a seal that fits, as one would make who knows the format."""
    return hashlib.sha256(content[64:]).hexdigest().encode() + content[64:]


def test_what_was_written_is_read(tmp_path):
    store.write("tiny", tmp_path, ARRAYS, "a test", STATISTICS)
    header, arrays = store.read("tiny", tmp_path, DIGEST)
    assert header == store.glance("tiny", tmp_path)
    assert (header.origin, header.digest, header.statistics) == ("a test", DIGEST, STATISTICS)
    assert header.bytes == store.path_of("tiny", tmp_path).stat().st_size
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.h5"]


def test_writing_twice_gives_the_same_bytes(tmp_path, whole):
    store.write("tiny", tmp_path, ARRAYS, "a test", STATISTICS)
    assert store.path_of("tiny", tmp_path).read_bytes() == whole


def test_it_is_ordinary_hdf5(tmp_path):
    store.write("tiny", tmp_path, ARRAYS, "a test", STATISTICS)
    with h5py.File(store.path_of("tiny", tmp_path)) as file:
        np.testing.assert_array_equal(file["images"], ARRAYS["images"])
        assert file.attrs["format"] == store.FORMAT
        assert file.attrs["origin"] == "a test"
        assert file.attrs["digest"] == DIGEST
        assert file.attrs["pixel_mean"] == 33.25
        assert file.attrs["created_by"].startswith("data_prep with h5py ")


def test_the_digest_depends_on_name_dtype_shape_and_every_byte():
    zeros = np.zeros((2, 3), np.uint8)
    others = [
        {"b": zeros},
        {"a": zeros.view(np.int8)},
        {"a": zeros.reshape(3, 2)},
        {"a": zeros + np.uint8(1)},
        {"a": zeros, "b": zeros},
    ]
    digests = {store.digest_of(arrays) for arrays in [{"a": zeros}, *others]}
    assert len(digests) == 6
    assert store.digest_of({"a": zeros, "b": others[3]["a"]}) == store.digest_of({"b": others[3]["a"], "a": zeros})


@settings(deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(whole, scratch, data):
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    refused(scratch, bytes(content))


@settings(deadline=None)
@given(data=st.data())
def test_any_truncation_is_found(whole, scratch, data):
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    refused(scratch, cut)
    with pytest.raises(DamagedDataError):  # the cheap look sees it too
        store.glance("tiny", scratch)


def test_added_bytes_are_found(tmp_path, whole):
    refused(tmp_path, whole + b"\0", f"expected {len(whole)} bytes, found {len(whole) + 1}")


def test_something_else_is_refused(tmp_path, whole):
    refused(tmp_path, b"", "does not begin as a prepared data set")
    refused(tmp_path, b"\x89HDF\r\n\x1a\n" + bytes(5000), "does not begin as a prepared data set")
    refused(tmp_path, whole.replace(b'"statistics"', b'"statistocs"', 1), "does not begin as a prepared data set")
    refused(tmp_path, whole[:64] + b"[1, 2]", "does not begin as a prepared data set")


def test_another_format_or_data_set_is_told(tmp_path, whole):
    newer = sealed(whole.replace(b'"format": 1', b'"format": 2', 1))
    refused(tmp_path, newer, "has format 2: this version of the project reads 1")
    other = sealed(whole.replace(b'"dataset": "tiny"', b'"dataset": "tidy"', 1))
    refused(tmp_path, other, "holds tidy, not tiny")


def test_other_arrays_under_a_fitting_seal_are_refused(tmp_path):
    other = {**ARRAYS, "images": ARRAYS["images"] + np.uint8(1)}
    store.write("tiny", tmp_path, other, "a test", STATISTICS)
    with pytest.raises(
        DamagedDataError, match=f"expected sha256 {DIGEST} of its arrays, found {store.digest_of(other)}"
    ):
        store.read("tiny", tmp_path, DIGEST)


def test_a_forged_digest_in_the_header_is_refused(tmp_path, whole):
    refused(tmp_path, sealed(whole.replace(DIGEST.encode(), b"0" * 64)), "is not tiny")


def test_a_data_set_that_is_not_there(tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(MissingDataError, match=r"is not prepared in .*: run `python cli.py prepare tiny`$"):
            store.read("tiny", root, DIGEST)
        with pytest.raises(MissingDataError):
            store.glance("tiny", root)


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path):
    store.path_of("tiny", tmp_path).mkdir()
    with pytest.raises(DataError, match=r"cannot read .*tiny\.h5 \(Is a directory\)"):
        store.read("tiny", tmp_path, DIGEST)


def test_a_full_disk_keeps_what_was_there(tmp_path, whole):
    path = store.path_of("tiny", tmp_path)
    path.write_bytes(whole)
    part = tmp_path / "tiny.h5.part"
    part.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"no space left to write .*tiny\.h5: free some space$"):
        store.write("tiny", tmp_path, ARRAYS, "another origin", STATISTICS)
    assert path.read_bytes() == whole
    assert not part.is_symlink()


def test_a_file_size_limit_leaves_nothing_half_written(tmp_path):
    code = (
        "import resource, sys, numpy as np; from pathlib import Path; from data_prep import store\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, {resource.RLIM_INFINITY}))\n"
        "store.write('tiny', Path(sys.argv[1]), {'a': np.zeros(100_000, np.uint8)}, '', {})"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "StorageError: no space left to write" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*absent/tiny\.h5 \(No such file or directory\)"):
        store.write("tiny", tmp_path / "absent", ARRAYS, "", {})
