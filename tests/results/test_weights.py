"""Published weights: read back as they were, by anybody, and every change of them noticed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from record_factory import make_record

from results import packed_weights, registry, weights
from results.errors import RegistryError
from results.packed_weights import Kind, pack, unpack
from results.record import seal, to_bytes
from results.weights_file import to_safetensors

PARAMETERS = {
    "conv1.weight": np.where(np.arange(2 * 3 * 5 * 5) % 3, np.float32(1), np.float32(-1)).reshape(2, 3, 5, 5),
    "bn1.gamma": np.array([0.1, -2.5], np.float32),
    "dense1.weight": np.array([[1, -1, 1]], np.float32),
}
SIGNS: dict[str, Kind] = {"conv1.weight": "signs", "dense1.weight": "signs"}
PACKED = pack(PARAMETERS, SIGNS)


def published(root: Path) -> Path:
    """A registry with one record that has published weights; the record's path."""
    return registry.write(make_record(published_weights=weights.described(PACKED)), root, PACKED)


def test_they_are_read_back_as_they_were() -> None:
    found = unpack(PACKED, "file")
    assert list(found) == list(PARAMETERS)
    for name, value in PARAMETERS.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == np.float32


@given(
    st.dictionaries(
        st.text("abc.", min_size=1),
        arrays(
            np.float32,
            array_shapes(max_dims=4, max_side=5),
            elements=st.floats(width=32, allow_nan=False, allow_subnormal=False),
        ),
        min_size=1,
    )
)
def test_any_parameters(parameters: dict[str, np.ndarray]) -> None:
    signs: dict[str, Kind] = {name: "signs" for name, value in parameters.items() if (value != 0).all()}
    packed = pack(parameters, signs)
    found = unpack(packed, "file")
    for name, value in parameters.items():
        np.testing.assert_array_equal(found[name], np.sign(value) if name in signs else value)
    assert pack(parameters, signs) == packed


def test_the_format_is_as_it_is_written_down() -> None:
    """Read without the code that wrote it."""
    first, second, rest = PACKED.split(b"\n", 2)
    assert first == b"binary network weights 1"
    assert json.loads(second) == [
        ["conv1.weight", [2, 3, 5, 5], "signs"], ["bn1.gamma", [2], "float32"], ["dense1.weight", [1, 3], "signs"],
    ]  # fmt: skip
    assert len(rest) == (150 + 7) // 8 + 2 * 4 + 1
    bits = "".join(f"{byte:08b}" for byte in rest[:19])
    assert bits == "".join("1" if number % 3 else "0" for number in range(150)) + "00"
    assert rest[19:27] == np.array([0.1, -2.5], "<f4").tobytes()
    assert rest[27:] == bytes([0b10100000])


@given(st.integers(0, len(PACKED) - 1))
def test_a_part_of_a_file_is_refused(length: int) -> None:
    with pytest.raises(RegistryError, match=r"^w\.weights: is no whole file of weights"):
        unpack(PACKED[:length], "w.weights")


@pytest.mark.parametrize(
    "data",
    [
        packed_weights.FIRST_LINE + b"[" * 100_000,
        packed_weights.FIRST_LINE + b'[["w",[0,1000000000000000000000000000000],"signs"]]\n',
        b"",
        b"x" * 50,
        PACKED + b"\0",
        PACKED.replace(b"signs", b"halfs"),
        b"\x80\x04}.",
    ],
)
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(RegistryError, match="is no whole file of weights"):
        unpack(data, "file")


def test_lenet5_takes_about_110_kilobytes() -> None:
    shapes = [(32, 1, 5, 5), (64, 32, 5, 5), (512, 1600), (10, 512)]
    parameters = {f"layer{number}.weight": np.ones(shape, np.float32) for number, shape in enumerate(shapes)}
    names: dict[str, Kind] = dict.fromkeys(parameters, "signs")
    parameters |= {f"bn{n}.{what}": np.ones(shape[0], np.float32) for n, shape in enumerate(shapes) for what in "abcd"}
    assert 100_000 < len(pack(parameters, names)) < 125_000


def test_they_are_written_beside_the_records_and_verified(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    path = published(root)
    file = tmp_path / "weights" / "binaryconnect-mnist" / f"{path.stem}.weights"
    assert file.read_bytes() == PACKED
    assert registry.verify(root) == []
    assert published(root) == path
    np.testing.assert_array_equal(
        weights.read(registry.read(path), root)["bn1.gamma"], np.array([0.1, -2.5], np.float32)
    )


@pytest.mark.parametrize("change", ["missing", "shorter", "one bit", "a pipe"])
def test_every_change_is_noticed(tmp_path: Path, change: str) -> None:
    root = tmp_path / "runs"
    path = published(root)
    file = weights.path_of(root, "binaryconnect-mnist", path.stem)
    if change in ("missing", "a pipe"):
        file.unlink()
        if change == "a pipe":  # which would be waited for
            os.mkfifo(file)
    else:
        file.write_bytes(PACKED[:-1] if change == "shorter" else PACKED[:-1] + bytes([PACKED[-1] ^ 1]))
    (problem,) = registry.verify(root)
    assert (problem.path, problem.field) == (path, "published_weights")
    with pytest.raises(RegistryError, match=r"restore it: .*`git -C \S+ checkout -- \S+` does"):
        weights.read(registry.read(path), root)


def test_weights_without_a_record_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    path = published(root)
    path.unlink()
    (problem,) = registry.verify(root)
    assert problem.path == weights.path_of(root, "binaryconnect-mnist", path.stem)
    assert "belongs to no record" in problem.message


def test_a_link_to_weights_is_none(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    file = weights.path_of(root, "binaryconnect-mnist", published(root).stem)
    file.symlink_to(file.rename(tmp_path / "elsewhere"))
    (problem,) = registry.verify(root)
    assert problem.message.startswith("is a link that does not belong here")


def test_other_weights_than_the_described_ones_are_not_written(tmp_path: Path) -> None:
    described = make_record(published_weights=weights.described(PACKED))
    for record, data in ((described, None), (described, PACKED[:-1]), (make_record(), PACKED)):
        with pytest.raises(RegistryError, match="published_weights: are not those that the record describes"):
            registry.write(record, tmp_path / "runs", data)
    assert not list(tmp_path.iterdir())


def test_a_file_that_stores_other_weights_is_not_written(tmp_path: Path) -> None:
    other = to_safetensors(pack(PARAMETERS | {"bn1.gamma": np.zeros(2, np.float32)}, SIGNS), {}, {})
    record = seal(make_record(published_weights=weights.described(PACKED)))
    with pytest.raises(RegistryError, match="the weights have another form than they are published in"):
        weights.store(record, tmp_path / "runs", PACKED, lambda *_: other)
    assert not list(tmp_path.iterdir())


def test_a_record_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="has no published weights: a run has them if it scores"):
        weights.read(seal(make_record()), tmp_path)


def test_a_record_without_what_was_added_later_has_the_bytes_that_it_had() -> None:
    content = json.loads(to_bytes(seal(make_record())))
    assert "published_weights" not in content
    assert "class_images" not in content["data"]["train"]
    assert not [column for column in content["curve"] if "class" in column or column.startswith("train_e")]
    assert msgspec.json.decode(to_bytes(seal(make_record(evaluates=True))))["curve"]["train_wrong"]
