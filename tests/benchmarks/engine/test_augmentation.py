from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.engine.augmentation import Crops, draw_crops

shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))


def by_definition(image: np.ndarray, down: int, right: int, mirrored: bool, padding: int, mode: str) -> np.ndarray:
    """One (C, H, W) image changed pixel by pixel: mirrored, padded, cropped."""
    _, height, width = image.shape
    source = image[:, :, ::-1] if mirrored else image
    changed = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + down - padding, column + right - padding
            inside = 0 <= y < height and 0 <= x < width
            if inside or mode == "edge":
                changed[:, row, column] = source[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)]
    return changed


@pytest.mark.parametrize("mode", ["edge", "zeros"])
@given(shapes.flatmap(lambda shape: arrays(np.uint8, shape)), st.integers(0, 3), st.data())
def test_every_image_is_mirrored_padded_and_cropped(mode, images, padding, data):
    count, before = len(images), images.copy()
    places = arrays(np.int64, count, elements=st.integers(0, 2 * padding))
    down, right, mirrored = data.draw(places), data.draw(places), data.draw(arrays(bool, count))
    changed = Crops(down, right, mirrored, padding, mode).apply(images)
    assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
    assert changed.flags.c_contiguous
    np.testing.assert_array_equal(images, before)
    for number, image in enumerate(images):
        expected = by_definition(image, down[number], right[number], mirrored[number], padding, mode)
        np.testing.assert_array_equal(changed[number], expected)


def test_the_draw_is_a_function_of_seed_epoch_and_split():
    def draw(seed: int = 1, epoch: int = 2, split: str = "train") -> list[int]:
        crops = draw_crops(50, "flip_edge_crop", seed, epoch, split)
        return [*crops.down, *crops.right, *crops.mirrored]

    assert draw() == draw()
    assert len({tuple(draws) for draws in (draw(), draw(seed=2), draw(epoch=3), draw(split="valid"))}) == 4


def test_the_modes_and_none():
    assert draw_crops(5, "none", 1, 1, "train") is None
    assert draw_crops(5, "flip_edge_crop", 1, 1, "train").mode == "edge"
    assert draw_crops(5, "flip_zero_crop", 1, 1, "train").mode == "zeros"


def test_batch_by_batch_is_the_whole():
    images = np.random.default_rng(0).standard_normal((20, 3, 8, 8)).astype(np.float32)
    crops = draw_crops(20, "flip_edge_crop", 1, 1, "train")
    parts = [crops[start : start + 7].apply(images[start : start + 7]) for start in range(0, 20, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), crops.apply(images))
    assert [len(crops[start : start + 7]) for start in (0, 7, 14)] == [7, 7, 6]


def test_all_places_and_both_sides_are_equally_likely():
    count = 81 * 2 * 200
    crops = draw_crops(count, "flip_edge_crop", 7, 1, "train")
    seen = np.unique(np.stack([crops.down, crops.right, crops.mirrored]), axis=1, return_counts=True)[1]
    assert len(seen) == 81 * 2
    expected = count / len(seen)
    chi_squared = ((seen - expected) ** 2 / expected).sum()
    assert chi_squared < 161 + 5 * np.sqrt(2 * 161)  # mean and five standard deviations of 161 degrees of freedom


def test_a_read_only_memory_map_will_do():
    images = np.zeros((4, 3, 32, 32), np.float32)
    images.flags.writeable = False
    assert draw_crops(4, "flip_zero_crop", 1, 1, "train").apply(images).flags.writeable
