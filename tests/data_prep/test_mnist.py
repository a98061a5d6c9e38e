"""MNIST as the published code saw it: splits, preprocessing, statistics, on the 2,400 images that ship here."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pytest
from mirror_server import artifact_of

from data_prep import DataError, MissingDataError, load, prepare
from data_prep.mnist import dataset as mnist
from data_prep.storage import store

GOLDEN = Path(__file__).parents[1] / "golden" / "data_mnist_centered.npz"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare("mnist-small", root)
    return root


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """Arrays made by the original code: MNIST(center=True).X and MNIST(center=False).X of pylearn2, four rows each."""
    with np.load(GOLDEN) as file:
        return {name: file[name].reshape(4, 1, 28, 28) for name in file}


def test_centering_is_that_of_the_original_code_to_the_last_bit(root, golden):
    dataset = load("mnist-small", root, "centered", 2000, 200)
    np.testing.assert_array_equal(dataset.train.images[:4], golden["centered_train_first4"])
    np.testing.assert_array_equal(dataset.test.images[:4], golden["centered_test_first4"])


def test_unit_is_that_of_the_original_code_to_the_last_bit(root, golden):
    dataset = load("mnist-small", root, "unit", 4, 1)
    np.testing.assert_array_equal(dataset.train.images, golden["uncentered_train_first4"])


def test_signed_is_unit_stretched_to_both_signs(root):
    unit, signed = (load("mnist-small", root, name, 2000, 200) for name in ("unit", "signed"))
    np.testing.assert_array_equal(signed.test.images, 2 * unit.test.images - 1)
    assert (signed.train.images.min(), signed.train.images.max()) == (-1, 1)
    assert (unit.train.images.min(), unit.train.images.max()) == (0, 1)


def test_training_and_validation_are_centered_by_one_mean_and_the_test_set_by_its_own(root):
    unit, centered = (load("mnist-small", root, name, 2000, 200) for name in ("unit", "centered"))
    _, arrays = store.read("mnist-small", root, mnist.DATA_SETS["mnist-small"].digest)
    for split, mean in (("train", "train_mean"), ("valid", "train_mean"), ("test", "test_mean")):
        subtracted = getattr(unit, split).images - getattr(centered, split).images
        np.testing.assert_allclose(subtracted, np.broadcast_to(arrays[mean], subtracted.shape), atol=1e-6)
    assert np.abs(arrays["train_mean"] - arrays["test_mean"]).max() > 0.01


def test_standardized_by_two_numbers_of_the_training_images(root):
    unit, standardized = (load("mnist-small", root, name, 2000, 200) for name in ("unit", "standardized"))
    images = unit.train.images.astype(np.float64)
    for split in ("train", "valid", "test"):
        expected = (getattr(unit, split).images - images.mean()) / images.std()
        np.testing.assert_allclose(getattr(standardized, split).images, expected, rtol=1e-5, atol=1e-6)
    assert abs(standardized.train.images.mean(dtype=np.float64)) < 1e-6
    assert abs(standardized.train.images.std(dtype=np.float64) - 1) < 1e-6
    few = load("mnist-small", root, "standardized", 10, 5)
    np.testing.assert_array_equal(few.train.images, standardized.train.images[:10])


def test_normalized_by_the_four_digits_of_pytorchs_example(root):
    unit, normalized = (load("mnist-small", root, name, 2000, 200) for name in ("unit", "normalized"))
    for split in ("train", "valid", "test"):
        expected = (getattr(unit, split).images.astype(np.float64) - 0.1307) / 0.3081
        np.testing.assert_allclose(getattr(normalized, split).images, expected, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("preprocessing", ["centered", "unit", "signed", "standardized", "normalized"])
def test_the_arrays_are_what_engines_take(root, preprocessing):
    dataset = load("mnist-small", root, preprocessing, 1500, 150)
    assert (dataset.name, dataset.preprocessing) == ("mnist-small", preprocessing)
    for split, name, count in (
        (dataset.train, "train", 1500),
        (dataset.valid, "valid", 150),
        (dataset.test, "test", 200),
    ):
        assert split.name == name
        assert split.images.shape == (count, 1, 28, 28)
        assert split.images.dtype == np.float32
        assert split.images.flags.c_contiguous
        assert split.labels.shape == (count,)
        assert split.labels.dtype == np.int64
        assert set(split.labels) == set(range(10))
        assert split.digest == store.digest_of({"images": split.images, "labels": split.labels})


def test_a_limit_takes_the_first_images_and_changes_no_value(root):
    whole, few = load("mnist-small", root, "centered", 2000, 200), load("mnist-small", root, "centered", 10, 5)
    np.testing.assert_array_equal(few.train.images, whole.train.images[:10])
    np.testing.assert_array_equal(few.valid.images, whole.valid.images[:5])
    np.testing.assert_array_equal(few.valid.labels, whole.valid.labels[:5])
    assert few.test.digest == whole.test.digest
    assert few.train.digest != whole.train.digest


def test_the_digests_are_the_same_everywhere(root):
    """Records carry these; a change here makes old and new runs incomparable."""
    dataset = load("mnist-small", root, "centered", 2000, 200)
    assert [split.digest for split in (dataset.train, dataset.valid, dataset.test)] == [
        "f68b2848653aec66d1ac5e405fbc445e6bf347fc3942ce32d51cf72d2939c81a",
        "56a7c2c4fd68493e0d07e4c3402d50b9996384ee3298b8b9b568261917ef38a3",
        "340c1d1e2a1c37dfeacf580f2c5441be926d1f1285e7a2e04ffca94850654297",
    ]


@pytest.mark.parametrize(
    ("train", "valid", "message"),
    [
        (2001, 200, "mnist-small has 1 to 2000 training images to give: asked for 2001"),
        (0, 200, "1 to 2000 training images to give: asked for 0"),
        (-1, 200, "asked for -1"),
        (2000, 201, "1 to 200 validation images to give: asked for 201"),
        (2000, -1, "1 to 200 validation images to give: asked for -1"),
        (2201, 0, "1 to 2200 training images to give: asked for 2201"),
    ],
)
def test_impossible_counts_are_refused(root, train, valid, message):
    with pytest.raises(DataError, match=message):
        load("mnist-small", root, "unit", train, valid)


def test_mnist_itself_has_50000_and_10000(tmp_path):
    with pytest.raises(DataError, match="mnist has 1 to 50000 training images to give: asked for 60000"):
        load("mnist", tmp_path, "unit", 60000, 10000)
    with pytest.raises(MissingDataError, match=r"mnist is not prepared in .*: run `python cli.py prepare mnist`$"):
        load("mnist", tmp_path, "unit", 50000, 10000)


def test_unknown_names_are_refused_with_the_known_ones(root):
    with pytest.raises(
        DataError, match="unknown preprocessing 'whitened' of mnist-small: expected centered, unit, signed"
    ):
        load("mnist-small", root, "whitened", 2000, 200)
    with pytest.raises(DataError, match="unknown data set 'mnits': expected mnist, mnist-small"):
        load("mnits", root, "unit", 2000, 200)


def test_images_with_other_statistics_or_classes_are_not_mnist(root):
    _, arrays = store.read("mnist-small", root, mnist.DATA_SETS["mnist-small"].digest)
    with pytest.raises(DataError, match=r"not MNIST: expected pixel_mean 33\.318421, found 33\.065210"):
        mnist.check_known(arrays)


def test_labels_of_other_classes_are_not_mnist(monkeypatch):
    pixels = np.zeros((2, 28, 28), np.uint8)
    monkeypatch.setattr(mnist, "KNOWN_STATISTICS", {"pixel_mean": 0.0, "pixel_std": 0.0})
    labels = np.repeat(np.arange(10, dtype=np.uint8), mnist.KNOWN_CLASS_COUNTS["train_labels"])
    with pytest.raises(DataError, match=r"expected images of each class in test_labels \(980, .*, found \(5923, "):
        mnist.check_known({"train_images": pixels, "train_labels": labels, "test_labels": labels})
    labels[0] = 10
    with pytest.raises(DataError, match=r"in train_labels .* 5949\), found \(5922, .* 5949, 1\)"):
        mnist.check_known({"train_images": pixels, "train_labels": labels, "test_labels": labels})


def test_the_mean_is_summed_in_the_order_of_the_images_in_float32():
    pixels = np.random.default_rng(2).integers(0, 256, (300, 28, 28), np.uint8)
    total = np.zeros((28, 28), np.float32)
    for image in pixels:
        total += image.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(mnist.mean_of(pixels), total / np.float32(300))


def test_statistics_are_those_of_numpy():
    pixels = np.random.default_rng(3).integers(0, 256, (50, 28, 28), np.uint8)
    statistics = mnist.statistics_of({"train_images": pixels})
    assert statistics["pixel_mean"] == pytest.approx(pixels.mean(), rel=1e-12)
    assert statistics["pixel_std"] == pytest.approx(pixels.std(), rel=1e-12)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_files_are_found_where_torchvision_keeps_them(tmp_path, monkeypatch, suffix):
    files = []
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for file in mnist.FILES:
        content = file.array.encode()
        (tmp_path / "MNIST" / "raw" / (file.plain.name + suffix)).write_bytes(
            gzip.compress(content) if suffix else content
        )
        files.append(dataclasses.replace(file, plain=artifact_of(file.plain.name, content)))
    monkeypatch.setattr(mnist, "FILES", files)
    assert mnist._imported(tmp_path) == ([file.array.encode() for file in files], "a folder of the user")
