"""Prepared arrays on disk: one HDF5 file a data set or variant, whole or absent, that proves its own content.

The file is ordinary HDF5 with a user block, the first 1024 bytes, which HDF5 leaves alone:

    bytes 0..63       SHA-256, in hexadecimal, of everything from byte 64 on
    bytes 64..1023    a line break, the header as JSON, spaces
    from byte 1024    HDF5: the arrays, each in one piece, and the header once more as attributes, for HDF5 tools

Nothing is given to the HDF5 library before the file has proved to be intact: it can crash on a damaged one. Arrays are
read as memory maps: they cost memory only where they are looked at, and that is given back when it runs short.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import DamagedDataError, DataError, MissingDataError, preparing
from data_prep.storage.files import replacing

if TYPE_CHECKING:
    import h5py
    import numpy as np
    from numpy.typing import NDArray

# Raised by one whenever a file written before could be misread; such a file is refused and prepared again.
FORMAT = 1
USER_BLOCK = 1024  # HDF5 wants a power of two from 512 on
_SEAL = 64  # hexadecimal digits of a SHA-256
_DTYPES = ("|u1", "<f4")  # of all that is stored
Setting = str | int | float | bool


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
        variant: which preprocessing of the data set it holds; None: the published images themselves.
        settings: that made the variant, by name.
        places: offsets of arrays in the file, for those that are read without the HDF5 library.
    """

    format: int
    dataset: str
    origin: str
    digest: str
    bytes: int
    created_by: str
    statistics: dict[str, float]
    variant: str | None = None
    settings: dict[str, Setting] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)


def path_of(dataset: str, root: Path, variant: str | None = None) -> Path:
    """The file of a data set, or of one variant of it, under the data folder `root`."""
    return root / (f"{dataset}-{variant}.h5" if variant else f"{dataset}.h5")


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every C-contiguous array, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def write(
    dataset: str,
    root: Path,
    arrays: Mapping[str, NDArray[Any]],
    origin: str,
    statistics: Mapping[str, float],
    variant: str | None = None,
    settings: Mapping[str, Setting] | None = None,
) -> None:
    """Store `arrays` under `root`, replacing what was stored before only when the new file is complete.

    Raises:
        StorageError: the file cannot be written.
    """
    import h5py

    created_by = f"data_prep with h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
    digest, settings = digest_of(arrays), dict(settings or {})
    attributes = {"format": FORMAT, "dataset": dataset, "origin": origin, "created_by": created_by, "digest": digest}
    attributes |= {"variant": variant} if variant else {}
    skeleton, places = _skeleton(arrays, {**attributes, **settings, **statistics})
    header = Header(FORMAT, dataset, origin, digest, skeleton.length, created_by, dict(statistics), variant, settings)
    text = header_text(header)
    seal = hashlib.sha256()
    with replacing(path_of(dataset, root, variant)) as stream:
        stream.write(bytes(_SEAL))
        for piece in itertools.chain([text], _pieces(skeleton, arrays, places)):
            seal.update(piece)
            stream.write(piece)
        stream.seek(0)
        stream.write(seal.hexdigest().encode())


def header_text(header: Header) -> bytes:
    """The user block of a file from byte 64 on."""
    text = (b"\n" + json.dumps(asdict(header)).encode()).ljust(USER_BLOCK - _SEAL)
    assert len(text) == USER_BLOCK - _SEAL, f"a header of {len(text)} bytes"
    return text


class _Sparse(io.RawIOBase):
    """A file in memory that keeps only what is written, not what is left out between."""

    def __init__(self) -> None:
        self.length = 0
        self._position = 0
        self._written: list[tuple[int, bytes]] = []

    def bytes(self, start: int, end: int) -> bytes:
        """What is in it from `start` up to `end`; zeros where nothing was written."""
        found = bytearray(end - start)
        for position, data in self._written:
            first, last = max(position, start), min(position + len(data), end)
            if first < last:
                found[first - start : last - start] = data[first - position : last - position]
        return bytes(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.length}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        buffer[:] = self.bytes(self._position, self._position + len(buffer))
        self._position += len(buffer)
        return len(buffer)

    def write(self, data: Any) -> int:
        self._written.append((self._position, bytes(data)))
        self._position += len(data)
        self.length = max(self.length, self._position)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self.length = self._position if size is None else size
        return self.length


def _skeleton(
    arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
) -> tuple[_Sparse, list[tuple[int, str]]]:
    """All of the HDF5 file but the content of the arrays, and at which offset in it each of them belongs, in order.

    So the HDF5 library never meets a full disk, and no second copy of the arrays is made.
    """
    import h5py

    image, places = _Sparse(), []
    with h5py.File(image, "w", userblock_size=USER_BLOCK) as file:
        for name, array in arrays.items():
            creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            places.append((file.create_dataset(name, array.shape, array.dtype, dcpl=creation).id.get_offset(), name))
        file.attrs.update(attributes)
    return image, sorted(places)


def _pieces(
    skeleton: _Sparse, arrays: Mapping[str, NDArray[Any]], places: list[tuple[int, str]]
) -> Iterator[bytes | memoryview]:
    """The file from the end of the user block on, in order."""
    position = USER_BLOCK
    for offset, name in places:
        yield skeleton.bytes(position, offset)
        yield arrays[name].data.cast("B")
        position = offset + arrays[name].nbytes
    yield skeleton.bytes(position, skeleton.length)


def read(
    dataset: str, root: Path, expected_digest: str | None, variant: str | None = None
) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Header and all arrays of a stored data set, proved to be what was stored.

    Args:
        expected_digest: of the arrays, where it is known beforehand; None: the file's own seal has to do.

    Returns:
        The arrays are read-only memory maps; they stay what they are when another file takes the place of this one.

    Raises:
        MissingDataError: it was never prepared.
        DamagedDataError: the file is not intact, is of another format, or holds other arrays.
        DataError: the file may not be read.
    """
    path = path_of(dataset, root, variant)
    with _opened(dataset, root, variant) as stream:
        header = _header(dataset, variant, path, stream)
        _check_seal(dataset, variant, path, stream)
        arrays = _mapped(dataset, variant, path, stream)
    if expected_digest is not None:
        found = digest_of(arrays)
        if not header.digest == found == expected_digest:
            name = path.stem
            reason = f"{path} is not {name}: expected sha256 {expected_digest} of its arrays, found {found}"
            raise DamagedDataError(reason, dataset, variant)
    return header, arrays


def glance(dataset: str, root: Path, variant: str | None = None) -> Header:
    """The header alone; of the rest only the length is checked.

    Raises:
        MissingDataError, DamagedDataError, DataError: as `read`, as far as can be seen.
    """
    with _opened(dataset, root, variant) as stream:
        return _header(dataset, variant, path_of(dataset, root, variant), stream)


@contextmanager
def _opened(dataset: str, root: Path, variant: str | None) -> Iterator[io.BufferedReader]:
    path, mend = path_of(dataset, root, variant), preparing(dataset, variant)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"cannot read {path}: it is no file: remove it and {mend}")
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below; what is done inside has errors of its own
    except (FileNotFoundError, NotADirectoryError):
        raise MissingDataError(f"{path.stem} is not prepared in {root}: {mend}") from None
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}): make it readable, or remove it and {mend}") from error
    with stream:
        yield stream


def _header(dataset: str, variant: str | None, path: Path, stream: io.BufferedReader) -> Header:
    try:
        fields = json.loads(stream.read(USER_BLOCK)[_SEAL:])
        version = fields["format"]
        header = _typed(fields) if version == FORMAT else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        reason = f"{path} is damaged: it does not begin as a prepared data set"
        raise DamagedDataError(reason, dataset, variant) from None
    if header is None:
        found = repr(version)[:40]
        reason = f"{path} has format {found}: this version of the project reads {FORMAT}"
        raise DamagedDataError(reason, dataset, variant)
    held, length = path_of(header.dataset, path.parent, header.variant), os.fstat(stream.fileno()).st_size
    if held != path:
        raise DamagedDataError(f"{path} holds {held.stem}, not {path.stem}", dataset, variant)
    if header.bytes != length:
        raise DamagedDataError(f"{path} is damaged: expected {header.bytes} bytes, found {length}", dataset, variant)
    return header


def _typed(fields: Any) -> Header:
    """The header, once each field is known to have its type: whoever can compute a SHA-256 can seal anything.

    Raises:
        TypeError, ValueError: one has another.
    """
    header = Header(**fields)
    texts = (header.dataset, header.origin, header.digest, header.created_by)
    numbers = [header.bytes, *header.places.values()]
    wrong = (
        any(not isinstance(text, str) or not text.isprintable() for text in texts)
        or not isinstance(header.variant, str | None)
        or any(type(number) is not int or not 0 <= number < 1 << 62 for number in numbers)
        or any(type(value) not in (int, float) or not math.isfinite(value) for value in header.statistics.values())
        or any(not isinstance(value, Setting) for value in header.settings.values())
    )
    if wrong:
        raise TypeError("a field of another type")
    return header


def _check_seal(dataset: str, variant: str | None, path: Path, stream: io.BufferedReader) -> None:
    stream.seek(0)
    seal = stream.read(_SEAL).decode("ascii", "replace")
    found = hashlib.file_digest(stream, "sha256").hexdigest()
    if seal != found:
        reason = f"{path} is damaged: expected sha256 {seal} of its content, found {found}"
        raise DamagedDataError(reason, dataset, variant)


def _mapped(dataset: str, variant: str | None, path: Path, stream: io.BufferedReader) -> dict[str, NDArray[Any]]:
    """All arrays of an intact file, as views of it.

    That a file is sealed does not say who made it: nothing in it is followed out of it, and no array may be anything
    but numbers in one piece.
    """
    import h5py
    import numpy as np

    content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        with h5py.File(stream, "r") as file:
            places = {name: _place(file, name, len(content)) for name in file}
    # What h5py raises of a file that HDF5 finds wrong, from its superblock to its types, is any of these.
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        damage = f"{path} is damaged: its HDF5 structure is not that of a prepared data set ({reason})"
        raise DamagedDataError(damage, dataset, variant) from None
    return {
        name: np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape)
        for name, (dtype, shape, offset) in places.items()
    }


def _place(file: h5py.File, name: str, length: int) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape and offset of an array. Raises ValueError for whatever is no array of numbers in one piece."""
    import h5py

    is_own = isinstance(file.get(name, getlink=True), h5py.HardLink)  # a link of another kind leads to other files
    stored = file[name] if is_own else None
    if not isinstance(stored, h5py.Dataset) or stored.dtype.str not in _DTYPES or not stored.shape:
        raise ValueError(f"{name[:40]!r} is no array of numbers")
    offset = stored.id.get_offset()
    if offset is None or stored.chunks or stored.external or stored.is_virtual or offset + stored.nbytes > length:
        raise ValueError(f"{name[:40]!r} is not in one piece")
    return stored.dtype, stored.shape, offset
