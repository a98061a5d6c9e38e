"""Seals: every file of a run folder that is read back carries its own SHA-256, which is checked before it is parsed.

A file and its seal are one file, so that one rename puts both in place.

* JSON text: its first field is "sha256", the digest of every byte after that line.
* npz archive: the zip comment, which ends the file, is "<name> of run <run> sha256 <digest>" and a line break. <run> is
  the digest of the run's run.json, and the digest is of every byte before its own digits. So the file of another run,
  or another file of this one, is no match either.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_FIRST_FIELD = re.compile(rb'\{\n  "sha256": "([0-9a-f]{64})",')
_TAIL = 65  # the digits of a digest and a line break
_END = b"PK\x05\x06"  # begins the last 22 bytes of a zip archive without a comment


class SealError(Exception):
    """A seal that is missing, broken, or of something else; the message says which."""


def read_file(path: Path) -> bytes:
    """The bytes of a run's file, which may come from anybody.

    Raises:
        OSError: it is not there, or cannot be read.
        SealError: it is a folder, or what would be read for ever: a pipe, a device.
    """
    if path.exists() and not path.is_file():
        raise SealError("it is no file")
    return path.read_bytes()


def seal_json(text: bytes) -> bytes:
    """Formatted JSON text of an object, sealed."""
    rest = text.removeprefix(b"{")
    return b'{\n  "sha256": "%s",' % _sha256(rest) + rest


def open_json(data: bytes) -> tuple[str | None, bytes]:
    """The digest in the seal, None without a seal, and the text without it.

    Raises:
        SealError: the seal does not match.
    """
    found = _FIRST_FIELD.match(data)
    if found is None:
        return None, data
    rest = data[found.end() :]
    if _sha256(rest) != found[1]:
        raise SealError("it does not match its SHA-256")
    return found[1].decode(), b"{" + rest


def seal_arrays(arrays: Mapping[str, np.ndarray], name: str, run: str) -> memoryview:
    """An npz archive of these arrays, sealed as the file `name` of a run."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    label = _label(name, run)
    buffer.seek(-2, io.SEEK_END)  # the length of the comment, which follows
    buffer.write((len(label) + _TAIL).to_bytes(2, "little") + label)
    digest = _sha256(buffer.getbuffer())
    buffer.write(digest + b"\n")
    return buffer.getbuffer()


def open_arrays(data: bytes, name: str, run: str, *, unsealed: bool = False) -> dict[str, np.ndarray]:
    """The arrays of a sealed archive. No pickle is read.

    Args:
        name, run: what it must be sealed as.
        unsealed: also take an archive without a seal, if its own checksums (CRC-32) are right.

    Raises:
        SealError: there is no seal, it does not match, or it is of another file or run; or this is no archive.
    """
    check_archive(data, name, run, unsealed=unsealed)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # whatever zipfile and numpy make of damage that a CRC-32 does not cover
        raise SealError(str(error) or type(error).__name__) from error


def check_archive(data: bytes, name: str, run: str, *, unsealed: bool = False) -> None:
    """What `open_arrays` checks before it parses anything."""
    if unsealed and data[-22:-18] == _END and data[-2:] == bytes(2):
        _check_members(data)
        return
    view, label = memoryview(data), _label(name, run)
    if data[-_TAIL:] != _sha256(view[:-_TAIL]) + b"\n":
        raise SealError("it does not match its SHA-256")
    if not data[:-_TAIL].endswith(label):
        raise SealError("it is of another run, or another file of this one")


def _check_members(data: bytes) -> None:
    """Read every member to its end, where zipfile compares its CRC-32: numpy alone stops where the array ends."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            bad = archive.testzip()
    except Exception as error:  # zipfile raises a dozen types on damaged headers
        raise SealError(str(error) or type(error).__name__) from error
    if bad is not None:
        raise SealError(f"Bad CRC-32 of {bad}")


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _label(name: str, run: str) -> bytes:
    return f"{name} of run {run} sha256 ".encode()
