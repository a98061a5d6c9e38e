"""MATLAB 5 files (.mat, as `save` wrote them until version 7), read in one pass and in bounded memory.

A file is a header of 128 bytes and then elements: a tag of type and length, and data. A variable is an element of type
miMATRIX, or one of type miCOMPRESSED: a zlib stream of such an element. scipy.io.loadmat reads a variable as a whole,
which is 1.6 GB for the largest file of SVHN; this module gives it piece by piece.

Only what SVHN needs is read: real arrays of class uint8 or double, in little-endian files. All else is refused.
Source: "MAT-File Format", The MathWorks, version 5 (level 5 MAT-files).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError

_INT8, _UINT8, _INT32, _UINT32, _DOUBLE, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 9, 14, 15
_CLASSES = {6: "double", 9: "uint8"}
# MATLAB stores an array of doubles as bytes where all values are such.
_STORED = {("uint8", _UINT8): "u1", ("double", _UINT8): "u1", ("double", _DOUBLE): "<f8"}
_COMPRESSED_PIECE = 1 << 18


class _Bytes(Protocol):
    """Where the bytes of a variable come from."""

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end."""

    def end(self) -> None:
        """Raise DataError unless the variable ends here."""


class Variable:
    """A variable whose values have not been read yet.

    Attributes:
        name: in MATLAB.
        kind: "uint8" or "double", its class in MATLAB.
        shape: its dimensions; the first one changes fastest from value to value.
    """

    def __init__(self, file: str, source: _Bytes, length: int) -> None:
        self._file, self._source, self._left = file, source, length
        flags, _ = struct.unpack("<II", self._element(_UINT32, "array flags", 8))
        self.kind = self._class_of(flags)
        self.shape = tuple(np.frombuffer(self._element(_INT32, "dimensions"), "<i4").tolist())
        if len(self.shape) < 2 or min(self.shape) < 1:
            raise self._wrong("two or more dimensions, none of them 0", str(self.shape))
        self.name = self._element(_INT8, "name").decode("latin-1")
        stored, length, self._padding = self._tag()
        if (self.kind, stored) not in _STORED:
            raise self._wrong(f"values of type uint8 or double in {self.name}", f"type {stored}")
        self._dtype = np.dtype(_STORED[self.kind, stored])
        self._values = math.prod(self.shape)
        if length != self._values * self._dtype.itemsize:
            expected = self._values * self._dtype.itemsize
            raise self._wrong(f"{expected} bytes of values for {self.name} of shape {self.shape}", f"{length}")

    def read(self, count: int) -> NDArray[np.generic]:
        """The next `count` values, uint8 or float64, in the order they are stored: first dimension fastest.

        Raises:
            DataError: the file ends before them.
        """
        assert count <= self._values, "as many values as the shape says"
        self._values -= count
        return np.frombuffer(self._take(count * self._dtype.itemsize), self._dtype)

    def finish(self) -> None:
        """Pass over what was not read, and raise DataError unless the variable ends as its lengths say."""
        while self._values:
            self.read(min(self._values, _COMPRESSED_PIECE))
        self._take(self._padding)
        if self._left:
            raise self._wrong(f"the end of {self.name}", f"{self._left} bytes more")
        self._source.end()

    def _class_of(self, flags: int) -> str:
        kind, special = flags & 0xFF, flags >> 8
        if kind not in _CLASSES or special:
            found = f"class {kind}" + (f" with flags {special:#x}" if special else "")
            raise self._wrong("real arrays of class uint8 or double", found)
        return _CLASSES[kind]

    def _element(self, kind: int, what: str, length: int | None = None) -> bytes:
        found, size, padding = self._tag()
        if found != kind or length not in (None, size) or size > 64:
            raise self._wrong(f"{what} as an element of type {kind}", f"type {found} with {size} bytes")
        data = self._take(size)
        self._take(padding)
        return data

    def _tag(self) -> tuple[int, int, int]:
        """Type, length and padding of the next element; one of up to 4 bytes may have both in its first 4 bytes."""
        (first,) = struct.unpack("<I", self._take(4))
        kind, size = first & 0xFFFF, first >> 16
        if size > 4:
            raise self._wrong("an element of at most 4 bytes in a short tag", f"{size} bytes")
        if size:
            return kind, size, 4 - size
        (size,) = struct.unpack("<I", self._take(4))
        return kind, size, -size % 8

    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise self._wrong(f"{count} bytes more in a variable", f"{self._left}")
        data = self._source.read(count)
        if len(data) != count:
            raise DataError(f"{self._file} is cut short: a variable ends {self._left - len(data)} bytes early")
        self._left -= count
        return data

    def _wrong(self, expected: str, found: str) -> DataError:
        return DataError(f"{self._file} is not such a .mat file as expected: expected {expected}, found {found}")


def variables(path: Path) -> Iterator[Variable]:
    """The variables of a file in its order; what the caller does not read of one is passed over before the next.

    Raises:
        DataError: it cannot be read, is cut short or damaged, is not a little-endian MATLAB 5 file, or has something
            in it that is not a real array of class uint8 or double.
    """
    try:
        with open(path, "rb") as stream:
            _check_header(stream.read(128), path.name)
            while tag := stream.read(8):
                variable = _begin(tag, stream, path.name)
                yield variable
                variable.finish()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror})") from error


def _check_header(header: bytes, file: str) -> None:
    if len(header) < 128 or not header.startswith(b"MATLAB 5.0") or header[124:128] != b"\x00\x01IM":
        found = f"{header[:10]!r} and version {header[124:128]!r}" if len(header) == 128 else f"{len(header)} bytes"
        raise DataError(
            f"{file} is not a little-endian MATLAB 5 file: expected 'MATLAB 5.0' and '\\x00\\x01IM', found {found}"
        )


def _begin(tag: bytes, stream: BinaryIO, file: str) -> Variable:
    kind, length = _whole_tag(tag, file)
    source: _Bytes = _Plain(stream)
    if kind == _COMPRESSED:
        source = _Inflated(stream, length, file)
        kind, length = _whole_tag(source.read(8), file)
    if kind != _MATRIX:
        raise DataError(f"{file} has an element of type {kind} where a variable was expected")
    return Variable(file, source, length)


def _whole_tag(tag: bytes, file: str) -> tuple[int, int]:
    """Type and length of an element that must not be a short one."""
    if len(tag) < 8:
        raise DataError(f"{file} is cut short: it ends in a tag")
    kind, length = struct.unpack("<II", tag)
    return kind, length


class _Plain:
    """A variable as it is in the file."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, count: int) -> bytes:
        return self._stream.read(count)

    def end(self) -> None:
        """The next element follows at once."""


class _Inflated:
    """A variable inside a zlib stream of `length` bytes, inflated as it is read."""

    def __init__(self, stream: BinaryIO, length: int, file: str) -> None:
        self._stream, self._left, self._file = stream, length, file
        self._zlib = zlib.decompressobj()
        self._pending = b""

    def read(self, count: int) -> bytes:
        pieces = []
        while count and not self._zlib.eof:
            if not self._pending:
                self._pending = self._stream.read(min(self._left, _COMPRESSED_PIECE))
                self._left -= len(self._pending)
            try:
                piece = self._zlib.decompress(self._pending, count)
            except zlib.error as error:
                raise DataError(f"{self._file} is damaged: {error}") from error
            if not piece and not self._pending:
                break  # nothing left to inflate, and nothing came of it: the file ends here
            self._pending = self._zlib.unconsumed_tail
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def end(self) -> None:
        if self.read(1) or not self._zlib.eof:
            raise DataError(f"{self._file} is damaged: a compressed variable does not end where its length says")
        if self._left or self._zlib.unused_data or self._pending:
            raise DataError(f"{self._file} is damaged: there is something behind a compressed variable")
