"""The IDX format of the MNIST files: a header of magic number and big-endian dimensions, then unsigned bytes."""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError

_UNSIGNED_BYTE = 0x08


def parse_idx(data: bytes, name: str) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes.

    Args:
        data: the whole, uncompressed file.
        name: what to call it in an error message.

    Returns:
        uint8 array of the header's shape; a read-only view of `data`.

    Raises:
        DataError: the magic number is not that of unsigned bytes in one to three dimensions, the header is cut
            short, a dimension is 0, or the length is not exactly what the dimensions say.
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE or not 1 <= data[3] <= 3:
        found = data[:4].hex() or "an empty file"
        raise DataError(f"{name} is not an IDX file: expected magic 00000801 to 00000803, found {found}")
    dimensions = data[3]
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise DataError(f"{name} is cut short: expected a header of {start} bytes, found {len(data)} bytes")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if 0 in shape:
        raise DataError(f"{name} is empty: its shape is {shape}")
    expected = start + math.prod(shape)
    if len(data) != expected:
        raise DataError(f"{name} has the wrong length: expected {expected} bytes for shape {shape}, found {len(data)}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
