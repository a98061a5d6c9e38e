"""Prepared arrays on disk: one HDF5 file a data set, whole or absent, that proves its own content.

The file is ordinary HDF5 with a user block, the first 1024 bytes, which HDF5 leaves alone:

    bytes 0..63       SHA-256, in hexadecimal, of everything from byte 64 on
    bytes 64..1023    a line break, the header as JSON, spaces
    from byte 1024    HDF5: the arrays, and the header once more as attributes, for HDF5 tools

Nothing is given to the HDF5 library before the file has proved to be intact: it can crash on a damaged one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import DamagedDataError, DataError, MissingDataError, preparing
from data_prep.files import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Raised by one whenever a file written before could be misread; such a file is refused and prepared again.
FORMAT = 1
_USER_BLOCK = 1024  # HDF5 wants a power of two from 512 on
_SEAL = 64  # hexadecimal digits of a SHA-256


@dataclass(frozen=True)
class Header:
    """What a stored file says of itself.

    Attributes:
        format: version of this layout.
        dataset: name of the data set.
        origin: where the content came from.
        digest: SHA-256 of the arrays, see `digest_of`.
        bytes: length of the file.
        created_by: the libraries that wrote it.
        statistics: of the content, by name.
    """

    format: int
    dataset: str
    origin: str
    digest: str
    bytes: int
    created_by: str
    statistics: dict[str, float]


def path_of(dataset: str, root: Path) -> Path:
    """The file of a data set under the data folder `root`."""
    return root / f"{dataset}.h5"


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every C-contiguous array, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def write(
    dataset: str, root: Path, arrays: Mapping[str, NDArray[Any]], origin: str, statistics: Mapping[str, float]
) -> None:
    """Store `arrays` under `root`, replacing what was stored before only when the new file is complete.

    The file is composed in memory, so that a full disk is met by one plain write and not inside the HDF5 library.

    Raises:
        StorageError: the file cannot be written.
    """
    import h5py

    created_by = f"data_prep with h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
    digest = digest_of(arrays)
    image = io.BytesIO()
    with h5py.File(image, "w", userblock_size=_USER_BLOCK) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.attrs.update({"format": FORMAT, "dataset": dataset, "origin": origin, "created_by": created_by})
        file.attrs.update({"digest": digest, **statistics})
    content = image.getbuffer()
    header = Header(FORMAT, dataset, origin, digest, len(content), created_by, dict(statistics))
    text = b"\n" + json.dumps(asdict(header)).encode()
    content[_SEAL:_USER_BLOCK] = text.ljust(_USER_BLOCK - _SEAL)
    content[:_SEAL] = hashlib.sha256(content[_SEAL:]).hexdigest().encode()
    write_atomically(path_of(dataset, root), content)


def read(dataset: str, root: Path, expected_digest: str) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Header and all arrays of a stored data set, proved to be those of `expected_digest`.

    Raises:
        MissingDataError: it was never prepared.
        DamagedDataError: the file is not intact, is of another format, or holds other arrays.
        DataError: the file may not be read.
    """
    import h5py

    path = path_of(dataset, root)
    content = memoryview(_bytes(dataset, root))
    header = _header(dataset, path, bytes(content[:_USER_BLOCK]), len(content))
    seal, found = bytes(content[:_SEAL]).decode("ascii", "replace"), hashlib.sha256(content[_SEAL:]).hexdigest()
    if seal != found:
        raise DamagedDataError(f"{path} is damaged: expected sha256 {seal} of its content, found {found}", dataset)
    with h5py.File(io.BytesIO(content), "r") as file:
        arrays = {name: file[name][()] for name in file}
    found = digest_of(arrays)
    if not header.digest == found == expected_digest:
        reason = f"{path} is not {dataset}: expected sha256 {expected_digest} of its arrays, found {found}"
        raise DamagedDataError(reason, dataset)
    return header, arrays


def glance(dataset: str, root: Path) -> Header:
    """The header alone; of the rest only the length is checked.

    Raises:
        MissingDataError, DamagedDataError, DataError: as `read`, as far as can be seen.
    """
    path = path_of(dataset, root)
    block = _bytes(dataset, root, _USER_BLOCK)
    return _header(dataset, path, block, path.stat().st_size)


def _bytes(dataset: str, root: Path, most: int = -1) -> bytes:
    path = path_of(dataset, root)
    try:
        with open(path, "rb") as stream:
            return stream.read(most)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingDataError(f"{dataset} is not prepared in {root}: {preparing(dataset)}") from None
    except OSError as error:
        reason = f"cannot read {path} ({error.strerror}): make it readable, or remove it"
        raise DataError(f"{reason} and {preparing(dataset)}") from error


def _header(dataset: str, path: Path, block: bytes, length: int) -> Header:
    try:
        fields = json.loads(block[_SEAL:])
        version = fields["format"]
        header = Header(**fields) if version == FORMAT else None
    except (ValueError, KeyError, TypeError):
        raise DamagedDataError(f"{path} is damaged: it does not begin as a prepared data set", dataset) from None
    if header is None:
        raise DamagedDataError(f"{path} has format {version}: this version of the project reads {FORMAT}", dataset)
    if header.dataset != dataset:
        raise DamagedDataError(f"{path} holds {header.dataset}, not {dataset}", dataset)
    if header.bytes != length:
        raise DamagedDataError(f"{path} is damaged: expected {header.bytes} bytes, found {length}", dataset)
    return header
