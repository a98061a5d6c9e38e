"""Prepared arrays on disk: one HDF5 file a data set, whole or absent, carrying the digest that proves its content."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DamagedDataError, DataError, MissingDataError, preparing
from data_prep.files import write_atomically

# Raised by one whenever a file written before could be misread; such a file is refused and prepared again.
FORMAT = 1
# What h5py raises on a file that is cut short, altered, or no HDF5 at all.
_UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)
_STATISTIC = "statistic "  # begins the names of the attributes that are statistics


@dataclass(frozen=True)
class Header:
    """What a stored file says of itself."""

    bytes: int  # of the file
    origin: str
    digest: str  # as stored; only `read` proves it
    statistics: dict[str, float]


def path_of(dataset: str, root: Path) -> Path:
    """The file of a data set under the data folder `root`."""
    return root / f"{dataset}.h5"


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every array, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def write(
    dataset: str, root: Path, arrays: Mapping[str, NDArray[Any]], origin: str, statistics: Mapping[str, float]
) -> None:
    """Store `arrays` under `root`, replacing what was stored before only when the new file is complete.

    The HDF5 file is composed in memory, so that a full disk is met by one plain write and not inside the HDF5 library.

    Raises:
        StorageError: the file cannot be written.
    """
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.attrs["format"] = FORMAT
        file.attrs["dataset"] = dataset
        file.attrs["origin"] = origin
        file.attrs["sha256"] = digest_of(arrays)
        file.attrs["created_by"] = f"data_prep with h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
        for name, value in statistics.items():
            file.attrs[_STATISTIC + name] = value
    write_atomically(path_of(dataset, root), image.getbuffer())


def read(dataset: str, root: Path, expected_digest: str) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Header and all arrays of a stored data set, proved to be those of `expected_digest`.

    Raises:
        MissingDataError: it was never prepared.
        DamagedDataError: the file cannot be read, is of another format, or holds other arrays.
    """
    path = _existing(dataset, root)
    try:
        with h5py.File(path, "r", locking=False) as file:  # never changed in place: needs no lock, on any file system
            header = _header(dataset, path, file)
            arrays = {name: file[name][()] for name in file}
        found = digest_of(arrays)
    except _UNREADABLE as error:
        raise _unreadable(dataset, path, error) from error
    if not header.digest == found == expected_digest:
        reason = f"{path} is damaged: expected sha256 {expected_digest} of its arrays, found {found}"
        raise DamagedDataError(reason, dataset)
    return header, arrays


def glance(dataset: str, root: Path) -> Header:
    """The header alone, without reading or proving the arrays.

    Raises:
        MissingDataError, DamagedDataError: as `read`, as far as can be seen.
    """
    path = _existing(dataset, root)
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _header(dataset, path, file)
    except _UNREADABLE as error:
        raise _unreadable(dataset, path, error) from error


def _existing(dataset: str, root: Path) -> Path:
    path = path_of(dataset, root)
    try:
        open(path, "rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingDataError(f"{dataset} is not prepared in {root}: {preparing(dataset)}") from None
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}): make it readable, or {preparing(dataset)}") from error
    return path


def _header(dataset: str, path: Path, file: h5py.File) -> Header:
    attributes = dict(file.attrs)
    if attributes["format"] != FORMAT:
        reason = f"{path} has format {attributes['format']}, and this version of the project reads format {FORMAT}"
        raise DamagedDataError(reason, dataset)
    if attributes["dataset"] != dataset:
        raise DamagedDataError(f"{path} holds {attributes['dataset']}, not {dataset}", dataset)
    statistics = {
        name.removeprefix(_STATISTIC): float(value) for name, value in attributes.items() if name.startswith(_STATISTIC)
    }
    return Header(path.stat().st_size, str(attributes["origin"]), str(attributes["sha256"]), statistics)


def _unreadable(dataset: str, path: Path, error: Exception) -> DamagedDataError:
    first_line = (str(error) or type(error).__name__).splitlines()[0]
    return DamagedDataError(f"{path} is damaged: it cannot be read ({first_line})", dataset)
