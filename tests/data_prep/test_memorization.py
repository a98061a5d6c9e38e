from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import data_prep
from data_prep import Dataset, Split
from data_prep.memorization import memorized, noise_images, random_labels


@pytest.fixture(scope="module")
def data(small_data_root) -> Dataset:
    return data_prep.load("cifar10-small", small_data_root, "signed", 400, 100)


def digests(data: Dataset) -> list[str]:
    return [data.train.digest, data.valid.digest, data.test.digest]


def test_true_labels_and_images_are_left_alone(data):
    same = memorized(data, "true", "images", 1)
    assert digests(same) == digests(data)
    assert same.train.images is data.train.images


@pytest.mark.parametrize(
    ("setting", "changed"), [("random", "train valid test"), ("random_train_valid", "train valid")]
)
def test_labels_of_which_splits_are_random(data, setting, changed):
    found = memorized(data, setting, "images", 1)
    for name in ("train", "valid", "test"):
        before, after = getattr(data, name), getattr(found, name)
        assert after.images is before.images
        assert np.array_equal(before.labels, after.labels) == (name not in changed.split())
        assert (before.digest == after.digest) == (name not in changed.split())


def test_random_labels_are_a_function_of_seed_and_split(data):
    first, again, other = (memorized(data, "random", "images", seed) for seed in (1, 1, 2))
    assert digests(first) == digests(again)
    assert not set(digests(first)) & set(digests(other))
    assert not np.array_equal(first.train.labels[:100], first.valid.labels)


@given(st.integers(0, 2**63 - 1))
def test_random_labels_are_uniform_and_know_nothing_of_the_true_ones(seed):
    labels = np.repeat(np.arange(10), 1000)
    drawn = random_labels(Split("train", np.zeros((10_000, 1, 1, 1), np.float32), labels, ""), seed).labels
    assert drawn.dtype == np.int64
    counts = np.bincount(drawn, minlength=10)
    assert len(counts) == 10
    assert ((counts - 1000) ** 2 / 1000).sum() < 9 + 8 * np.sqrt(18)
    assert 800 < (drawn == labels).sum() < 1200  # 1,000 are expected, 30 the standard deviation


def test_fewer_images_get_the_first_of_the_same_labels(data, small_data_root):
    few = data_prep.load("cifar10-small", small_data_root, "signed", 50, 10)
    np.testing.assert_array_equal(
        memorized(few, "random", "images", 3).train.labels, memorized(data, "random", "images", 3).train.labels[:50]
    )
    np.testing.assert_array_equal(noise_images(few.train, 3).images, noise_images(data.train, 3).images[:50])


def test_noise_replaces_the_training_images_alone(data):
    noisy = memorized(data, "true", "noise", 1)
    assert (noisy.train.images.shape, noisy.train.images.dtype) == (data.train.images.shape, np.float32)
    assert noisy.train.digest != data.train.digest
    np.testing.assert_array_equal(noisy.train.labels, data.train.labels)
    assert noisy.valid is data.valid
    assert noisy.test is data.test
    values = noisy.train.images.ravel()  # 1.2 million
    assert abs(values.mean()) < 5 * np.sqrt(0.1 / values.size)
    assert abs(values.var() - 0.1) < 5 * 0.1 * np.sqrt(2 / values.size)
    assert not np.array_equal(values, memorized(data, "true", "noise", 2).train.images.ravel())


def test_noise_and_random_labels_go_together(data):
    both = memorized(data, "random", "noise", 1)
    np.testing.assert_array_equal(both.train.images, memorized(data, "true", "noise", 1).train.images)
    np.testing.assert_array_equal(both.train.labels, memorized(data, "random", "images", 1).train.labels)
    assert len({both.train.digest, memorized(data, "true", "noise", 1).train.digest, data.train.digest}) == 3
