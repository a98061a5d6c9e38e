"""A record's weights as a `.safetensors` file: for others, who need nothing of this project to read it.

Each parameter is a tensor of its name: of a floating-point kind (see `packed_weights`) as it is, of another its bits,
uint8 (bytes,), and beside it its scale, "conv1.weight.scale", float32 of one value or of one an output: the weights are
levels[code] * scale. The metadata, texts all of them, say what is stored:

- "binary_network_weights": "1", the version of this.
- "tensors": JSON, name, shape and kind of each parameter in network order, the second line of `pack`.
- "levels": JSON, by kind, what each code stands for: {"signs": [-1, 1]}.
- what else the writer says of the network; see benchmarks/run/published_file.py.

The same weights give the same bytes: the package orders metadata otherwise each time, so it reads, and does not write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from results.errors import RegistryError, RegistryFileError
from results.packed_weights import bytes_of, encode, entries_from, entries_in, head, levels_of, parts_in
from results.record.canonical import canonical_json

if TYPE_CHECKING:
    import numpy as np

VERSION = "1"
_DTYPES = {"float32": "F32", "float16": "F16"}


def to_safetensors(packed: bytes, derived: Mapping[str, np.ndarray], about: Mapping[str, str]) -> bytes:
    """The content of a `.safetensors` file.

    Args:
        packed: the weights, as `packed_weights.pack` gave them.
        derived: further tensors, float32 by name: at least the scale of each parameter that is stored in bits.
        about: further metadata.
    """
    parts = parts_in(packed, "weights")
    entries = [entry for entry, _ in parts]
    levels = {kind: levels_of(kind) for _, _, kind in entries if levels_of(kind)}
    metadata = {
        "binary_network_weights": VERSION,
        "tensors": head(entries).splitlines()[1].decode(),
        "levels": canonical_json(levels).decode(),
        **about,
    }
    tensors: list[tuple[str, str, list[int], bytes]] = []
    for (name, shape, kind), data in parts:
        tensors.append((name, *_as_stored(shape, kind), data))
    tensors += [(name, "F32", list(value.shape), encode(value, "float32")) for name, value in derived.items()]
    return _serialized(tensors, metadata)


def _serialized(tensors: list[tuple[str, str, list[int], bytes]], metadata: Mapping[str, str]) -> bytes:
    """The container: length of the header, header, values; wide values first, so that each lies at a multiple of it."""
    tensors = sorted(tensors, key=lambda tensor: ("F32", "F16", "U8").index(tensor[1]))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(data for *_, data in tensors)])


def _as_stored(shape: tuple[int, ...], kind: str) -> tuple[str, list[int]]:
    """The dtype and shape of a parameter's tensor."""
    return (_DTYPES[kind], list(shape)) if kind in _DTYPES else ("U8", [bytes_of(shape, kind)])


def metadata_of(content: bytes) -> dict[str, str]:
    """The metadata of a `.safetensors` file that is whole."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header.get("__metadata__") or {}


def packed_in(data: bytes, name: str) -> bytes:
    """The weights in a `.safetensors` file, as `packed_weights.pack` gave them.

    What is in the file is believed of nothing but their names, shapes and kinds, which the values must fit: a record
    says by a digest which weights these are.

    Raises:
        RegistryError: not such a file, naming it by `name`.
        RegistryFileError: the package that reads it is not installed.
    """
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError:
        install = "`python -m pip install safetensors==0.8.0`"
        raise RegistryFileError(f"{name}: to read it the package safetensors is needed: {install}") from None
    try:
        tensors = dict(deserialize(data))
        metadata = metadata_of(data)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise RegistryError(f"{name}: is no whole .safetensors file: {error}", "content") from None
    if metadata.get("binary_network_weights") != VERSION:
        raise RegistryError(f"{name}: its metadata lack binary_network_weights={VERSION!r}", "content")
    entries = entries_from(metadata.get("tensors", ""))
    if not entries:
        raise RegistryError(f"{name}: its metadata list no tensors (name, shape and kind of each)", "content")
    values = []
    for parameter, shape, kind in entries:
        tensor = tensors.get(parameter)
        expected = _as_stored(shape, kind)
        found = None if tensor is None else (tensor["dtype"], list(tensor["shape"]))
        if tensor is None or found != expected:
            raise RegistryError(f"{name}: tensor {parameter}: expected {expected}, found {found}", "content")
        values.append(bytes(tensor["data"]))
    packed = b"".join([head(entries), *values])
    entries_in(packed, name)  # the lengths fit
    return packed
