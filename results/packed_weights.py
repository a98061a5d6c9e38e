"""The weights of a network as bytes: parameters in network order, each of a kind.

    binary network weights 1
    [["conv1.weight",[32,1,5,5],"signs"],["bn1.gamma",[32],"float32"],...]
    the values of each of them, in this order, without anything between

Lines end with a line break, the second is canonical JSON. Values are in C order, by kind:

- "float32", "float16": little-endian.
- "signs": one bit a value, 1 for plus and 0 for minus.
- "int2" to "int8": whole numbers of k bits, from -2^(k-1) to 2^(k-1) - 1, each as value + 2^(k-1).

Bits are eight a byte, the first in the highest bit and the highest bit of a number first, zeros at the end. The same
values give the same bytes: a record has their SHA-256 and length, whatever file stores them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from results.errors import RegistryError
from results.record.canonical import canonical_json

if TYPE_CHECKING:
    import numpy as np

FIRST_LINE = b"binary network weights 1\n"

Kind = Literal["float32", "float16", "signs", "int2", "int3", "int4", "int5", "int6", "int7", "int8"]
_Side = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Entry = tuple[str, Annotated[tuple[_Side, ...], msgspec.Meta(max_length=8)], Kind]


def bits_of(kind: str) -> int:
    """Bits of a value."""
    return {"float32": 32, "float16": 16, "signs": 1}.get(kind) or int(kind.removeprefix("int"))


def levels_of(kind: str) -> list[int]:
    """What each code of a kind that is stored in bits stands for, code 0 first; empty of floating-point values."""
    if kind.startswith("float"):
        return []
    half = 2 ** (bits_of(kind) - 1)
    return [-1, 1] if kind == "signs" else list(range(-half, half))


def entries_of(shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, Kind]) -> list[Entry]:
    """Name, shape and kind of each parameter in order; "float32" of those that `kinds` has not."""
    return [(name, tuple(shape), kinds.get(name, "float32")) for name, shape in shapes.items()]


def pack(parameters: Mapping[str, np.ndarray], kinds: Mapping[str, Kind]) -> bytes:
    """These parameters, in this order, as bytes.

    Args:
        parameters: float32 arrays by name.
        kinds: of those that are not "float32". Of "signs" the sign is kept: no value of theirs is 0.

    Raises:
        ValueError: values that a kind has not.
    """
    entries = entries_of({name: value.shape for name, value in parameters.items()}, kinds)
    return b"".join([head(entries), *(encode(parameters[name], kind) for name, _, kind in entries)])


def head(entries: list[Entry]) -> bytes:
    """The two lines in front of the values."""
    return b"".join([FIRST_LINE, canonical_json([[name, list(shape), kind] for name, shape, kind in entries]), b"\n"])


def packed_length(shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, Kind]) -> int:
    """Bytes of what `pack` makes of parameters with these shapes."""
    entries = entries_of(shapes, kinds)
    return len(head(entries)) + sum(bytes_of(shape, kind) for _, shape, kind in entries)


def encode(values: np.ndarray, kind: str) -> bytes:
    """The values of one parameter. Raises ValueError if the kind has not these."""
    import numpy as np

    if kind.startswith("float"):
        return np.ascontiguousarray(values, "<f4" if kind == "float32" else "<f2").tobytes()
    bits = bits_of(kind)
    codes = (values > 0).astype(np.int64) if kind == "signs" else values.astype(np.int64) + 2 ** (bits - 1)
    if kind != "signs" and not (np.array_equal(codes - 2 ** (bits - 1), values) and np.all(codes >> bits == 0)):
        raise ValueError(f"expected whole numbers from {levels_of(kind)[0]} to {levels_of(kind)[-1]} ({kind})")
    spread = codes.reshape(-1, 1) >> np.arange(bits)[::-1] & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1)).tobytes()


def decode(data: bytes, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """The values of one parameter, float32 of this shape, from what `encode` gave."""
    import numpy as np

    if kind.startswith("float"):
        return np.frombuffer(data, "<f4" if kind == "float32" else "<f2").astype(np.float32).reshape(shape)
    bits = bits_of(kind)
    spread = np.unpackbits(np.frombuffer(data, np.uint8), count=math.prod(shape) * bits).reshape(-1, bits)
    codes = spread.astype(np.int64) @ (1 << np.arange(bits)[::-1])
    values: np.ndarray = np.array(levels_of(kind), np.float32)[codes].reshape(shape)
    return values


def unpack(data: bytes, name: str) -> dict[str, np.ndarray]:
    """The parameters in `data`, float32 by name, those of which the sign was kept as -1 and +1.

    Raises:
        RegistryError: not such bytes, naming them by `name`.
    """
    return {parameter: decode(part, shape, kind) for (parameter, shape, kind), part in parts_in(data, name)}


def parts_in(data: bytes, name: str) -> list[tuple[Entry, bytes]]:
    """What is known of each parameter, and the bytes of its values. Raises RegistryError as `unpack`."""
    entries, start = entries_in(data, name)
    parts = []
    for entry in entries:
        length = bytes_of(*entry[1:])
        parts.append((entry, data[start : start + length]))
        start += length
    return parts


def entries_in(data: bytes, name: str) -> tuple[list[Entry], int]:
    """Which parameters `data` holds, and where its first value begins; the length fits.

    Raises:
        RegistryError: as `unpack`.
    """
    first, second = FIRST_LINE, data[len(FIRST_LINE) :].partition(b"\n")[0]
    if data.startswith(first):
        entries = entries_from(second)
        start = len(first) + len(second) + 1
        if entries and len(data) == start + sum(bytes_of(shape, kind) for _, shape, kind in entries):
            return entries, start
    raise RegistryError(f"{name}: is no whole file of weights, which begins with {first.decode().strip()!r}", "content")


def entries_from(text: bytes | str) -> list[Entry]:
    """The entries that the second line lists; none if it is not such a line."""
    try:
        entries = msgspec.convert(json.loads(text), list[Entry], strict=False)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return []
    return entries if all(n > 0 for _, shape, _ in entries for n in shape) else []


def bytes_of(shape: tuple[int, ...], kind: str) -> int:
    """Bytes of the values of one parameter."""
    return (math.prod(shape) * bits_of(kind) + 7) // 8
