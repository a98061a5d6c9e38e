"""Weights published with a record: what its network needs to be evaluated, small enough for the repository.

A file of weights, `weights/<benchmark>/<record id>.weights` beside the folder of records, is

    binary network weights 1
    [["conv1.weight",[32,1,5,5],"signs"],["bn1.gamma",[32],"float32"],...]
    the values of each of them, in this order, without anything between

Lines end with a line break, the second is canonical JSON. "signs": one bit a value in C order, eight a byte, the first
in the highest bit, 1 for plus and 0 for minus, zeros at the end. "float32": little-endian, in C order. The same values
give the same bytes, and a reader needs a dozen lines of any language. The record has the file's SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET

from results.errors import RegistryError, RegistryFileError
from results.record import PublishedWeights, Record
from results.record.canonical import canonical_json

if TYPE_CHECKING:
    import numpy as np

FIRST_LINE = b"binary network weights 1\n"
SUFFIX = ".weights"
# What a git repository should hold of one run: the binary networks of the catalog, but for BinaryNet's 3x4096 for
# MNIST and the widened VGGNet7.
LARGEST = 2_000_000  # bytes

_Entry = tuple[str, tuple[int, ...], Literal["signs", "float32"]]


def pack(parameters: Mapping[str, np.ndarray], signs: Collection[str]) -> bytes:
    """The content of a file with these parameters, in this order.

    Args:
        parameters: float32 arrays by name.
        signs: names of those of which the sign is kept: no value of theirs is 0.
    """
    import numpy as np

    parts = [
        np.packbits(value.reshape(-1) > 0).tobytes() if name in signs else np.ascontiguousarray(value, "<f4").tobytes()
        for name, value in parameters.items()
    ]
    return b"".join([_head({name: value.shape for name, value in parameters.items()}, signs), *parts])


def _head(shapes: Mapping[str, tuple[int, ...]], signs: Collection[str]) -> bytes:
    entries = [[name, list(shape), "signs" if name in signs else "float32"] for name, shape in shapes.items()]
    return b"".join([FIRST_LINE, canonical_json(entries), b"\n"])


def packed_length(shapes: Mapping[str, tuple[int, ...]], signs: Collection[str]) -> int:
    """Bytes of what `pack` makes of parameters with these shapes."""
    kinds = {name: "signs" if name in signs else "float32" for name in shapes}
    return len(_head(shapes, signs)) + sum(_bytes_of(math.prod(shape), kinds[n]) for n, shape in shapes.items())


def unpack(data: bytes, name: str) -> dict[str, np.ndarray]:
    """The parameters in `data`, float32 by name, those of which the sign was kept as -1 and +1.

    Raises:
        RegistryError: not such a file, naming it by `name`.
    """
    import numpy as np

    entries, start = _entries(data, name)
    parameters: dict[str, np.ndarray] = {}
    for parameter, shape, kind in entries:
        count = math.prod(shape)
        length = _bytes_of(count, kind)
        part = data[start : start + length]
        if kind == "signs":
            bits = np.unpackbits(np.frombuffer(part, np.uint8), count=count)
            values = bits.astype(np.float32) * 2 - 1
        else:
            values = np.frombuffer(part, "<f4").astype(np.float32)
        parameters[parameter] = values.reshape(shape)
        start += length
    return parameters


def _entries(data: bytes, name: str) -> tuple[list[_Entry], int]:
    """What the file holds, and where its first value begins; the length fits."""
    first, second, values = FIRST_LINE, data[len(FIRST_LINE) :].partition(b"\n")[0], 0
    if data.startswith(first):
        try:
            entries = msgspec.convert(json.loads(second), list[_Entry], strict=False)
        except (ValueError, msgspec.ValidationError):
            entries = []
        start = len(first) + len(second) + 1
        values = sum(_bytes_of(math.prod(shape), kind) for _, shape, kind in entries)
        if entries and all(n >= 0 for _, shape, _ in entries for n in shape) and len(data) == start + values:
            return entries, start
    raise RegistryError(f"{name}: is no whole file of weights, which begins with {first.decode().strip()!r}", "content")


def _bytes_of(count: int, kind: str) -> int:
    return (count + 7) // 8 if kind == "signs" else 4 * count


def described(data: bytes) -> PublishedWeights:
    """What the record says of a file of weights."""
    return PublishedWeights(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def folder_of(registry: Path) -> Path:
    """Where the weights lie that belong to the records under `registry`."""
    return registry.parent / "weights"


def path_of(registry: Path, benchmark: str, record_id: str) -> Path:
    """The file of a record's weights."""
    return folder_of(registry) / benchmark / f"{record_id}{SUFFIX}"


def read(record: Record, registry: Path) -> dict[str, np.ndarray]:
    """The parameters published with a record.

    Raises:
        RegistryError: the record has no weights, or the file is not the one that was published.
        RegistryFileError: it cannot be read.
    """
    if record.published_weights is UNSET:
        raise RegistryError(
            f"record {record.id} of {record.benchmark} has no published weights: a run has them if it scores, evaluates"
            f" binary weights, and needs no more than {LARGEST:,} bytes for them"
        )
    path = path_of(registry, record.benchmark, record.id)
    for problem in problems(record, registry):
        raise RegistryError(f"{path}: {problem}; restore it (git checkout)", "content")
    return unpack(path.read_bytes(), str(path))


def problems(record: Record, registry: Path) -> Iterator[str]:
    """What is wrong with the weights published with a record; nothing if it has none."""
    return problems_at(path_of(registry, record.benchmark, record.id), record)


def problems_at(path: Path, record: Record) -> Iterator[str]:
    """`problems`, of weights that lie at `path`."""
    if record.published_weights is UNSET:
        return
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        yield "is missing"
        return
    except OSError as error:
        raise RegistryFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    found = described(data)
    if found != record.published_weights:
        yield (
            f"has {found.bytes} bytes with the sha256 {found.sha256}, by the record"
            f" {record.published_weights.bytes} with {record.published_weights.sha256}"
        )
