"""The file formats of CIFAR-10, right and wrong."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zlib

import numpy as np
import pytest
from cifar_pickles import python2_pickle
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from data_prep import DataError
from data_prep.cifar10.records import RECORD, parse_labels, parse_pickle, parse_records, parse_sheet, to_records

batches = st.integers(1, 4).flatmap(
    lambda count: st.tuples(arrays(np.uint8, (count, 3, 32, 32)), arrays(np.uint8, count, elements=st.integers(0, 9)))
)


def sheet_bytes(images: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    pixels = images.reshape(len(images), 3, 1024).transpose(0, 2, 1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


@given(batches)
def test_what_was_written_is_read(batch):
    images, labels = batch
    parsed_images, parsed_labels = parse_records(to_records(images, labels), "batch")
    np.testing.assert_array_equal(parsed_images, images)
    np.testing.assert_array_equal(parsed_labels, labels)


@examples(20)
@given(batches, st.sampled_from(["PNG", "WEBP"]))
def test_a_sheet_and_a_list_of_labels_become_the_batch(batch, kind):
    images, labels = batch
    count = len(labels)
    again = to_records(
        parse_sheet(sheet_bytes(images, kind), "sheet", count),
        parse_labels(json.dumps(labels.tolist()).encode(), "labels", count),
    )
    assert again == to_records(images, labels)


def test_a_record_is_the_label_and_the_planes_row_by_row():
    images = np.arange(3072, dtype=np.uint32).astype(np.uint8).reshape(1, 3, 32, 32)
    record = to_records(images, np.uint8([7]))
    assert len(record) == RECORD == 3073
    assert record[:3] == bytes([7, 0, 1])
    assert record[1 + 1024 + 32 * 2 + 5] == images[0, 1, 2, 5]


@pytest.mark.parametrize("size", [0, 1, RECORD - 1, RECORD + 1])
def test_anything_but_whole_records_is_refused(size):
    with pytest.raises(DataError, match=f"^batch: expected records of 3073 bytes, found {size} bytes$"):
        parse_records(bytes(size), "batch")


def test_a_label_of_no_class_is_refused():
    data = bytearray(2 * RECORD)
    data[RECORD] = 10
    with pytest.raises(DataError, match=r"^batch: expected labels from 0 to 9, found 10 in place 1$"):
        parse_records(bytes(data), "batch")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (b"[1, 2", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b'{"0": 1}', "expected a list of labels"),
        (b"[1, 2, 3.0]", "expected a list of labels"),
        (b"[1, 2, true]", "expected a list of labels"),
        (b"[1, 2]", "expected 3 labels, found 2"),
        (b"[1, 2, 10]", "found 10 in place 2"),
        (b"[1, -1, 2]", "found -1 in place 1"),
        (b"[1, 2, 1000000000000000000000000000000]", "found 1000000000000000000000000000000 in place 2"),
    ],
)
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(DataError, match=f"^labels.*{message}"):
        parse_labels(labels, "labels", 3)


@pytest.mark.parametrize(
    ("size", "mode", "found"),
    [
        ((1024, 4), "RGB", "4 rows of 1024 in RGB"),
        ((32, 96), "RGB", "96 rows of 32 in RGB"),
        ((1024, 3), "L", "3 rows of 1024 in L"),
        ((1024, 3), "RGBA", "3 rows of 1024 in RGBA"),
    ],
)
def test_a_sheet_of_another_size_is_refused(size, mode, found):
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "PNG")
    with pytest.raises(DataError, match=f"^sheet: expected 3 rows of 1024 pixels in RGB, found {found}$"):
        parse_sheet(stream.getvalue(), "sheet", 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_unpacks_to_gigabytes_is_refused_unpacked():
    whole = sheet_bytes(np.zeros((3, 3, 32, 32), np.uint8))
    for height in (100_000, 2**31 - 1):  # the height is in bytes 20..23, what follows is found out later
        header = whole[12:20] + height.to_bytes(4, "big") + whole[24:29]
        bomb = whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]
        with pytest.raises(DataError, match=r"^sheet"):
            parse_sheet(bomb, "sheet", 3)


@given(st.data())
def test_a_damaged_sheet_is_refused_or_read_whole(data):
    images = np.random.default_rng(4).integers(0, 256, (3, 3, 32, 32), np.uint8)
    whole = bytearray(sheet_bytes(images))
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(DataError):
        assert parse_sheet(bytes(whole), "sheet", 3).shape == images.shape


def test_another_format_is_refused_even_if_pillow_knows_it():
    stream = io.BytesIO()
    Image.new("RGB", (1024, 3)).save(stream, "BMP")
    with pytest.raises(DataError, match=r"^sheet is a damaged picture"):
        parse_sheet(stream.getvalue(), "sheet", 3)


@pytest.mark.parametrize("count", [3, 1000, 2300])
def test_an_official_pickle_is_read_as_python_reads_it(count):
    draw = np.random.default_rng(count)
    images, labels = draw.integers(0, 256, (count, 3, 32, 32), np.uint8), draw.integers(0, 10, count)
    data = python2_pickle(images, labels)
    by_python = pickle.loads(data, encoding="bytes")  # noqa: S301 - what this test made
    np.testing.assert_array_equal(by_python[b"data"].reshape(images.shape), images)
    parsed_images, parsed_labels = parse_pickle(data, "batch", count)
    np.testing.assert_array_equal(parsed_images, images)
    np.testing.assert_array_equal(parsed_labels, labels)
    assert by_python[b"labels"] == parsed_labels.tolist()


SMALL_PICKLE = python2_pickle(np.zeros((2, 3, 32, 32), np.uint8), np.array([3, 4]))


@given(data=st.data())
def test_any_other_pickle_is_refused_and_nothing_in_it_is_called(data):
    """Of a changed one the changed label or pixels are read, which the digest of the batch then refuses."""
    content = bytearray(SMALL_PICKLE)
    place = data.draw(st.integers(0, 260) | st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(content)))
    for changed in (bytes(content), bytes(content)[:cut], bytes(content)[place:]):
        with contextlib.suppress(DataError):
            images, labels = parse_pickle(changed, "batch", 2)
            assert images.shape == (2, 3, 32, 32)
            assert labels.max() < 10


def test_a_pickle_that_would_run_a_command_is_refused(tmp_path):
    command = f"touch {tmp_path / 'ran'}".encode()
    for attack in (
        b"cos\nsystem\n(U" + bytes([len(command)]) + command + b"tR.",
        SMALL_PICKLE.replace(b"ndarray", b"fromfile"),
    ):
        with pytest.raises(DataError, match="is no pickle like the official ones of CIFAR-10"):
            parse_pickle(attack, "batch", 2)
    assert not list(tmp_path.iterdir())
