"""Weights published with a record: what its network needs to be evaluated, small enough for the repository.

The record has the SHA-256 and the length of their bytes as `packed_weights.pack` gives them. What these are stored in,
`weights/<benchmark>/<record id>` beside the folder of records, is a file for others, `.safetensors` (see
`weights_file`), or, of records of earlier versions, these bytes as they are, `.weights`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from results.errors import RegistryError, RegistryFileError, field_and_message
from results.files import read_whole, restoring, write_atomically
from results.packed_weights import unpack
from results.record import PublishedWeights, Record
from results.weights_file import packed_in

if TYPE_CHECKING:
    import numpy as np

SUFFIX, OLD_SUFFIX = SUFFIXES = ".safetensors", ".weights"
# What a git repository should hold of one run: the binary networks of the catalog, but for BinaryNet's 3x4096 for
# MNIST and the widened VGGNet7.
LARGEST = 2_000_000  # bytes
# By how much a .safetensors file may be longer than the bytes that it stores: names, settings, scales.
HEADER_ROOM = 2**20
# The content of a `.safetensors` file, from a record and its weights as `pack` gave them.
FileOf = Callable[[Record, bytes], bytes]


def described(data: bytes) -> PublishedWeights:
    """What the record says of weights, from the bytes that `pack` gave."""
    return PublishedWeights(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def folder_of(registry: Path) -> Path:
    """Where the weights lie that belong to the records under `registry`."""
    return registry.parent / "weights"


def path_of(registry: Path, benchmark: str, record_id: str) -> Path:
    """The file of a record's weights: the one that is there; else where it is to be."""
    return present(folder_of(registry) / benchmark / f"{record_id}{SUFFIX}")


def present(path: Path) -> Path:
    """The path, or that of an earlier version's file if that one alone is there."""
    old = path.with_suffix(OLD_SUFFIX)
    return old if old.exists() and not path.exists() else path


def store(record: Record, registry: Path, packed: bytes, file_of: FileOf | None = None) -> Path:
    """Write the weights of a record, unless they are there; the path of their file.

    Args:
        packed: as `pack` gave them.
        file_of: makes a `.safetensors` file's content of them; None: they are stored as they are, `.weights`.

    Raises:
        RegistryError: other weights lie there, or what `file_of` gives is not these.
        RegistryFileError: the file cannot be written.
    """
    path = path_of(registry, record.benchmark, record.id)
    if path.exists():
        if packed_at(path, len(packed)) != packed:
            raise RegistryError(f"{path}: content: is not what was recorded under this name; {restoring(path)}")
        return path
    if file_of is None:
        path = path.with_suffix(OLD_SUFFIX)
        write_atomically(path, packed)
    else:
        write_atomically(path, checked_content(record, packed, file_of, path))
    return path


def checked_content(record: Record, packed: bytes, file_of: FileOf, path: Path) -> bytes:
    """What `file_of` makes of a record's weights. Raises RegistryError, naming `path`, if that is not these."""
    content = file_of(record, packed)
    if packed_in(content, str(path)) != packed:
        raise RegistryError(f"{path}: content: the weights have another form than they are published in")
    return content


def read(record: Record, registry: Path) -> dict[str, np.ndarray]:
    """The parameters published with a record.

    Raises:
        RegistryError: the record has no weights, or the file is not the one that was published.
        RegistryFileError: it cannot be read.
    """
    path = path_of(registry, record.benchmark, record.id)
    return unpack(read_packed(record, registry), str(path))


def read_packed(record: Record, registry: Path) -> bytes:
    """The same as bytes, as `pack` gave them."""
    if record.published_weights is UNSET:
        raise RegistryError(
            f"record {record.id} of {record.benchmark} has no published weights: a run has them if it scores and its"
            f" network takes no more than {LARGEST:,} bytes, as signs or, where those are evaluated, as numbers"
        )
    path = path_of(registry, record.benchmark, record.id)
    found = _checked(path, record.published_weights)
    if isinstance(found, str):
        raise RegistryError(f"{path}: {found}; {restoring(path)}", "content")
    return found


def problems(record: Record, registry: Path) -> Iterator[str]:
    """What is wrong with the weights published with a record; nothing if it has none."""
    return problems_at(path_of(registry, record.benchmark, record.id), record)


def problems_at(path: Path, record: Record) -> Iterator[str]:
    """`problems`, of weights that lie at `path`."""
    if record.published_weights is not UNSET and isinstance(found := _checked(path, record.published_weights), str):
        yield found


def packed_at(path: Path, largest: int) -> bytes | None:
    """The bytes that the file at `path` stores, of at most so many; None if there is no file.

    Raises:
        RegistryError: it is no file of weights, or larger.
        RegistryFileError: it cannot be read.
    """
    try:
        if path.is_file() and path.stat().st_size > largest + HEADER_ROOM:
            raise RegistryError(f"{path}: content: has {path.stat().st_size:,} bytes, expected {largest:,}", "content")
        data = read_whole(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegistryFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    return data if path.suffix == OLD_SUFFIX else packed_in(data, str(path))


def _checked(path: Path, expected: PublishedWeights) -> bytes | str:
    """The bytes that the file at `path` stores, or what is wrong with it."""
    try:
        data = packed_at(path, expected.bytes)
    except RegistryFileError:
        raise
    except RegistryError as error:
        return field_and_message(error, path)[1]
    if data is None:
        return "is missing"
    found = described(data)
    if found == expected:
        return data
    return (
        f"has {found.bytes} bytes with the sha256 {found.sha256}, by the record {expected.bytes} with {expected.sha256}"
    )
