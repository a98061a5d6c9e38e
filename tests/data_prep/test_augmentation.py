from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_prep.augmentation import flip_and_crop

shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))


def every_change(image: np.ndarray, padding: int) -> list[np.ndarray]:
    """All that may become of one (C, H, W) image, pixel by pixel."""
    _, height, width = image.shape
    shifts = range(-padding, padding + 1)
    changes = []
    for source in (image, image[:, :, ::-1]):
        for down in shifts:
            for right in shifts:
                rows = [min(max(row + down, 0), height - 1) for row in range(height)]
                columns = [min(max(column + right, 0), width - 1) for column in range(width)]
                changes.append(source[:, rows][:, :, columns])
    return changes


@settings(deadline=None)  # other work may share the machine
@given(shapes.flatmap(lambda shape: arrays(np.uint8, shape)), st.integers(0, 1000), st.integers(0, 3))
def test_each_image_becomes_one_of_its_own_flips_and_crops(images, seed, padding):
    before = images.copy()
    changed = flip_and_crop(images, np.random.default_rng(seed), padding=padding)
    assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
    assert changed.flags.c_contiguous
    np.testing.assert_array_equal(images, before)
    for image, found in zip(images, changed, strict=True):
        assert any(np.array_equal(found, change) for change in every_change(image, padding))


def test_the_same_generator_gives_the_same_images_and_another_does_not():
    images = np.random.default_rng(0).standard_normal((20, 3, 32, 32)).astype(np.float32)
    first, again = (flip_and_crop(images, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, flip_and_crop(images, np.random.default_rng(6)))
    generator = np.random.default_rng(5)
    flip_and_crop(images, generator)
    assert not np.array_equal(first, flip_and_crop(images, generator))


def test_all_places_and_both_sides_are_equally_likely():
    """A single bright pixel in the middle of 11 x 11 tells which of the 81 places it came to; the sides differ by one
    column, so a marked pixel beside it tells the flip."""
    count = 81 * 2 * 200
    images = np.zeros((count, 1, 11, 11), np.uint8)
    images[:, 0, 5, 5], images[:, 0, 5, 6] = 1, 2
    changed = flip_and_crop(images, np.random.default_rng(7))
    place = (changed == 1).reshape(count, -1).argmax(axis=1)
    marked = (changed == 2).reshape(count, -1).argmax(axis=1)
    seen = np.unique(np.stack([place, marked - place]), axis=1, return_counts=True)[1]
    assert len(seen) == 81 * 2
    expected = count / len(seen)
    chi_squared = ((seen - expected) ** 2 / expected).sum()
    assert chi_squared < 161 + 5 * np.sqrt(2 * 161)  # mean and five standard deviations of 161 degrees of freedom


def test_a_read_only_memory_map_will_do():
    images = np.zeros((4, 3, 32, 32), np.float32)
    images.flags.writeable = False
    assert flip_and_crop(images, np.random.default_rng(0)).flags.writeable
