from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from data_prep import DataError
from data_prep.mnist.idx import parse_idx

small_arrays = arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@given(small_arrays)
def test_what_was_written_is_read(array):
    parsed = parse_idx(idx_bytes(array), "file")
    assert parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed, array)


@given(small_arrays, st.data())
def test_a_file_of_any_other_length_is_refused(array, data):
    whole = idx_bytes(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DataError, match=r"^some-file "):
        parse_idx(whole[:cut], "some-file")
    with pytest.raises(DataError, match=r"^some-file "):
        parse_idx(whole + data.draw(st.binary(min_size=1, max_size=9)), "some-file")


@given(small_arrays, st.data())
def test_a_header_with_one_byte_changed_is_refused(array, data):
    whole = bytearray(idx_bytes(array))
    position = data.draw(st.integers(0, 3 + 4 * array.ndim))
    whole[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DataError, match=r"^some-file "):
        parse_idx(bytes(whole), "some-file")


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_parsed_or_refused(data):
    try:
        array = parse_idx(data, "file")
    except DataError:
        return
    assert idx_bytes(array) == data


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "expected magic 00000801 to 00000803, found an empty file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "found 00000d01"),
        (b"\0\0\x08\x04" + b"\0\0\0\x01" * 4 + b"\0", "found 00000804"),
        (b"\0\0\x08\x03\0\0\0\x01", "expected a header of 16 bytes, found 8 bytes"),
        (b"\0\0\x08\x02\0\0\0\0\xff\xff\xff\xff", "is empty"),
        (b"\0\0\x08\x01\0\0\0\x03ab", r"expected 11 bytes for shape \(3,\), found 10"),
    ],
)
def test_the_message_names_expected_and_found(header, message):
    with pytest.raises(DataError, match=message):
        parse_idx(header, "labels")
