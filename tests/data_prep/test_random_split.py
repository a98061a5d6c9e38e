"""akshaychawla's random split: training and validation images drawn from all, as a function of a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_images import TINY

import data_prep
from data_prep import DataError, Dataset
from data_prep.cifar10.dataset import DATA_SETS
from data_prep.streams import stream

SMALL = {"mnist-small": 2200, "cifar10-small": 500}


def load(root: Path, dataset: str, train: int, valid: int, seed: int | None = 7) -> Dataset:
    return data_prep.load(dataset, root, "unit", train, valid, split_seed=seed)


def keys(images: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("dataset", SMALL)
def test_every_image_is_either_trained_or_validated_on(small_data_root, dataset):
    valid = SMALL[dataset] // 5
    drawn = load(small_data_root, dataset, SMALL[dataset] - valid, valid)
    known = DATA_SETS.get(dataset)
    train, held = (known.train, known.valid) if known else (2000, 200)
    published = load(small_data_root, dataset, train, held, None)
    assert sorted(keys(drawn.train.images) + keys(drawn.valid.images)) == sorted(
        keys(published.train.images) + keys(published.valid.images)
    )
    assert drawn.test.digest == published.test.digest
    assert drawn.train.digest != published.train.digest
    label_of = dict(zip(keys(published.train.images), published.train.labels, strict=True))
    label_of |= dict(zip(keys(published.valid.images), published.valid.labels, strict=True))
    for split in (drawn.train, drawn.valid):
        assert [label_of[key] for key in keys(split.images)] == list(split.labels)


def test_training_images_stay_in_the_order_they_are_stored_in(small_data_root):
    """The original never shuffles what a Python set gave it in ascending order."""
    published = load(small_data_root, "cifar10-small", 400, 100, None)
    order = {key: place for place, key in enumerate(keys(published.train.images) + keys(published.valid.images))}
    drawn = load(small_data_root, "cifar10-small", 400, 100)
    train = [order[key] for key in keys(drawn.train.images)]
    valid = [order[key] for key in keys(drawn.valid.images)]
    assert train == sorted(train)
    assert valid != sorted(valid)
    assert sum(place >= 400 for place in valid) < 50  # 20 of the 100 last ones are expected


def test_the_split_is_a_function_of_the_seed(small_data_root):
    first, again, other = (load(small_data_root, "cifar10-small", 400, 100, seed) for seed in (7, 7, 8))
    for split in ("train", "valid"):
        assert getattr(first, split).digest == getattr(again, split).digest != getattr(other, split).digest


def test_a_memory_mapped_variant_will_do(tmp_path):
    from data_prep.cifar10 import whitened
    from data_prep.progress import Silent

    whitened.prepare(TINY, tmp_path, "gcn_zca", None, Silent())
    in_order = whitened.load(TINY, tmp_path, "gcn_zca", 90, 10)
    drawn = whitened.load(TINY, tmp_path, "gcn_zca", 90, 10, split_seed=7)
    stored = keys(in_order.train.images) + keys(in_order.valid.images)
    assert sorted(keys(drawn.train.images) + keys(drawn.valid.images)) == sorted(stored)
    assert drawn.train.images.dtype == np.float32


@given(st.integers(1, 300), st.integers(1, 200), st.integers(0, 2**63 - 1))
def test_any_counts_are_honored_without_overlap(train, valid, seed):
    chosen, held = DATA_SETS["cifar10-small"].parts(train, valid, seed)
    assert (len(chosen), len(held)) == (train, valid)
    assert len({*chosen.tolist(), *held.tolist()}) == train + valid
    assert max(*chosen, *held) < 500


def test_fewer_training_images_leave_the_validation_images_as_they_are():
    parts = DATA_SETS["cifar10-small"].parts
    np.testing.assert_array_equal(parts(400, 100, 7)[1], parts(10, 100, 7)[1])


@pytest.mark.parametrize(("train", "valid"), [(401, 100), (0, 100), (100, 0), (500, 1)])
def test_more_images_than_there_are_is_refused(small_data_root, train, valid):
    with pytest.raises(DataError, match="500 images to give for training and validation together"):
        load(small_data_root, "cifar10-small", train, valid)


def test_svhn_refuses_it_and_the_others_refuse_its_subset(small_data_root):
    with pytest.raises(DataError, match=r"svhn has no random split: expected the published one \(data.split=published"):
        data_prep.load("svhn", small_data_root, "signed", 10, 10, split_seed=1)
    for dataset in SMALL:
        with pytest.raises(DataError, match=f"{dataset} has no subset 'train_digits': only svhn has one"):
            data_prep.load(dataset, small_data_root, "unit", 10, 10, subset="train_digits")


@given(st.integers(0, 2**63 - 1), st.sampled_from(["split", "labels train"]), st.integers(0, 10))
def test_streams_of_other_seeds_purposes_and_numbers_differ(seed, purpose, number):
    def draw(*key: object) -> int:
        return int(stream(*key).integers(2**63))  # type: ignore[arg-type]

    own = draw(seed, purpose, number)
    assert own == draw(seed, purpose, number)
    others = [draw(seed ^ 1, purpose, number), draw(seed, purpose + "x", number), draw(seed, purpose, number + 1)]
    others += [draw(seed, purpose), int(np.random.default_rng([seed, number]).integers(2**63))]
    assert own not in others
