"""SVHN prepared as a user does, from small files like the official ones: what is stored, read, resumed and refused."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kills import killed_after, seconds_to_the_end
from mirror_server import Mirror
from scipy.io import loadmat, savemat
from svhn_files import artifact_of, digits, images, release_of, write, write_mat
from writing import last_writing

import data_prep
from data_prep import DamagedDataError, DataError, MissingDataError, Silent, StorageError
from data_prep.contact_sheet import contact_sheet
from data_prep.memorization import memorized
from data_prep.storage import store
from data_prep.svhn import chunks as svhn_chunks
from data_prep.svhn import dataset as svhn
from data_prep.svhn.normalized import VARIANTS, GcnLcn, GcnLcnRed, Torch7Lcn
from data_prep.svhn.release import OFFICIAL, MatFile, Release
from data_prep.svhn.split import first_of_class_split, pylearn2_split

REPOSITORY = Path(__file__).parents[2]
SIZES, HELD_OUT = (230, 320, 110), (3, 2)
COUNTS = {"train": 500, "valid": 50, "test": 110}
# Prepares "svhn" or a variant of it as `data_prep.prepare` would, but from the files of a folder and in small chunks.
CHILD = """
import os, resource, sys
from pathlib import Path
sys.path.insert(0, "tests/data_prep")
import h5py, tables, scipy.ndimage
from data_prep.svhn import chunks as svhn_chunks, dataset as svhn, store as svhn_store
from data_prep import Silent, DataError
from svhn_files import release_of

folder, root, variant, limit = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
svhn_chunks.CHUNK = 20
release = release_of(folder, (230, 320, 110), (3, 2))

class Limited(Silent):
    def start(self, description, total):
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

print(flush=True)
try:
    if variant:
        svhn.prepare_variant("svhn", root, variant, folder, Limited(), release)
    else:
        svhn.prepare("svhn", root, folder, Limited(), release)
except DataError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write(folder, SIZES)
    return folder


@pytest.fixture(scope="module")
def release(folder) -> Release:
    return release_of(folder, SIZES, HELD_OUT)


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """So that small files have many chunks; no image belongs to a chunk of another size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svhn_chunks, "CHUNK", 20)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory, folder, release) -> Path:
    """A data folder with SVHN and all its variants."""
    root = tmp_path_factory.mktemp("data")
    for variant in VARIANTS:
        svhn.prepare_variant("svhn", root, variant, folder, Silent(), release)
    return root


@pytest.fixture(scope="module")
def official_order(folder) -> tuple[np.ndarray, list[np.ndarray]]:
    """What scipy reads: all images, uint8 (660, 3, 32, 32), and the classes 0..9 of each file."""
    files = [loadmat(folder / file.artifact.name) for file in OFFICIAL.files]
    pixels = np.concatenate([file["X"].transpose(3, 2, 0, 1) for file in files])
    return pixels, [(file["y"].ravel() - 1).astype(np.uint8) for file in files]


def prepare(root: Path, folder: Path, release: Release, variant: str = "") -> data_prep.Prepared:
    if variant:
        return svhn.prepare_variant("svhn", root, variant, folder, Silent(), release)
    return svhn.prepare("svhn", root, folder, Silent(), release)


def child(folder: Path, root: Path, variant: str = "", limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(folder), str(root), variant, str(limit)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(root: Path) -> dict[str, bytes]:
    """All files of a data folder but the locks."""
    return {path.name: path.read_bytes() for path in root.iterdir() if not path.name.endswith(".lock")}


# --- what is stored


def test_what_is_stored_is_what_scipy_reads(root, release, official_order):
    pixels, labels = official_order
    header, arrays = store.read("svhn", root, None)
    np.testing.assert_array_equal(arrays["images"], pixels)
    np.testing.assert_array_equal(arrays["labels"], np.concatenate(labels))
    assert header.settings["files"] == release.fingerprint
    assert header.origin == "a folder of the user"
    train = pixels[: SIZES[0]].transpose(1, 0, 2, 3).reshape(3, -1) / 255
    for color, values in zip(("red", "green", "blue"), train, strict=True):
        assert header.statistics[f"{color}_mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert header.statistics[f"{color}_std"] == pytest.approx(values.std(), rel=1e-9)


def test_it_is_ordinary_hdf5(root):
    for name, dtype in (("svhn", np.uint8), ("svhn-gcn_lcn_red", np.float32)):
        with h5py.File(root / f"{name}.h5") as file:
            assert (file["images"].shape, file["images"].dtype) == ((660, 3, 32, 32), dtype)
            assert (file["labels"].shape, file["labels"].dtype) == ((660,), np.uint8)
            assert file.attrs["format"] == store.FORMAT
            assert file.attrs["dataset"] == b"svhn"
            assert file.attrs["created_by"].startswith(b"data_prep with tables ")


def test_what_is_prepared_is_told(root, release):
    for variant in (None, *VARIANTS):
        prepared = (
            svhn.check("svhn", root, release) if variant is None else svhn.check_variant("svhn", root, variant, release)
        )
        assert prepared.path == root / (f"svhn-{variant}.h5" if variant else "svhn.h5")
        assert (prepared.dataset, prepared.variant, prepared.counts) == ("svhn", variant, COUNTS)
        assert prepared.bytes == prepared.path.stat().st_size
        status = (
            svhn.status("svhn", root, release)
            if variant is None
            else svhn.status_variant("svhn", root, variant, release)
        )
        assert status == prepared
    assert not [path for path in root.iterdir() if path.suffix in (".part", ".journal")]


def test_the_data_room_knows_the_variants():
    assert data_prep.variants("svhn") == tuple(VARIANTS)
    assert svhn.OFFICIAL.counts == {"train": 598_388, "valid": 6_000, "test": 26_032}
    assert svhn.OFFICIAL.sizes == (73_257, 531_131, 26_032)


@pytest.mark.parametrize("variant", ["gcn_lcn_red", "gcn_lcn"])
def test_a_variant_is_its_rule_done_to_every_image(root, official_order, variant):
    _, arrays = store.read("svhn", root, None, variant)
    expected = {"gcn_lcn_red": GcnLcnRed(), "gcn_lcn": GcnLcn()}[variant].normalize(official_order[0])
    np.testing.assert_array_equal(arrays["images"], expected)
    header = store.glance("svhn", root, variant)
    train = expected[: SIZES[0]].transpose(1, 0, 2, 3).reshape(3, -1)
    for color, values in zip(("red", "green", "blue"), train.astype(np.float64), strict=True):
        assert header.statistics[f"{color}_mean"] == pytest.approx(values.mean(), abs=1e-9)
        assert header.statistics[f"{color}_std"] == pytest.approx(values.std(), rel=1e-9)


def test_torch7s_variant_scales_each_set_by_its_own_extremes(root, release, official_order):
    """As its Data.lua: all of it by numpy, from the pixels to what the network sees."""
    pixels, labels = official_order
    rows = first_of_class_split(*labels, HELD_OUT)
    seen = {}
    for name, chosen in rows._asdict().items():
        low, high = (
            np.full(len(chosen), extreme, np.float32) for extreme in (pixels[chosen].min(), pixels[chosen].max())
        )
        normalized = Torch7Lcn().normalize(pixels[chosen], low, high)
        seen[name] = normalized / normalized.max()
    mean, std = seen["train"].mean(dtype=np.float64), seen["train"].astype(np.float64).std(ddof=1)
    dataset = svhn.load("svhn", root, "torch7_lcn", 500, 50, release)
    for split in (dataset.train, dataset.valid, dataset.test):
        np.testing.assert_allclose(split.images[:], (seen[split.name] - mean) / std, atol=1e-5)
        np.testing.assert_array_equal(split.labels, np.concatenate(labels)[rows._asdict()[split.name]])
    assert dataset.train.images[:].mean() == pytest.approx(0, abs=1e-4)
    assert dataset.train.images[:].std() == pytest.approx(1, abs=1e-4)


# --- what is read


@pytest.mark.parametrize("preprocessing", ["signed", "unit", "gcn_lcn_red", "gcn_lcn"])
def test_the_splits_are_pylearn2s(root, release, official_order, preprocessing):
    pixels, labels = official_order
    published = {
        "signed": np.float32(2 / 255) * pixels.astype(np.float32) - np.float32(1),
        "unit": pixels.astype(np.float32) / np.float32(255),
    }
    stored = published.get(preprocessing)
    if stored is None:
        stored = store.read("svhn", root, None, preprocessing)[1]["images"]
    dataset = svhn.load("svhn", root, preprocessing, 500, 50, release)
    assert (dataset.name, dataset.preprocessing) == ("svhn", preprocessing)
    rows = pylearn2_split(*labels, HELD_OUT)._asdict()
    for split in (dataset.train, dataset.valid, dataset.test):
        assert split.images.shape == (COUNTS[split.name], 3, 32, 32)
        assert split.images.dtype == np.float32
        assert split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.images[:], stored[rows[split.name]])
        np.testing.assert_array_equal(split.labels, np.concatenate(labels)[rows[split.name]])


def test_batches_in_random_order_are_those_of_an_array(root, release):
    images = svhn.load("svhn", root, "gcn_lcn_red", 500, 50, release).train.images
    whole = images[:]
    for batch in np.random.default_rng(1).permutation(500).reshape(-1, 50):
        np.testing.assert_array_equal(images[batch], whole[batch])


def test_a_limit_takes_the_first_images(root, release):
    whole, few = (svhn.load("svhn", root, "signed", train, valid, release) for train, valid in ((500, 50), (20, 5)))
    np.testing.assert_array_equal(few.train.images[:], whole.train.images[:20])
    np.testing.assert_array_equal(few.valid.labels, whole.valid.labels[:5])
    assert few.test.digest == whole.test.digest
    assert few.train.digest != whole.train.digest


def test_digests_tell_preprocessings_and_images_apart(root, release):
    digests = {
        split.digest
        for preprocessing in ("signed", "unit", *VARIANTS)
        for dataset in [svhn.load("svhn", root, preprocessing, 500, 50, release)]
        for split in (dataset.train, dataset.valid, dataset.test)
    }
    assert len(digests) == 15


def test_the_digest_of_what_is_stored_can_be_computed_by_anybody(root):
    """SHA-256 over a line, the SHA-256 of each chunk of images of one file, and the labels."""
    header, arrays = store.read("svhn", root, None)
    digest = hashlib.sha256(b"uint8 660 20\n")
    start = 0
    for count in SIZES:
        for first in range(start, start + count, 20):
            chunk = arrays["images"][first : min(first + 20, start + count)]
            digest.update(hashlib.sha256(chunk.tobytes()).digest())
        start += count
    digest.update(arrays["labels"].tobytes())
    assert header.digest == digest.hexdigest()


@pytest.mark.parametrize(
    ("preprocessing", "train", "valid", "message"),
    [
        ("signed", 501, 50, "svhn has 1 to 500 training images to give: asked for 501"),
        ("signed", 0, 50, "1 to 500 training images to give: asked for 0"),
        ("signed", 500, 51, "1 to 50 validation images to give: asked for 51"),
        (
            "whitened",
            1,
            1,
            "unknown preprocessing 'whitened' of svhn: expected signed, unit, gcn_lcn_red, gcn_lcn, torch7_lcn",
        ),
        ("gcn_lcn,width=2", 1, 1, "unknown setting 'width' of gcn_lcn: expected kernel_size, sigma, threshold"),
    ],
)
def test_impossible_wishes_are_refused(root, release, preprocessing, train, valid, message):
    with pytest.raises(DataError, match=message):
        svhn.load("svhn", root, preprocessing, train, valid, release)


def test_the_train_digits_alone_are_in_pylearn2s_order(root, release, official_order):
    pixels, labels = official_order
    whole = svhn.load("svhn", root, "signed", 500, 50, release)
    few = svhn.load("svhn", root, "signed", SIZES[0], 50, release, subset="train_digits")
    index = np.arange(SIZES[0])
    np.random.RandomState(322).shuffle(index)
    np.testing.assert_array_equal(few.train.labels, labels[0][index])
    stored = np.float32(2 / 255) * pixels.astype(np.float32) - np.float32(1)
    np.testing.assert_array_equal(few.train.images[:], stored[: SIZES[0]][index])
    assert (few.valid.digest, few.test.digest) == (whole.valid.digest, whole.test.digest)
    assert few.train.digest != whole.train.digest


def test_random_labels_leave_images_in_their_file(root, release):
    data = svhn.load("svhn", root, "signed", SIZES[0], 50, release, subset="train_digits")
    drawn = memorized(data, "random_train_valid", "images", 1)
    assert drawn.train.images is data.train.images
    assert drawn.train.digest != data.train.digest
    assert drawn.test is data.test


def test_impossible_subsets_are_refused(root, release):
    with pytest.raises(DataError, match=f"svhn has 1 to {SIZES[0]} training images to give"):
        svhn.load("svhn", root, "signed", SIZES[0] + 1, 50, release, subset="train_digits")
    with pytest.raises(DataError, match="unknown subset 'extra' of svhn: expected all or train_digits"):
        svhn.load("svhn", root, "signed", 5, 5, release, subset="extra")
    with pytest.raises(DataError, match="torch7_lcn goes with a split of its own, which has no subset train_digits"):
        svhn.load("svhn", root, "torch7_lcn", 5, 5, release, subset="train_digits")


def test_what_is_not_prepared_is_told_with_its_command(tmp_path):
    with pytest.raises(MissingDataError, match=r"svhn is not prepared in .*: run `python cli.py prepare svhn`$"):
        data_prep.load("svhn", tmp_path, "signed", 598_388, 6_000)
    command = r"run `python cli\.py prepare svhn --variant gcn_lcn_red`$"
    with pytest.raises(MissingDataError, match=f"svhn-gcn_lcn_red is not prepared in .*: {command}"):
        data_prep.load("svhn", tmp_path, "gcn_lcn_red", 598_388, 6_000)
    with pytest.raises(MissingDataError, match=command):
        data_prep.check("svhn", tmp_path, "gcn_lcn_red")
    assert data_prep.status("svhn", tmp_path) is None
    assert data_prep.status("svhn", tmp_path, "gcn_lcn") is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_contact_sheet_shows_the_same_images_twice(root, release, tmp_path, variant):
    published, seen = svhn.first_images("svhn", root, variant, 20, release)
    np.testing.assert_array_equal(seen, svhn.load("svhn", root, variant, 20, 1, release).train.images[:])
    for before, after in zip(published, seen, strict=True):
        red = GcnLcnRed().normalize(((before[None] + 1) * 127.5).round().astype(np.uint8))[0, 0]
        assert np.corrcoef(red.ravel(), after[0].ravel())[0, 1] > 0.8
    contact_sheet((published + 1) / 2, seen, variant, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_written_like_that_of_any_data_set(root, release, tmp_path, monkeypatch):
    monkeypatch.setattr(svhn, "first_images", functools.partial(svhn.first_images, release=release))
    for variant in ("unit", "torch7_lcn"):
        data_prep.picture("svhn", root, variant, tmp_path / f"{variant}.png")
        assert (tmp_path / f"{variant}.png").read_bytes().startswith(b"\x89PNG")


# --- once, and never over something else


def test_preparing_again_does_nothing(root, folder, release):
    before = {path: last_writing(path) for path in root.iterdir()}
    for variant in ("", *VARIANTS):
        prepare(root, folder, release, variant)
    assert {path: last_writing(path) for path in root.iterdir()} == before


def test_a_changed_setting_is_another_file(tmp_path, root, folder, release):
    before = contents(root)
    for path in root.glob("*.h5"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    prepared = prepare(tmp_path, folder, release, "gcn_lcn,kernel_size=5")
    assert prepared.path == tmp_path / "svhn-gcn_lcn,kernel_size=5.h5"
    assert prepared.settings["kernel_size"] == 5
    assert contents(tmp_path) == before | {prepared.path.name: prepared.path.read_bytes()}
    narrow = svhn.load("svhn", tmp_path, "gcn_lcn,kernel_size=5", 5, 5, release)
    wide = svhn.load("svhn", tmp_path, "gcn_lcn", 5, 5, release)
    assert narrow.preprocessing == "gcn_lcn,kernel_size=5"
    assert np.abs(narrow.train.images[:] - wide.train.images[:]).max() > 0.1
    listed = data_prep.stored_variants("svhn", tmp_path)
    assert listed == ["gcn_lcn", "gcn_lcn,kernel_size=5", "gcn_lcn_red", "torch7_lcn"]


def test_a_variant_needs_the_published_images_only_while_it_is_made(tmp_path, folder, release):
    prepare(tmp_path, folder, release, "gcn_lcn_red")
    (tmp_path / "svhn.h5").unlink()
    prepare(tmp_path, folder, release, "gcn_lcn_red")
    assert list(contents(tmp_path)) == ["svhn-gcn_lcn_red.h5"]
    assert svhn.load("svhn", tmp_path, "gcn_lcn_red", 5, 5, release).train.images[:].shape == (5, 3, 32, 32)


def test_what_was_made_from_other_files_is_not_taken_nor_replaced(tmp_path, folder, release):
    prepare(tmp_path, folder, release)
    whole = contents(tmp_path)
    for refusing in (
        lambda: data_prep.prepare("svhn", tmp_path, folder),
        lambda: data_prep.check("svhn", tmp_path),
        lambda: data_prep.status("svhn", tmp_path),
        lambda: data_prep.load("svhn", tmp_path, "signed", 10, 10),
    ):
        message = (
            rf"svhn\.h5 was made from .*'{release.fingerprint}'.*, not from .*: move it away, then run `python cli.py"
        )
        with pytest.raises(DataError, match=message):
            refusing()
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("damage", ["changed", "cut", "emptied", "metadata"])
def test_damaged_data_is_refused_and_prepared_again(tmp_path, folder, release, damage):
    path = prepare(tmp_path, folder, release).path
    whole = path.read_bytes()
    content = bytearray(whole)
    content[{"changed": 1_000_000, "metadata": 1500}.get(damage, 0)] ^= 1
    path.write_bytes({"cut": whole[:-1], "emptied": b""}.get(damage, content))
    with pytest.raises(DamagedDataError, match=r"is damaged: .*: run `python cli.py prepare svhn`$"):
        svhn.check("svhn", tmp_path, release)
    if damage in ("cut", "emptied"):  # seen without reading all of it
        with pytest.raises(DamagedDataError):
            svhn.load("svhn", tmp_path, "signed", 10, 10, release)
    prepare(tmp_path, folder, release)
    assert path.read_bytes() == whole


def test_labels_that_are_damaged_are_not_given(tmp_path, folder, release):
    path = prepare(tmp_path, folder, release).path
    content = bytearray(path.read_bytes())
    content[store.glance("svhn", tmp_path).places["labels"] + 7] = 10
    path.write_bytes(content)
    with pytest.raises(DamagedDataError, match="its labels are not 0 to 9: run `python cli"):
        svhn.load("svhn", tmp_path, "signed", 10, 10, release)


@pytest.mark.parametrize("places", [{}, {"images": 0}, {"images": 2048, "labels": 1 << 40}])
def test_arrays_that_the_file_has_no_place_for_are_not_given(tmp_path, folder, release, places):
    path = prepare(tmp_path, folder, release).path
    content = bytearray(path.read_bytes())
    header = json.loads(content[64 : store.USER_BLOCK]) | {"places": places}
    content[64 : store.USER_BLOCK] = json.dumps(header).encode().ljust(store.USER_BLOCK - 64)
    path.write_bytes(content)
    with pytest.raises(DamagedDataError, match="it has no place for its arrays: run `python cli"):
        svhn.load("svhn", tmp_path, "signed", 10, 10, release)


def test_no_pickle_is_ever_loaded(tmp_path, folder, release, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pickle")

    monkeypatch.setattr("pickle.loads", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    prepare(tmp_path, folder, release, "gcn_lcn_red")
    svhn.load("svhn", tmp_path, "gcn_lcn_red", 5, 5, release).train.images[:]


# --- interrupted


class Interrupted(Silent):
    """Ends the process that it listens to when so many chunks are done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, amount: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def counting(monkeypatch) -> list[range]:
    """The chunks that are normalized from now on."""
    done: list[range] = []
    original = GcnLcn.normalizer

    def normalizer(variant: GcnLcn, published: object) -> Callable[..., np.ndarray]:
        normalize = original(variant, published)  # type: ignore[arg-type]

        def noting(rows: range, pixels: np.ndarray) -> np.ndarray:
            done.append(rows)
            return normalize(rows, pixels)

        return noting

    monkeypatch.setattr(GcnLcn, "normalizer", normalizer)
    return done


@pytest.mark.parametrize("after", [0, 1, 7, 33])
def test_an_interruption_costs_no_finished_chunk(tmp_path, root, folder, release, monkeypatch, after):
    """A chunk is finished when its line is in the journal."""
    (tmp_path / "svhn.h5").write_bytes((root / "svhn.h5").read_bytes())
    with pytest.raises(KeyboardInterrupt):  # the first call of advance is for the chunks that are there
        svhn.prepare_variant("svhn", tmp_path, "gcn_lcn_red", folder, Interrupted(1 + after), release)
    journal = (tmp_path / "svhn-gcn_lcn_red.h5.journal").read_text().splitlines()
    assert len(journal) == 1 + min(after + 1, 34)
    done = counting(monkeypatch)
    prepare(tmp_path, folder, release, "gcn_lcn_red")
    assert sorted(done, key=lambda rows: rows.start) == svhn_chunks.ranges(SIZES)[len(journal) - 1 :]
    assert contents(tmp_path) == {name: contents(root)[name] for name in ("svhn.h5", "svhn-gcn_lcn_red.h5")}


def test_an_interrupted_construction_with_other_settings_is_begun_anew(tmp_path, root, folder, release, monkeypatch):
    (tmp_path / "svhn.h5").write_bytes((root / "svhn.h5").read_bytes())
    with pytest.raises(KeyboardInterrupt):
        svhn.prepare_variant("svhn", tmp_path, "gcn_lcn_red", folder, Interrupted(10), release)
    journal = tmp_path / "svhn-gcn_lcn_red.h5.journal"
    first, *rest = journal.read_text().splitlines()
    other = json.loads(first)
    other["settings"]["computed_with"] = "numpy 0.1"
    journal.write_text("\n".join([json.dumps(other), *rest, ""]))
    done = counting(monkeypatch)
    prepare(tmp_path, folder, release, "gcn_lcn_red")
    assert len(done) == 34
    assert (tmp_path / "svhn-gcn_lcn_red.h5").read_bytes() == (root / "svhn-gcn_lcn_red.h5").read_bytes()


@pytest.mark.parametrize("damage", ["structure", "length", "journal", "no part"])
def test_what_an_interruption_left_is_not_trusted_blindly(tmp_path, folder, release, root, damage):
    """HDF5 may crash on a damaged file: it is begun anew."""
    with pytest.raises(KeyboardInterrupt):
        svhn.prepare("svhn", tmp_path, folder, Interrupted(10), release)
    part, journal = tmp_path / "svhn.h5.part", tmp_path / "svhn.h5.journal"
    content = bytearray(part.read_bytes())
    if damage == "structure":
        content[1024 + 120] ^= 255
        part.write_bytes(content)
    elif damage == "length":
        part.write_bytes(content[:-5])
    elif damage == "journal":
        journal.write_bytes(b"\0" * 100 + b"\n")
    else:
        part.unlink()
    prepare(tmp_path, folder, release)
    assert contents(tmp_path) == {"svhn.h5": (root / "svhn.h5").read_bytes()}


def test_a_chunk_that_changed_on_the_disk_is_found_before_the_file_is_taken_for_whole(tmp_path, folder, release, root):
    with pytest.raises(KeyboardInterrupt):
        svhn.prepare("svhn", tmp_path, folder, Interrupted(10), release)
    part = tmp_path / "svhn.h5.part"
    content = bytearray(part.read_bytes())
    places = json.loads((tmp_path / "svhn.h5.journal").read_text().splitlines()[0])["places"]
    content[places["images"] + 100_000] ^= 255  # in the second chunk
    part.write_bytes(content)
    with pytest.raises(
        StorageError, match=r"read back from .* is not what was written to it: check the disk, then run"
    ):
        prepare(tmp_path, folder, release)
    assert not (tmp_path / "svhn.h5").exists()
    prepare(tmp_path, folder, release)
    assert contents(tmp_path) == {"svhn.h5": (root / "svhn.h5").read_bytes()}


def test_a_kill_costs_no_finished_chunk(tmp_path, folder, release, root):
    """SIGKILL when some chunks are done."""
    kill = "    def advance(self, amount):\n        next(left, None) or os.kill(os.getpid(), 9)\n"
    code = CHILD.replace("class Limited(Silent):\n", f"left = iter(range(1, 8))\nclass Limited(Silent):\n{kill}")
    command = [sys.executable, "-c", code, str(folder), str(tmp_path), "", "0"]
    killed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert set(contents(tmp_path)) == {"svhn.h5.part", "svhn.h5.journal"}
    assert len((tmp_path / "svhn.h5.journal").read_bytes().splitlines()) == 1 + 8  # a line for each chunk
    prepare(tmp_path, folder, release)
    assert contents(tmp_path) == {"svhn.h5": (root / "svhn.h5").read_bytes()}


@pytest.mark.nightly
@pytest.mark.parametrize("variant", ["", "gcn_lcn_red"])
def test_kills_at_random_moments_do_no_harm(tmp_path, folder, release, root, variant):
    """SIGKILL twenty times, at moments spread over the whole preparation; then the same bytes as without any."""
    name = f"svhn-{variant}.h5" if variant else "svhn.h5"
    if variant:
        (tmp_path / "svhn.h5").write_bytes((root / "svhn.h5").read_bytes())
    seconds = seconds_to_the_end(child(folder, tmp_path, variant))
    (tmp_path / name).unlink()
    moments, killed, finished = random.Random(7), 0, []
    while killed < 20:
        killed += killed_after(child(folder, tmp_path, variant), moments.uniform(0, seconds))
        if (tmp_path / name).exists():
            assert (tmp_path / name).read_bytes() == (root / name).read_bytes()
            (tmp_path / name).unlink()
        journal = tmp_path / f"{name}.journal"
        finished.append(len(journal.read_bytes().splitlines()) if journal.exists() else 0)
    assert len(set(finished)) > 3  # they did hit in the middle, and what they left was gone on with
    _, errors = child(folder, tmp_path, variant).communicate(timeout=600)
    assert errors == ""
    assert contents(tmp_path)[name] == contents(root)[name]
    assert set(contents(tmp_path)) == {"svhn.h5", name}


# --- disks


def test_too_little_space_is_told_before_anything_is_written(tmp_path, folder, release, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(
        StorageError, match=r"preparing svhn needs 2 MB, but .* has 1 MB free: free some space, then run"
    ):
        prepare(tmp_path, folder, release)
    assert contents(tmp_path) == {}


def test_the_space_for_downloads_is_checked_too(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3 * 10**9})())
    with pytest.raises(StorageError, match=r"preparing svhn needs 3,513 MB, but .* has 3,000 MB free"):
        data_prep.prepare("svhn", tmp_path)


@pytest.mark.parametrize("limit", [100, 50_000, 700_000])
def test_a_disk_that_is_full_from_the_beginning_is_one_clear_line(tmp_path, folder, release, root, limit):
    code = CHILD.replace("class Limited", f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1))\nclass Limited")
    command = [sys.executable, "-c", code, str(folder), str(tmp_path), "", "0"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert f"write {tmp_path}/svhn.h5.part" in result.stderr
    assert "free some space" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert contents(tmp_path) == {}
    prepare(tmp_path, folder, release)
    assert contents(tmp_path) == {"svhn.h5": (root / "svhn.h5").read_bytes()}


@pytest.mark.parametrize("limit", [100_000, 1_000_000, 1_900_000])
def test_a_disk_that_fills_on_the_way_is_one_clear_line_and_costs_no_finished_chunk(
    tmp_path, folder, release, root, limit
):
    _, errors = (process := child(folder, tmp_path, "", limit)).communicate(timeout=600)
    assert process.returncode == 1
    assert errors.startswith("error: ")
    assert "svhn.h5.part" in errors
    assert "free some space" in errors
    assert errors.endswith("then run `python cli.py prepare svhn`\n")
    assert len(errors.splitlines()) == 1
    assert set(contents(tmp_path)) == {"svhn.h5.part", "svhn.h5.journal"}
    prepare(tmp_path, folder, release)
    assert contents(tmp_path) == {"svhn.h5": (root / "svhn.h5").read_bytes()}


@pytest.mark.slow
def test_many_processes_at_once_do_no_harm(tmp_path, folder, root):
    children = [child(folder, tmp_path, "gcn_lcn_red") for _ in range(3)]
    outputs = [process.communicate(timeout=600) for process in children]
    assert [process.returncode for process in children] == [0] * 3, outputs
    assert contents(tmp_path) == {name: contents(root)[name] for name in ("svhn.h5", "svhn-gcn_lcn_red.h5")}


# --- the files


def test_the_files_come_from_the_official_place(tmp_path, folder, release, root, monkeypatch):
    monkeypatch.setattr("data_prep.fetch.download.RETRY_PAUSES", (0.0, 0.0, 0.0))
    served = {file.artifact.name: (folder / file.artifact.name).read_bytes() for file in release.files}
    with Mirror(served, break_after=700_000) as mirror:
        monkeypatch.setattr("data_prep.svhn.release.SITE", mirror.url)
        prepared = svhn.prepare("svhn", tmp_path, None, Silent(), release)
    assert prepared.origin == mirror.url
    assert prepared.digest == store.glance("svhn", root).digest
    assert any(wanted for _, wanted in mirror.asked)  # broken off, and resumed
    prepared.path.unlink()
    assert svhn.prepare("svhn", tmp_path, None, Silent(), release).origin == "official files downloaded before"


def test_without_a_network_the_line_says_that_there_is_no_other_place_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.svhn.release.SITE", "http://127.0.0.1:9/housenumbers/")
    with pytest.raises(DataError) as failure:
        data_prep.prepare("svhn", tmp_path)
    assert str(failure.value) == (
        "svhn cannot be fetched (http://127.0.0.1:9/housenumbers/train_32x32.mat: Connection refused), and nobody else"
        " gives these files: connect to a network, or download train_32x32.mat, extra_32x32.mat, test_32x32.mat from"
        " http://127.0.0.1:9/housenumbers/ elsewhere and run `python cli.py prepare svhn --source FOLDER`"
    )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("svhn.h5")]


def test_there_is_no_way_around_the_official_checksums(tmp_path, folder):
    with pytest.raises(DataError) as failure:
        data_prep.prepare("svhn", tmp_path, folder)
    size = (folder / "train_32x32.mat").stat().st_size
    assert str(failure.value) == (
        f"{folder}/train_32x32.mat is not train_32x32.mat: expected 182040794 bytes, found {size}:"
        " put the official file there, or run `python cli.py prepare svhn` to fetch it"
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"expected \d+ bytes, found \d+"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "expected sha256 [0-9a-f]+, found [0-9a-f]+"),
        (Path.unlink, "has no file extra_32x32.mat"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, folder, release, spoil, message):
    copy = tmp_path / "files"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    spoil(copy / "extra_32x32.mat")
    with pytest.raises(DataError, match=f"{message}: put the official file there, or run"):
        prepare(tmp_path / "data", copy, release)
    with pytest.raises(DataError, match="absent is not a folder: put the official file there"):
        prepare(tmp_path / "data", tmp_path / "absent", release)
    assert contents(tmp_path / "data") == {}


def with_train(folder: Path, release: Release, target: Path, write_train: Callable[[Path], None]) -> Release:
    """The files of `folder` in `target`, but for another train_32x32.mat that is taken for the right one."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    train = target / "train_32x32.mat"
    write_train(train)
    return dataclasses.replace(release, train=MatFile(artifact_of(train), SIZES[0]))


def saved(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda path: savemat(path, arrays, do_compression=True)


PIXELS, ONES = np.zeros((32, 32, 3, 230), np.uint8), np.ones((230, 1), np.uint8)


def labeled(label: float, labels_as: str = "double") -> Callable[[Path], None]:
    def write_train(path: Path) -> None:
        labels = digits(230, 0).astype(float)
        labels[100] = label
        write_mat(path, images(230, 0), labels, labels_as=labels_as)

    return write_train


@pytest.mark.parametrize(
    ("write_train", "message"),
    [
        (
            saved(X=PIXELS.transpose(0, 1, 3, 2), y=ONES),
            r"expected X to be uint8 \(32, 32, 3, 230\), found uint8 \(32, 32, 230, 3\)",
        ),
        (
            saved(X=PIXELS.astype(float), y=ONES),
            r"expected X to be uint8 \(32, 32, 3, 230\), found double \(32, 32, 3, 230\)",
        ),
        (saved(X=PIXELS, y=ONES.T), r"expected y to be uint8 or double \(230, 1\), found uint8 \(1, 230\)"),
        (saved(X=PIXELS), "expected variables X and y, found X"),
        (saved(X=PIXELS, z=ONES, y=ONES), "expected one X and one y, found 'z' beside or again"),
        (labeled(0), "expected labels 1 to 10, found 0"),
        (labeled(11, "uint8"), "expected labels 1 to 10, found 11"),
        (labeled(2.5), "expected labels 1 to 10, found 2.5"),
        (labeled(float("nan")), "expected labels 1 to 10, found nan"),
    ],
)
def test_a_file_with_another_content_is_refused(tmp_path, folder, release, write_train, message):
    other = with_train(folder, release, tmp_path / "files", write_train)
    with pytest.raises(DataError, match=f"^train_32x32.mat: {message}$"):
        prepare(tmp_path / "data", tmp_path / "files", other)
    assert not (tmp_path / "data" / "svhn.h5").exists()


@pytest.mark.parametrize("labels_as", ["uint8", "double", "short double"])
@pytest.mark.parametrize("labels_first", [False, True])
def test_whatever_way_the_files_are_written_the_same_is_stored(
    tmp_path, folder, release, root, labels_as, labels_first
):
    def write_train(path: Path) -> None:
        level = None if labels_first else 6
        write_mat(path, images(230, 0), digits(230, 0), level=level, labels_first=labels_first, labels_as=labels_as)

    other = with_train(folder, release, tmp_path / "files", write_train)
    prepared = prepare(tmp_path / "data", tmp_path / "files", other)
    assert prepared.digest == store.glance("svhn", root).digest


def test_images_with_other_statistics_are_not_svhn(tmp_path, folder, release):
    wrong = dataclasses.replace(release, known={"red_mean": 0.437682})
    with pytest.raises(DataError, match=r"not SVHN: expected red_mean 0\.437682, found 0\.\d{6}"):
        prepare(tmp_path, folder, wrong)
    assert not (tmp_path / "svhn.h5").exists()


# --- at scale


@pytest.mark.nightly
def test_a_twentieth_of_svhn_needs_little_memory(tmp_path):
    """31,521 images in chunks of the true size, in a process of their own; the whole of it is in docs/data.md."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests/data_prep'); import svhn_files\n"
        "folder = Path(sys.argv[1]); svhn_files.write(folder, svhn_files.sizes_at(0.05)[0])\n"
        "svhn_files.measure(folder, 0.05)\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(result.stdout.split()[-1]) / 1024 < 1000  # MiB
    assert not [path for path in (tmp_path / "data").iterdir() if path.suffix in (".part", ".journal")]


# --- threads


@given(count=st.integers(0, 40))
def test_work_in_threads_comes_out_in_order(count):
    taken = []

    def items():
        for number in range(count):
            taken.append(number)
            yield number

    found = []
    for number, result in enumerate(svhn_chunks.in_order(lambda item: item * item, items())):
        found.append(result)
        assert len(taken) <= number + svhn_chunks.threads() + 2  # so that memory is bounded
    assert found == [number * number for number in range(count)]


def test_a_failure_in_a_thread_is_a_failure():
    with pytest.raises(ZeroDivisionError):
        list(svhn_chunks.in_order(lambda item: 1 // item, [3, 2, 1, 0, 1]))


def test_chunks_are_all_images_and_of_one_file_each():
    assert svhn_chunks.ranges([50, 20, 5]) == [
        range(20), range(20, 40), range(40, 50), range(50, 70), range(70, 75)
    ]  # fmt: skip
