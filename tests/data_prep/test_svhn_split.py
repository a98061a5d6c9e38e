"""The splits of SVHN: pylearn2's to the image, from the original code's own run; dp's by its rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.svhn.split import first_of_class_split, pylearn2_split

GOLDEN = Path(__file__).parents[1] / "golden" / "svhn_split.npz"
TRUE_SIZES = (73257, 531131, 26032)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """What pylearn2's svhn.py made of 8,000 + 6,000 + 1,032 stand-in images: which in which order, and their labels."""
    with np.load(GOLDEN) as file:
        return {name: file[name].astype(np.int64) for name in file}


@pytest.fixture(scope="module")
def labels(golden) -> list[np.ndarray]:
    return [(golden[f"mat_{name}_labels"] - 1).astype(np.uint8) for name in ("train", "extra", "test")]


def test_the_split_is_that_of_the_original_code_in_its_order(golden, labels):
    rows = pylearn2_split(*labels, (400, 200))
    np.testing.assert_array_equal(rows.train, golden["train_src"])
    np.testing.assert_array_equal(rows.test, golden["test_src"] + 14000)
    np.testing.assert_array_equal(np.sort(rows.valid), np.sort(golden["valid_src"]))
    stored = np.concatenate(labels)
    for name, images in rows._asdict().items():
        if name != "valid":
            np.testing.assert_array_equal(stored[images], golden[f"{name}_y"])


def test_digit_0_is_class_9_as_in_the_original_code(golden, labels):
    assert golden["mat_train_labels"].max() == 10
    assert (labels[0][golden["mat_train_labels"] == 10] == 9).all()
    assert (labels[0][golden["mat_train_labels"] == 1] == 0).all()


def test_the_true_sizes_give_the_published_numbers():
    generator = np.random.default_rng(1)
    drawn = [generator.integers(0, 10, size).astype(np.uint8) for size in TRUE_SIZES]
    for split in (pylearn2_split, first_of_class_split):
        rows = split(*drawn, (400, 200))
        assert [len(images) for images in rows] == [598_388, 6_000, 26_032]


def test_a_python_set_of_so_many_training_images_is_in_ascending_order():
    """The original passes the numbers through sets; here at the true size of `train` and of `extra`."""
    for size, held in ((73257, 4000), (531131, 2000)):
        left = set(range(size)) - set(np.random.default_rng(2).choice(size, held, replace=False).tolist())
        assert list(left) == sorted(left)


sizes = st.tuples(st.integers(40, 90), st.integers(40, 90), st.integers(1, 30))


@given(sizes=sizes, held_out=st.tuples(st.integers(0, 3), st.integers(0, 3)), seed=st.integers(0, 99))
def test_every_image_is_in_one_place_and_the_classes_held_out_are_even(sizes, held_out, seed):
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(np.arange(size, dtype=np.uint8) % 10) for size in sizes]
    stored = np.concatenate(drawn)
    for split in (pylearn2_split, first_of_class_split):
        rows = split(*drawn, held_out)
        assert {images.dtype for images in rows} == {np.dtype(np.int32)}
        np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(sum(sizes)))
        for start, end, count in ((0, sizes[0], held_out[0]), (sizes[0], sum(sizes[:2]), held_out[1])):
            held = stored[[row for row in rows.valid if start <= row < end]]
            np.testing.assert_array_equal(np.bincount(held, minlength=10), count)
        assert rows.test.min() == sum(sizes[:2])


def test_dp_holds_out_the_first_of_each_class(labels):
    rows = first_of_class_split(*labels, (400, 200))
    for label in range(10):
        members = np.flatnonzero(labels[0] == label)
        assert set(members[:400]) <= set(rows.valid.tolist())
        assert set(members[400:]) <= set(rows.train.tolist())
    assert all((np.diff(images) > 0).all() for images in rows)
