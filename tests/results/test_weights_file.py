"""The `.safetensors` file of published weights: what others read, and what is refused of what they give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import make_record
from safetensors import safe_open
from safetensors.numpy import load

from results import registry, weights
from results.errors import RegistryError
from results.packed_weights import Kind, levels_of, pack, unpack
from results.record import Record
from results.weights_file import metadata_of, packed_in, to_safetensors

PARAMETERS = {
    "conv1.weight": np.where(np.arange(2 * 3 * 5 * 5) % 3, np.float32(1), np.float32(-1)).reshape(2, 3, 5, 5),
    "bn1.gamma": np.array([0.1, -2.5], np.float32),
    "dense1.weight": np.array([[-2, 1, 0, -1, 1]], np.float32),
    "dense2.weight": np.array([[0.5, 0.25]], np.float32),
}
KINDS: dict[str, Kind] = {"conv1.weight": "signs", "dense1.weight": "int2", "dense2.weight": "float16"}
PACKED = pack(PARAMETERS, KINDS)
SCALES = {"conv1.weight.scale": np.array([0.5], np.float32), "dense1.weight.scale": np.array([0.1], np.float32)}
FILE = to_safetensors(PACKED, SCALES, {"record": "0123456789abcdef"})


def test_others_read_it_with_the_package(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(FILE)
    with safe_open(tmp_path / "w.safetensors", "numpy") as file:
        about = file.metadata()
    assert about["record"] == "0123456789abcdef"
    assert json.loads(about["levels"]) == {"int2": [-2, -1, 0, 1], "signs": [-1, 1]}
    assert json.loads(about["tensors"])[2] == ["dense1.weight", [1, 5], "int2"]
    tensors = load(FILE)
    np.testing.assert_array_equal(tensors["bn1.gamma"], PARAMETERS["bn1.gamma"])
    assert tensors["dense2.weight"].dtype == np.float16
    assert tensors["conv1.weight.scale"] == 0.5
    codes = np.unpackbits(tensors["dense1.weight"], count=10).reshape(5, 2) @ [2, 1]
    np.testing.assert_array_equal(np.array([-2, -1, 0, 1])[codes], PARAMETERS["dense1.weight"][0])


def test_every_tensor_lies_at_a_multiple_of_its_size() -> None:
    start = 8 + int.from_bytes(FILE[:8], "little")
    header = json.loads(FILE[8:start])
    del header["__metadata__"]
    sizes = {"F32": 4, "F16": 2, "U8": 1}
    assert all((start + one["data_offsets"][0]) % sizes[one["dtype"]] == 0 for one in header.values())


def test_the_weights_in_it_are_the_published_bytes() -> None:
    assert packed_in(FILE, "file") == PACKED
    assert to_safetensors(PACKED, SCALES, {"record": "0123456789abcdef"}) == FILE
    for name, value in unpack(PACKED, "file").items():
        np.testing.assert_array_equal(value, PARAMETERS[name])


@given(st.integers(2, 8), st.lists(st.floats(0, 1), min_size=1))
def test_whole_numbers_of_k_bits(bits: int, shares: list[float]) -> None:
    values = [int(share * (2**bits - 1)) - 2 ** (bits - 1) for share in shares]
    kinds: dict[str, Kind] = {"w": f"int{bits}"}  # type: ignore[dict-item]
    packed = pack({"w": np.array(values, np.float32)}, kinds)
    assert len(packed.split(b"\n", 2)[2]) == -(-len(values) * bits // 8)
    assert unpack(packed, "file")["w"].tolist() == values


@pytest.mark.parametrize("value", [-3, 2, 0.5, 1e10])
def test_values_that_a_kind_has_not_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"expected whole numbers from -2 to 1 \(int2\)"):
        pack({"w": np.array([value], np.float32)}, {"w": "int2"})
    assert levels_of("int2") == [-2, -1, 0, 1]


def with_header(change: object) -> bytes:
    """The file with another header: a function of the present one, or text."""
    start = 8 + int.from_bytes(FILE[:8], "little")
    header = json.loads(FILE[8:start])
    text = change if isinstance(change, bytes) else json.dumps(change(header)).encode()  # type: ignore[operator]
    return len(text).to_bytes(8, "little") + text + FILE[start:]


def changed(name: str, **values: object) -> bytes:
    return with_header(lambda header: header | {name: header[name] | values})


TENSORS = json.loads(metadata_of(FILE)["tensors"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no whole .safetensors file"),
        (FILE[:-1], "is no whole .safetensors file"),
        (FILE + b"\0", "is no whole .safetensors file"),
        (b"\xff" * 8 + FILE[8:], "is no whole .safetensors file"),
        (b"\x80\x04}." * 20, "is no whole .safetensors file"),
        (with_header(b"[" * 100_000), "is no whole .safetensors file"),
        (with_header(b'{"__metadata__":{}}'), "is no whole .safetensors file"),
        (changed("bn1.gamma", data_offsets=[0, 2**40]), "is no whole .safetensors file"),
        (changed("bn1.gamma", dtype="I32"), "tensor bn1.gamma: expected ('F32', [2]), found ('I32', [2])"),
        (changed("dense1.weight", shape=[2, 1]), "tensor dense1.weight: expected ('U8', [2]), found ('U8', [2, 1])"),
        (changed("__metadata__", binary_network_weights="2"), "lack binary_network_weights='1'"),
        (changed("__metadata__", tensors="[" * 100_000), "list no tensors"),
        (changed("__metadata__", tensors='[["a",[-1],"signs"]]'), "list no tensors"),
        (changed("__metadata__", tensors='[["bn1.gamma",[2],"float64"]]'), "list no tensors"),
        (changed("__metadata__", tensors=json.dumps([["a", [10**30], "int2"]])), "list no tensors"),
        (changed("__metadata__", tensors=json.dumps([*TENSORS, ["a", [2**30] * 8, "int2"]])), "tensor a: expected "),
    ],
)  # fmt: skip
def test_a_hostile_file_ends_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(RegistryError) as error:
        packed_in(data, "w.safetensors")
    assert str(error.value).startswith("w.safetensors: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_other_weights_of_the_same_form_are_not_the_records(tmp_path: Path) -> None:
    """The record says by a digest which weights these are, whatever the file says."""
    record = make_record(published_weights=weights.described(PACKED))

    def file_of(record: Record, packed: bytes) -> bytes:
        return to_safetensors(packed, SCALES, {"record": record.id})

    path = registry.write(record, tmp_path / "runs", PACKED, file_of)
    file = weights.path_of(tmp_path / "runs", record.benchmark, path.stem)
    assert (file.suffix, registry.verify(tmp_path / "runs")) == (".safetensors", [])
    found = weights.read(registry.read(path), tmp_path / "runs")
    np.testing.assert_array_equal(found["dense1.weight"], PARAMETERS["dense1.weight"])
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    (problem,) = registry.verify(tmp_path / "runs")
    assert "by the record" in problem.message
    file.write_bytes(b" " * (len(PACKED) + weights.HEADER_ROOM + 1))
    (problem,) = registry.verify(tmp_path / "runs")
    assert problem.message.endswith(f"has {len(PACKED) + weights.HEADER_ROOM + 1:,} bytes, expected {len(PACKED):,}")


def test_an_earlier_versions_file_is_read_on_and_one_of_both_is_enough(tmp_path: Path) -> None:
    record = make_record(published_weights=weights.described(PACKED))
    path = registry.write(record, tmp_path / "runs", PACKED)
    old = weights.path_of(tmp_path / "runs", record.benchmark, path.stem)
    assert (old.suffix, old.read_bytes()) == (".weights", PACKED)
    old.with_suffix(".safetensors").write_bytes(FILE)
    (problem,) = registry.verify(tmp_path / "runs")
    assert problem.path == old
    assert problem.message == "lies beside the .safetensors file that has taken its place; remove it"
