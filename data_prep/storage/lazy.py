"""Images that stay in their file and are read when they are asked for: larger sets than memory, in any order."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError


class LazyImages:
    """Images of a file, indexed like an array of float32 (N, channels, height, width) along its first axis.

    `images[batch]` with whole numbers, `images[start:stop]` and `images[5]` read these images and nothing else. No
    image is kept: what is read again comes from the system's page cache, which takes only memory that nobody else
    needs. Plain reads are as fast as a memory map, and faster than chunks of HDF5 (docs/data.md has the figures).

    The file stays open, and so stays what it is when another one takes its place.

    Attributes:
        shape: (N, channels, height, width).
        dtype: float32.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        path: Path,
        offset: int,
        stored: np.dtype[Any],
        image_shape: tuple[int, ...],
        rows: NDArray[np.integer[Any]],
        convert: Callable[[NDArray[Any]], NDArray[np.float32]],
    ) -> None:
        """Offer some of the images of a file.

        Args:
            offset: of the first stored image, in bytes.
            stored: type of the stored values.
            image_shape: of one image, as it is stored.
            rows: which of the stored images, and in which order.
            convert: makes of stored images (n, *image_shape) what is to be given.

        Raises:
            DataError: the file cannot be opened.
        """
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"cannot read {path} ({error.strerror})") from error
        weakref.finalize(self, os.close, self._file)
        # The order is random: what lies beside an image is not needed next.
        _advise(self._file, 0, 0, "POSIX_FADV_RANDOM")
        self._path, self._offset, self._rows, self._convert = path, offset, rows, convert
        self._stored, self._image_shape = stored, image_shape
        self._image_bytes = stored.itemsize * int(np.prod(image_shape))
        self.shape = (len(rows), *image_shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """What an array would give, for whole numbers, arrays and slices of them along the first axis.

        Raises:
            IndexError: there is no such image.
            DataError: the file has become shorter or cannot be read.
        """
        rows = np.asarray(self._rows[key])
        images = self._convert(self._read(rows.reshape(-1)))
        return images.reshape(*rows.shape, *self._image_shape)

    def _read(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        images = np.empty((len(rows), *self._image_shape), self._stored)
        memory, size = images.reshape(-1).view(np.uint8).data, self._image_bytes
        places = (self._offset + rows.astype(np.int64) * size).tolist()
        # The disk learns of all images first, and fetches many at once.
        for place in places:
            _advise(self._file, place, size, "POSIX_FADV_WILLNEED")
        for number, place in enumerate(places):
            if os.preadv(self._file, [memory[number * size : (number + 1) * size]], place) != size:
                raise DataError(f"{self._path} has become shorter than it was: prepare its data set again")
        return images


def _advise(file: int, start: int, size: int, advice: str) -> None:
    """Tell the system how a part of a file will be read, where it can be told."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, start, size, getattr(os, advice))
