"""MATLAB 5 files: the values that scipy reads, in pieces, and everything else refused."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat
from svhn_files import element, matrix, write_mat

from data_prep import DataError
from data_prep.svhn.matlab import variables

PIECES = [np.random.default_rng(1).integers(0, 256, (n, 3, 32, 32), np.uint8) for n in (3, 2)]
LABELS = np.array([1, 10, 5, 9, 2])
IMAGES = np.concatenate(PIECES)


def read(path: Path, pieces: int = 1) -> dict[str, tuple[str, np.ndarray]]:
    found = {}
    for variable in variables(path):
        count = int(np.prod(variable.shape))
        sizes = [len(part) for part in np.array_split(np.arange(count), pieces)]
        values = np.concatenate([variable.read(size) for size in sizes])
        found[variable.name] = variable.kind, values.reshape(variable.shape, order="F")
    return found


@pytest.mark.parametrize("level", [None, 1, 9])
@pytest.mark.parametrize("labels_first", [False, True])
@pytest.mark.parametrize("labels_as", ["uint8", "double", "short double"])
def test_what_scipy_reads_is_read(tmp_path, level, labels_first, labels_as):
    path = tmp_path / "test.mat"
    write_mat(path, PIECES, LABELS, level=level, labels_first=labels_first, labels_as=labels_as)
    expected, found = loadmat(path), read(path, pieces=7)
    assert list(found) == (["y", "X"] if labels_first else ["X", "y"])
    assert [found[name][0] for name in ("X", "y")] == ["uint8", labels_as.removeprefix("short ")]
    for name, (_, values) in found.items():
        np.testing.assert_array_equal(values, expected[name])
    np.testing.assert_array_equal(found["X"][1].transpose(3, 2, 0, 1), IMAGES)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes_is_read(tmp_path, compressed):
    path = tmp_path / "test.mat"
    written = {"X": IMAGES.transpose(2, 3, 1, 0), "y": LABELS[:, None].astype(float), "longer_name": np.uint8([[7]])}
    savemat(path, written, do_compression=compressed)
    found = read(path)
    assert found.keys() == written.keys()
    for name, values in written.items():
        np.testing.assert_array_equal(found[name][1], values)


@examples(25)
@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    double=st.booleans(),
    compressed=st.booleans(),
    pieces=st.integers(1, 5),
)
def test_any_array_of_bytes_or_doubles_is_read(tmp_path_factory, shape, double, compressed, pieces):
    path = tmp_path_factory.getbasetemp() / "any.mat"
    values = np.random.default_rng(3).integers(0, 256, shape).astype(float if double else np.uint8)
    savemat(path, {"x": values}, do_compression=compressed)
    np.testing.assert_array_equal(read(path, pieces)["x"][1], values)


def test_what_is_not_read_is_passed_over(tmp_path):
    path = tmp_path / "test.mat"
    for level in (None, 1):
        write_mat(path, PIECES, LABELS, level=level)
        shapes = {variable.name: variable.shape for variable in variables(path)}
        assert shapes == {"X": (32, 32, 3, 5), "y": (5, 1)}


def test_memory_is_bounded_by_what_is_asked_for(tmp_path):
    """20 MB of zeros, packed in 20 kB: inflating what is at hand would need all of it at once."""
    path = tmp_path / "large.mat"
    savemat(path, {"X": np.zeros((20_000_000, 1), np.uint8)}, do_compression=True)
    tracemalloc.start()
    for variable in variables(path):
        for _ in range(2000):
            assert not variable.read(10_000).any()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


# --- refused


HEADER = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\x00\x01IM"


def packed(content: bytes) -> bytes:
    body = zlib.compress(content)
    return struct.pack("<II", 15, len(body)) + body


def variable(mx_class: int = 9, stored: int = 2, shape: tuple[int, ...] = (2, 3), size: int = 6) -> bytes:
    head, tail = matrix("X", shape, mx_class, stored, size)
    return head + bytes(size) + tail


def refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "test.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as failure:
        read(path)
    assert "\n" not in str(failure.value)
    assert "test.mat" in str(failure.value)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        HEADER[:127],
        b"<!DOCTYPE html>".ljust(200),
        HEADER[:124] + b"\x01\x00MI",  # big-endian
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM",  # HDF5 inside
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, header):
    refused(tmp_path, header, r"is not a little-endian MATLAB 5 file: expected 'MATLAB 5\.0' and ")


@pytest.mark.parametrize("wrap", [bytes, packed])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (variable(mx_class=7), "expected real arrays of class uint8 or double, found class 7"),
        (variable(mx_class=1), "found class 1"),
        (variable(mx_class=0x800 | 6, stored=9, size=48), "found class 6 with flags 0x8"),
        (variable(stored=9, size=48), "expected values of type uint8 or double in X, found type 9"),
        (variable(mx_class=6, stored=7, size=24), "expected values of type uint8 or double in X, found type 7"),
        (variable(size=7), "expected 6 bytes of values for X of shape \\(2, 3\\), found 7"),
        (variable(shape=(6,)), "expected two or more dimensions, none of them 0, found \\(6,\\)"),
        (variable(shape=(0, 3), size=0), "none of them 0, found \\(0, 3\\)"),
        (variable(shape=(-2, -3)), "none of them 0, found \\(-2, -3\\)"),
        (variable(shape=(1,) * 20, size=1), "expected dimensions as an element of type 5, found type 5 with 80 bytes"),
        (struct.pack("<II", 14, 16) + element(6, bytes(8)), "found class 0"),
        (struct.pack("<II", 14, 16) + element(2, bytes(8)), "array flags as an element of type 6, found type 2"),
        (struct.pack("<II", 14, 4) + bytes(8), "expected 4 bytes more in a variable, found 0"),
        (struct.pack("<II", 14, 16) + struct.pack("<HH", 6, 8) + bytes(12), "at most 4 bytes in a short tag, found 8"),
        (struct.pack("<II", 9, 8) + bytes(8), "has an element of type 9 where a variable was expected"),
    ],
)
def test_a_variable_of_another_kind_or_shape_is_refused(tmp_path, wrap, content, message):
    refused(tmp_path, HEADER + wrap(content), message)


def test_lengths_that_do_not_agree_are_refused(tmp_path):
    whole = variable()
    longer = struct.pack("<II", 14, len(whole) - 8 + 8) + whole[8:] + bytes(8)
    refused(tmp_path, HEADER + longer, "expected the end of X, found 8 bytes more")
    refused(tmp_path, HEADER + packed(longer), "expected the end of X, found 8 bytes more")
    refused(tmp_path, HEADER + packed(whole + b"!"), "a compressed variable does not end where its length says")
    behind = zlib.compress(whole) + b"!"
    refused(tmp_path, HEADER + struct.pack("<II", 15, len(behind)) + behind, "there is something behind a compressed")


@pytest.mark.parametrize("level", [None, 1])
def test_any_truncation_is_refused(tmp_path, level):
    path = tmp_path / "whole.mat"
    write_mat(path, [IMAGES[:1]], LABELS[:1], level=level)
    whole = path.read_bytes()
    x_ends = 136 + struct.unpack("<I", whole[132:136])[0]
    for end in {*range(129, 400, 7), *range(400, len(whole), 97), len(whole) - 1, x_ends + 1} - {x_ends}:
        refused(tmp_path, whole[:end], "cut short|not such a .mat file|MATLAB 5 file|end where its length says")


@given(place=st.integers(128, 3000), change=st.integers(1, 255))
def test_a_changed_byte_in_a_compressed_file_never_gives_other_values(tmp_path_factory, place, change):
    path = tmp_path_factory.getbasetemp() / "changed.mat"
    write_mat(path, [IMAGES[:1]], LABELS[:1])
    content = bytearray(path.read_bytes())
    content[place % (len(content) - 128) + 128] ^= change
    path.write_bytes(content)
    try:
        found = read(path)
    except DataError:
        return
    np.testing.assert_array_equal(found["X"][1].transpose(3, 2, 0, 1), IMAGES[:1])
    np.testing.assert_array_equal(found["y"][1], [[1]])


def test_a_damaged_stream_is_refused(tmp_path):
    path = tmp_path / "test.mat"
    write_mat(path, PIECES, LABELS)
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    refused(tmp_path, content, "test.mat is damaged: |not such a .mat file")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*absent\.mat \(No such file or directory\)"):
        read(tmp_path / "absent.mat")
