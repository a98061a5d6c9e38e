"""The stored file: whole, proved, or refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import DamagedDataError, DataError, MissingDataError, StorageError
from data_prep.storage import files, store

REPOSITORY = Path(__file__).parents[2]
ARRAYS = {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "mean": np.float32([0.25, 0.5])}
DIGEST = store.digest_of(ARRAYS)
STATISTICS = {"pixel_mean": 33.25}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    root = tmp_path_factory.mktemp("whole")
    store.write("tiny", root, ARRAYS, "a test", STATISTICS)
    return store.path_of("tiny", root).read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def refused(root: Path, content: bytes, message: str = "") -> None:
    store.path_of("tiny", root).write_bytes(content)
    with pytest.raises(DamagedDataError, match=f"{message}.*: run `python cli.py prepare tiny`$"):
        store.read("tiny", root, DIGEST)


def sealed(content: bytes) -> bytes:
    """`content` with a seal that fits, as one would make who knows the format."""
    return hashlib.sha256(content[64:]).hexdigest().encode() + content[64:]


def test_what_was_written_is_read(tmp_path):
    store.write("tiny", tmp_path, ARRAYS, "a test", STATISTICS)
    header, arrays = store.read("tiny", tmp_path, DIGEST)
    assert header == store.glance("tiny", tmp_path)
    assert (header.origin, header.digest, header.statistics) == ("a test", DIGEST, STATISTICS)
    assert header.bytes == store.path_of("tiny", tmp_path).stat().st_size
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.h5"]


def test_writing_twice_gives_the_same_bytes(tmp_path, whole):
    store.write("tiny", tmp_path, ARRAYS, "a test", STATISTICS)
    assert store.path_of("tiny", tmp_path).read_bytes() == whole


def test_it_is_ordinary_hdf5(tmp_path):
    store.write("tiny", tmp_path, ARRAYS, "a test", STATISTICS)
    with h5py.File(store.path_of("tiny", tmp_path)) as file:
        np.testing.assert_array_equal(file["images"], ARRAYS["images"])
        assert file.attrs["format"] == store.FORMAT
        assert file.attrs["origin"] == "a test"
        assert file.attrs["digest"] == DIGEST
        assert file.attrs["pixel_mean"] == 33.25
        assert file.attrs["created_by"].startswith("data_prep with h5py ")


def test_the_digest_depends_on_name_dtype_shape_and_every_byte():
    zeros = np.zeros((2, 3), np.uint8)
    others = [
        {"b": zeros},
        {"a": zeros.view(np.int8)},
        {"a": zeros.reshape(3, 2)},
        {"a": zeros + np.uint8(1)},
        {"a": zeros, "b": zeros},
    ]
    digests = {store.digest_of(arrays) for arrays in [{"a": zeros}, *others]}
    assert len(digests) == 6
    assert store.digest_of({"a": zeros, "b": others[3]["a"]}) == store.digest_of({"b": others[3]["a"], "a": zeros})


@given(data=st.data())
def test_any_changed_byte_is_found(whole, scratch, data):
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    refused(scratch, bytes(content))


@given(data=st.data())
def test_any_truncation_is_found(whole, scratch, data):
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    refused(scratch, cut)
    with pytest.raises(DamagedDataError):  # the cheap look sees it too
        store.glance("tiny", scratch)


def test_added_bytes_are_found(tmp_path, whole):
    refused(tmp_path, whole + b"\0", f"expected {len(whole)} bytes, found {len(whole) + 1}")


def test_something_else_is_refused(tmp_path, whole):
    refused(tmp_path, b"", "does not begin as a prepared data set")
    refused(tmp_path, b"\x89HDF\r\n\x1a\n" + bytes(5000), "does not begin as a prepared data set")
    refused(tmp_path, whole.replace(b'"statistics"', b'"statistocs"', 1), "does not begin as a prepared data set")
    refused(tmp_path, whole[:64] + b"[1, 2]", "does not begin as a prepared data set")


def test_another_format_or_data_set_is_told(tmp_path, whole):
    newer = sealed(whole.replace(b'"format": 1', b'"format": 2', 1))
    refused(tmp_path, newer, "has format 2: this version of the project reads 1")
    other = sealed(whole.replace(b'"dataset": "tiny"', b'"dataset": "tidy"', 1))
    refused(tmp_path, other, "holds tidy, not tiny")


def test_other_arrays_under_a_fitting_seal_are_refused(tmp_path):
    other = {**ARRAYS, "images": ARRAYS["images"] + np.uint8(1)}
    store.write("tiny", tmp_path, other, "a test", STATISTICS)
    with pytest.raises(
        DamagedDataError, match=f"expected sha256 {DIGEST} of its arrays, found {store.digest_of(other)}"
    ):
        store.read("tiny", tmp_path, DIGEST)


def test_a_forged_digest_in_the_header_is_refused(tmp_path, whole):
    refused(tmp_path, sealed(whole.replace(DIGEST.encode(), b"0" * 64)), "is not tiny")


def test_a_header_of_any_fields_is_refused_in_words(tmp_path, whole):
    fields = json.loads(whole[64 : store.USER_BLOCK])
    crafted = [
        {"dataset": value} for value in (None, 7, ["tiny"], "ti\nny", "../tiny")
    ] + [
        {"bytes": value} for value in (1e400, -1, "5", None, True)
    ] + [
        {"variant": 3}, {"places": {"images": -1}}, {"places": {"images": 1 << 70}}, {"places": []}, {"settings": [1]},
        {"statistics": {"mean": "high"}}, {"statistics": {"mean": float("nan")}}, {"statistics": None},
        {"settings": {"bias": [1]}}, {"origin": {}}, {"digest": None}, {"format": [[1]]}, {"format": None},
    ]  # fmt: skip
    for change in crafted:
        text = json.dumps(fields | change).encode().ljust(store.USER_BLOCK - 64)
        content = sealed(whole[:64] + text + whole[store.USER_BLOCK :])
        refused(tmp_path, content)
        with pytest.raises(DamagedDataError):
            store.glance("tiny", tmp_path)
    refused(tmp_path, sealed(whole[:64] + b"[" * 960 + whole[store.USER_BLOCK :]), "does not begin as a prepared")


def _chunked(file):
    file.create_dataset("images", data=ARRAYS["images"], chunks=(1, 3, 4))


def _external(file):
    file.create_dataset("images", (24,), np.uint8, external=[("/etc/passwd", 0, 24)])


def _virtual(file):
    layout = h5py.VirtualLayout((24,), np.uint8)
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (24,))
    file.create_virtual_dataset("images", layout)


@pytest.mark.parametrize(
    "build",
    [
        lambda file: file.create_group("images"),
        lambda file: file.__setitem__("images", h5py.SoftLink("/nothing")),
        lambda file: file.__setitem__("images", h5py.ExternalLink("/etc/other.h5", "/x")),
        lambda file: file.__setitem__("images", np.dtype("u1")),
        lambda file: file.create_dataset("images", data="text"),
        lambda file: file.create_dataset("images", data=np.zeros(3, "u1,f4")),
        lambda file: file.create_dataset("images", (10**15,), np.uint8),
        lambda file: file.create_dataset("images", data=h5py.Empty("u1")),
        lambda file: file.create_dataset("images", data=np.float64([1, 2])),
        _chunked, _external, _virtual,
    ],
)  # fmt: skip
def test_an_hdf5_file_of_any_other_structure_is_refused_in_words(tmp_path, whole, build):
    with h5py.File(tmp_path / "tiny.h5", "w", userblock_size=store.USER_BLOCK) as file:
        build(file)
    content = bytearray((tmp_path / "tiny.h5").read_bytes())
    fields = json.loads(whole[64 : store.USER_BLOCK]) | {"bytes": len(content)}
    content[64 : store.USER_BLOCK] = json.dumps(fields).encode().ljust(store.USER_BLOCK - 64)
    refused(tmp_path, sealed(bytes(content)), "its HDF5 structure is not that of a prepared data set")


@settings(max_examples=60)
@given(data=st.data())
def test_a_sealed_file_with_any_bytes_changed_is_refused_or_right(whole, scratch, data):
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(64, store.USER_BLOCK + 96) | st.integers(64, len(whole) - 1))
        content[place] = data.draw(st.integers(0, 255))
    store.path_of("tiny", scratch).write_bytes(sealed(bytes(content)))
    with contextlib.suppress(DamagedDataError):
        assert store.digest_of(store.read("tiny", scratch, DIGEST)[1]) == DIGEST


def test_a_data_set_that_is_not_there(tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(MissingDataError, match=r"is not prepared in .*: run `python cli.py prepare tiny`$"):
            store.read("tiny", root, DIGEST)
        with pytest.raises(MissingDataError):
            store.glance("tiny", root)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])  # a pipe would be waited for
def test_what_is_no_file_in_the_place_of_one_is_told(tmp_path, make):
    make(store.path_of("tiny", tmp_path))
    for look in (lambda: store.read("tiny", tmp_path, DIGEST), lambda: store.glance("tiny", tmp_path)):
        with pytest.raises(DataError, match=r"cannot read .*tiny\.h5: it is no file: remove it and "):
            look()


def test_a_full_disk_keeps_what_was_there(tmp_path, whole):
    path = store.path_of("tiny", tmp_path)
    path.write_bytes(whole)
    part = tmp_path / "tiny.h5.part"
    part.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"no space left to write .*tiny\.h5: free some space$"):
        store.write("tiny", tmp_path, ARRAYS, "another origin", STATISTICS)
    assert path.read_bytes() == whole
    assert not part.is_symlink()


def test_a_file_size_limit_leaves_nothing_half_written(tmp_path):
    code = (
        "import resource, sys, numpy as np; from pathlib import Path; from data_prep.storage import store\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, {resource.RLIM_INFINITY}))\n"
        "store.write('tiny', Path(sys.argv[1]), {'a': np.zeros(100_000, np.uint8)}, '', {})"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "StorageError: no space left to write" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*absent/tiny\.h5 \(No such file or directory\)"):
        store.write("tiny", tmp_path / "absent", ARRAYS, "", {})


# --- variants, large arrays and what is underneath


def test_a_variant_is_a_file_of_its_own_with_the_settings_that_made_it(tmp_path):
    store.write("tiny", tmp_path, ARRAYS, "a test", {}, "white", {"bias": 0.1, "rows": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-white.h5"]
    header, arrays = store.read("tiny", tmp_path, None, "white")
    assert header == store.glance("tiny", tmp_path, "white")
    assert (header.variant, header.settings, header.digest) == ("white", {"bias": 0.1, "rows": 3}, DIGEST)
    np.testing.assert_array_equal(arrays["images"], ARRAYS["images"])
    with h5py.File(tmp_path / "tiny-white.h5") as file:
        assert (file.attrs["variant"], file.attrs["bias"]) == ("white", 0.1)
    command = r"run `python cli\.py prepare tiny --variant white`$"
    (tmp_path / "tiny-white.h5").rename(tmp_path / "tiny-white,bias=1.h5")
    with pytest.raises(MissingDataError, match=rf"^tiny-white is not prepared in .*: {command}"):
        store.read("tiny", tmp_path, None, "white")
    with pytest.raises(DamagedDataError, match="holds tiny-white, not tiny-white,bias=1: run"):
        store.read("tiny", tmp_path, None, "white,bias=1")


def test_a_file_of_before_there_were_variants_is_read(tmp_path, whole):
    """They have neither field, and other metadata of HDF5; their arrays are in one piece too."""
    with h5py.File(tmp_path / "tiny.h5", "w", userblock_size=store.USER_BLOCK) as file:
        for name, array in ARRAYS.items():
            file.create_dataset(name, data=array)
    content = bytearray((tmp_path / "tiny.h5").read_bytes())
    fields = json.loads(whole[64 : store.USER_BLOCK])
    del fields["variant"], fields["settings"]
    fields["bytes"] = len(content)
    content[64 : store.USER_BLOCK] = json.dumps(fields).encode().ljust(store.USER_BLOCK - 64)
    (tmp_path / "tiny.h5").write_bytes(sealed(bytes(content)))
    header, arrays = store.read("tiny", tmp_path, DIGEST)
    assert (header.variant, header.settings) == (None, {})
    np.testing.assert_array_equal(arrays["mean"], ARRAYS["mean"])


def test_what_is_read_is_a_read_only_map_of_the_file(tmp_path):
    store.write("tiny", tmp_path, ARRAYS, "a test", {})
    _, arrays = store.read("tiny", tmp_path, DIGEST)
    for array in arrays.values():
        assert array.flags.c_contiguous
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_another_file_in_its_place_does_not_change_what_was_read(tmp_path):
    store.write("tiny", tmp_path, ARRAYS, "a test", {})
    _, arrays = store.read("tiny", tmp_path, DIGEST)
    store.write("tiny", tmp_path, {"images": ARRAYS["images"] + np.uint8(1)}, "another", {})
    assert store.digest_of(arrays) == DIGEST


@pytest.mark.parametrize("size", [100_000_000, pytest.param(400_000_000, marks=pytest.mark.nightly)])
def test_large_arrays_are_neither_copied_when_written_nor_when_read(tmp_path, size):
    code = f"""
import resource, sys, numpy as np
from pathlib import Path
import h5py
from data_prep.storage import store
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def own(): return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) * 1024
array = np.ones(({size // 1000}, 1000), np.uint8)
before = peak()
store.write("large", Path(sys.argv[1]), {{"a": array}}, "", {{}})
assert peak() - before < {size // 4}, "written through a copy"
del array
before = own()
_, arrays = store.read("large", Path(sys.argv[1]), None)
assert arrays["a"].shape == ({size // 1000}, 1000)
assert arrays["a"][:, 0].all()
assert own() - before < {size // 4}, "read through a copy"
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_file_without_its_space_is_refused_in_words(tmp_path):
    files.need_space(tmp_path / "not" / "yet", 1, "preparing tiny")
    with pytest.raises(StorageError, match=r"^preparing tiny needs 1,000,000,000,000 MB, but .* MB free: free some"):
        files.need_space(tmp_path / "not" / "yet", 10**18, "preparing tiny")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_was_not_finished_leaves_the_one_before(tmp_path, failure):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def write_half() -> None:
        with files.replacing(path) as stream:
            stream.write(b"after")
            raise failure

    with pytest.raises((StorageError, KeyboardInterrupt)):
        write_half()
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
