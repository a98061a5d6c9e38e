"""What a GPU keeps and does by itself, as far as a CPU can do it too: arrays that stay, batches, crops."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from benchmarks.engine import epoch_batches  # noqa: E402
from benchmarks.engine.augmentation import Crops, draw_crops  # noqa: E402
from bnn_torch.device.augmentation import changed, places  # noqa: E402
from bnn_torch.device.resident import Arrays, Batches  # noqa: E402

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")


def arrays(free: int = 10**6) -> Arrays:
    return Arrays(CPU, lambda: free)


def test_an_array_is_copied_once():
    kept, array = arrays(), np.arange(6, dtype=np.float32).reshape(2, 3)
    copy = kept.get(array, torch.float32)
    np.testing.assert_array_equal(copy, array)
    assert kept.get(array, torch.float32) is copy


def test_the_training_images_stay_whatever_else_comes_and_goes():
    """The validation images of each epoch are new ones where they are augmented."""
    kept, train, test = arrays(), np.ones((4, 3), np.float32), np.zeros((4, 3), np.float32)
    there = kept.get(train, torch.float32)
    for epoch in range(30):
        valid = np.full((4, 3), epoch, np.float32)
        np.testing.assert_array_equal(kept.get(valid, torch.float32), valid)
        kept.get(test, torch.float32)
        del valid
        gc.collect()
        assert len(kept) == 2
    assert kept.get(train, torch.float32) is there


def test_a_new_array_is_not_taken_for_one_that_is_gone():
    kept = arrays()
    for value in range(50):  # some of which lie where an earlier one was
        np.testing.assert_array_equal(kept.get(np.full(3, value, np.float32), torch.float32), [value] * 3)


def test_what_takes_more_than_half_of_the_memory_does_not_stay():
    kept, array = arrays(free=79), np.ones(10, np.float32)
    assert kept.get(array, torch.float32) is None
    assert len(kept) == 0
    assert arrays(free=80).get(array, torch.float32) is not None


@given(
    mode=st.sampled_from(["edge", "zeros"]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    padding=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_crops_on_the_device_are_those_of_the_host(mode, height, width, padding, seed):
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(7, 2, height, width)).astype(np.float32)
    down, right = generator.integers(0, 2 * padding + 1, (2, 7))
    crops = Crops(down, right, generator.random(7) < 0.5, padding, mode)
    found = changed(torch.from_numpy(images), places(crops), padding, mode)
    np.testing.assert_array_equal(found, crops.apply(images))


@pytest.mark.parametrize("word", ["none", "flip_edge_crop", "flip_zero_crop"])
def test_batches_of_an_epoch(word):
    """Two epochs: images, labels and sizes of each batch, and the losses in their places."""
    generator = np.random.default_rng(1)
    images = generator.normal(size=(20, 3, 8, 8)).astype(np.float32)
    labels = generator.integers(0, 10, 20)
    there = torch.from_numpy(images), torch.from_numpy(labels)
    crops = draw_crops(20, word, 1, 1, "train")
    batches = Batches(*there, 6, 3, 2, crops)
    for epoch in (1, 2):
        order, sizes = generator.permutation(20), generator.random((3, 2)).astype(np.float32)
        crops = draw_crops(20, word, 1, epoch, "train")
        assert batches.serves(*there, 6, 3, crops)
        batches.start(order[:18], sizes, None if crops is None else crops[:18])
        expected = epoch_batches(images, labels, order, 6, crops)
        for number, (x, y) in enumerate(expected):
            batches.train(lambda *given, x=x, y=y, n=number: check(given, (x, y, sizes[n]), 100 * epoch + n))  # noqa: B023
        np.testing.assert_array_equal(batches.losses, 100 * epoch + np.arange(3))


def check(given, expected, loss: float):
    for found, wanted in zip(given, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    return torch.tensor(float(loss))


def test_batches_are_made_for_what_they_are_given():
    images, labels = torch.zeros(20, 1, 8, 8), torch.zeros(20, dtype=torch.int64)
    crops = draw_crops(20, "flip_edge_crop", 1, 1, "train")
    batches = Batches(images, labels, 6, 3, 1, None)
    assert batches.serves(images, labels, 6, 3, None)
    assert not batches.serves(images.clone(), labels, 6, 3, None)
    assert not batches.serves(images, labels, 5, 3, None)
    assert not batches.serves(images, labels, 6, 4, None)
    assert not batches.serves(images, labels, 6, 3, crops)
