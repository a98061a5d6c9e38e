"""Files of images larger than memory: written through PyTables chunk by chunk, resumed after any interruption.

The file comes out as data_prep.storage.store describes, and is checked and listed as any other. Its header says
where in it the arrays begin, so that images are read without HDF5; its attributes are what was known of it in the
beginning. While it is made, two files stand beside the place where it will be:

    NAME.h5.part       the file; it has its full length and its HDF5 structure from the beginning
    NAME.h5.journal    lines of JSON: what is being made, then one for each chunk that has reached the disk

A chunk is written, synced, and only then entered in the journal, so that after a kill or a power cut the journal names
nothing that is not in the file. When all chunks are there, the file is read back, compared with the journal, sealed and
renamed. PyTables opens only what this module has made: it would load pickles from the attributes of a foreign file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tables
from numpy.typing import NDArray

from data_prep.errors import StorageError
from data_prep.progress import Progress, bar
from data_prep.storage import store
from data_prep.storage.files import explained, need_space, put_in_place, replacing
from data_prep.svhn import chunks
from data_prep.svhn.chunks import Chunk, in_order, ranges

IMAGE_SHAPE = (3, 32, 32)
IMAGE_VALUES = 3 * 32 * 32
_SUPERBLOCK = 96  # bytes with which HDF5 begins
_CONSISTENCY_FLAGS = 20  # the one of them that says whether a program is writing
_MOST_STRUCTURE = 1 << 20  # far more than HDF5 puts behind the arrays


@dataclass(frozen=True)
class Plan:
    """What a file is to hold.

    Attributes:
        files: number of images of each official file, in the order they are stored.
        dtype: of the stored images, "uint8" or "float32".
        settings: that make it, by name: a file begun with others is begun anew.
    """

    dataset: str
    variant: str | None
    root: Path
    files: tuple[int, ...]
    dtype: str
    settings: Mapping[str, store.Setting]

    @property
    def path(self) -> Path:
        return store.path_of(self.dataset, self.root, self.variant)

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def journal(self) -> Path:
        return self.path.with_name(self.path.name + ".journal")

    @property
    def count(self) -> int:
        return sum(self.files)

    @property
    def image_bytes(self) -> int:
        return IMAGE_VALUES * np.dtype(self.dtype).itemsize

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return self.count * (self.image_bytes + 1)

    @property
    def created_by(self) -> str:
        return f"data_prep with tables {tables.__version__}, HDF5 {tables.hdf5_version}"

    def identity(self) -> dict[str, Any]:
        """All that the content of the file depends on: the first line of the journal."""
        return {
            "format": store.FORMAT,
            "dataset": self.dataset,
            "variant": self.variant,
            "files": list(self.files),
            "chunk": chunks.CHUNK,
            "dtype": self.dtype,
            "settings": dict(self.settings),
            "created_by": self.created_by,
        }


@contextmanager
def construction(plan: Plan) -> Iterator[Construction]:
    """Begin a file, or go on with one that was interrupted.

    Raises:
        StorageError: it cannot be written, or the disk has too little space.
    """
    with _explained(plan.part):
        made = Construction(plan)
    try:
        yield made
    finally:
        with _explained(plan.part):
            made.close()


class Construction:
    """A file that is being made; `construction` gives one.

    Attributes:
        finished: the entries of the journal, one for each chunk that need not be made again.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self._ranges = plan, ranges(plan.files)
        if not _resumable(plan):
            try:
                _begin(plan)
            except BaseException:
                plan.part.unlink(missing_ok=True)  # or it would keep what it got of a full disk
                raise
        first, self.finished = _read_journal(plan)
        self._places: dict[str, int] = first["places"]
        self._journal = open(plan.journal, "r+b")  # noqa: SIM115 - closed by close()
        self._journal.seek(0)
        for _ in range(1 + len(self.finished)):
            self._journal.readline()
        self._journal.truncate()  # of a line that a kill cut short
        self._file = tables.open_file(str(plan.part), "a")

    @property
    def measured(self) -> list[list[float]]:
        """What was measured of each finished chunk."""
        return [entry["measured"] for entry in self.finished]

    def close(self) -> None:
        """End the writing, finished or not."""
        self._journal.close()
        self._file.close()

    def add(self, chunk: Chunk) -> None:
        """Write the next chunk and enter it in the journal.

        Raises:
            StorageError: it cannot be written.
        """
        rows = self._ranges[len(self.finished)]
        entry = {"sha256": chunk.digest, "measured": chunk.measured}
        with _explained(self.plan.part):
            self._file.root.images[rows.start : rows.stop] = chunk.images
            self._sync()
            self._check_written(rows, chunk.images)
            self._journal.write(json.dumps(entry).encode() + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        self.finished.append(entry)

    def complete(
        self, labels: NDArray[np.uint8], origin: str, statistics: Mapping[str, float], progress: Progress
    ) -> None:
        """Write the labels, read the file back, seal it and put it in its place.

        Raises:
            StorageError: it cannot be written, or what is read back is not what was written.
        """
        plan = self.plan
        assert len(self.finished) == len(self._ranges), "all chunks"
        with _explained(plan.part):
            self._file.root.labels[:] = labels
            self._sync()
            self.close()
            digest = _digest(plan, self.finished, labels)
            size = plan.part.stat().st_size
            header = store.Header(
                store.FORMAT,
                plan.dataset,
                origin,
                digest,
                size,
                plan.created_by,
                dict(statistics),
                plan.variant,
                dict(plan.settings),
                self._places,
            )
            text = store.header_text(header)
            seal = self._verified(text, labels, progress)
            with open(plan.part, "r+b") as stream:
                stream.write(seal.encode() + text)
                stream.flush()
                os.fsync(stream.fileno())
            plan.journal.unlink()
            put_in_place(plan.part, plan.path)

    def _sync(self) -> None:
        """Bring to the disk what PyTables was given."""
        self._file.flush()
        descriptor = os.open(self.plan.part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _check_written(self, rows: range, images: NDArray[Any]) -> None:
        """Be sure that a chunk is in the file: PyTables does not tell when flushing fails."""
        offset = self._places["images"] + rows.start * self.plan.image_bytes
        written = images.reshape(-1).view(np.uint64)
        if not np.array_equal(written, np.fromfile(self.plan.part, np.uint64, written.size, offset=offset)):
            raise _unwritten(self.plan.part)

    def _verified(self, text: bytes, labels: NDArray[np.uint8], progress: Progress) -> str:
        """The seal of the file with `text` as its header, computed from what is read back."""
        plan, seal = self.plan, hashlib.sha256(text)
        labels_at, images_at = self._places["labels"], self._places["images"]
        with open(plan.part, "rb") as stream, bar(progress, f"verifying {plan.path.stem}", plan.size):

            def read_up_to(end: int) -> bytes:
                content = stream.read(end - stream.tell())
                seal.update(content)
                progress.advance(len(content))
                return content

            stream.seek(store.USER_BLOCK)
            read_up_to(labels_at)
            stored_labels = read_up_to(labels_at + plan.count)
            read_up_to(images_at)
            chunks = (read_up_to(images_at + rows.stop * plan.image_bytes) for rows in self._ranges)
            found = in_order(lambda content: hashlib.sha256(content).hexdigest(), chunks)
            wrong = sum(digest != entry["sha256"] for digest, entry in zip(found, self.finished, strict=True))
            read_up_to(os.fstat(stream.fileno()).st_size)
        if wrong or stored_labels != labels.tobytes():
            plan.journal.unlink()
            raise StorageError(f"what was read back from {plan.part} is not what was written to it: check the disk")
        return seal.hexdigest()


def _digest(plan: Plan, finished: Sequence[Mapping[str, Any]], labels: NDArray[np.uint8]) -> str:
    """SHA-256 over type and number of the images, the SHA-256 of each chunk, and the labels.

    That of the chunks, so that after an interruption the images written before need not all be read again for it.
    """
    digest = hashlib.sha256(f"{plan.dtype} {plan.count} {chunks.CHUNK}\n".encode())
    for entry in finished:
        digest.update(bytes.fromhex(entry["sha256"]))
    digest.update(labels.tobytes())
    return digest.hexdigest()


def _begin(plan: Plan) -> None:
    """Make the file with nothing in it, take its space on the disk, and begin the journal."""
    for left_over in (plan.journal, plan.part):
        left_over.unlink(missing_ok=True)
    need_space(plan.root, plan.size, f"preparing {plan.path.stem}")
    with tables.open_file(str(plan.part), "w", user_block_size=store.USER_BLOCK) as file:
        # No times of creation: the same content is to give the same bytes.
        for name, atom, shape in (
            ("labels", tables.UInt8Atom(), (plan.count,)),
            ("images", tables.Atom.from_dtype(np.dtype(plan.dtype)), (plan.count, *IMAGE_SHAPE)),
        ):
            array = file.create_array("/", name, atom=atom, shape=shape, track_times=False)
            array[-1:] = 0  # HDF5 gives an array its place in the file when something is written to it
        attributes = {"format": store.FORMAT, "dataset": plan.dataset, "created_by": plan.created_by, **plan.settings}
        attributes |= {"variant": plan.variant} if plan.variant else {}
        for name, value in attributes.items():
            file.root._v_attrs[name] = value
    places = _places(plan)
    with open(plan.part, "r+b") as stream:
        if hasattr(os, "posix_fallocate"):  # from here on the disk cannot be too full for it
            os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
        os.fsync(stream.fileno())
    line = {**plan.identity(), "places": places, "structure": _structure(plan, places)}
    with replacing(plan.journal) as stream:
        stream.write(json.dumps(line).encode() + b"\n")


def _places(plan: Plan) -> dict[str, int]:
    """Where in the file, which must be whole, each array begins; an array is in one piece."""
    import h5py  # PyTables does not tell

    try:
        with h5py.File(plan.part, "r") as file:
            return {name: file[name].id.get_offset() for name in ("labels", "images")}
    except OSError as error:
        raise _unwritten(plan.part) from error


def _structure(plan: Plan, places: Mapping[str, int]) -> str:
    """SHA-256 of all that is in the file beside the arrays, which stays as it is while they are filled."""
    pieces = ((places["labels"], plan.count), (places["images"], plan.count * plan.image_bytes))
    digest = hashlib.sha256()
    with open(plan.part, "rb") as stream:
        stream.seek(store.USER_BLOCK)
        superblock = bytearray(stream.read(_SUPERBLOCK))
        superblock[_CONSISTENCY_FLAGS] = 0
        digest.update(superblock)
        for start, size in pieces:
            digest.update(stream.read(start - stream.tell()))
            stream.seek(start + size)
        digest.update(stream.read(_MOST_STRUCTURE))
        digest.update(str(os.fstat(stream.fileno()).st_size).encode())
    return digest.hexdigest()


def _read_journal(plan: Plan) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is being made, and the entries of the chunks that are."""
    lines = plan.journal.read_bytes().split(b"\n")[:-1]  # what follows the last line break was cut short by a kill
    first, *entries = [json.loads(line) for line in lines]
    return first, entries


def _resumable(plan: Plan) -> bool:
    """Whether the construction of the same file was interrupted, and can be gone on with."""
    try:
        first, _ = _read_journal(plan)
        places, structure = first.pop("places"), first.pop("structure")
        return bool(first == plan.identity() and structure == _structure(plan, places))
    except (FileNotFoundError, ValueError, LookupError, AttributeError, TypeError):
        return False


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of the operating system and of HDF5, as a StorageError of one line."""
    try:
        with explained(path):
            yield
    except tables.HDF5ExtError as error:
        raise _unwritten(path) from error


def _unwritten(path: Path) -> StorageError:
    """HDF5 did not write all it should have, and does not say why."""
    return StorageError(f"no space left to write {path}, or the disk fails: free some space")
