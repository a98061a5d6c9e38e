"""Local contrast normalization: the original code's numbers, and its rule written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import convolve2d

from data_prep import DataError
from data_prep.preprocess.contrast import global_contrast_normalize, local_contrast_normalize, local_mean_normalize
from data_prep.svhn.normalized import GcnLcn, GcnLcnRed, Torch7Lcn

GOLDEN = Path(__file__).parents[1] / "golden" / "svhn_lcn.npz"
TOLERANCE = 1e-5  # measured: 6e-7


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """What BinaryConnect's svhn_preprocessing.py made: raw pixels, after the GCN, the LCN as run and as intended."""
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file}


def gaussian(size: int, sigma: float) -> np.ndarray:
    places = np.arange(size) - size // 2
    window = np.exp(-(places[:, None] ** 2 + places**2) / (2 * sigma**2))
    return window / window.sum()


def pixels(raw: np.ndarray) -> np.ndarray:
    return raw.reshape(-1, 3, 32, 32)


def test_the_gcn_is_that_of_the_original_code(golden):
    found = global_contrast_normalize(golden["raw"].astype(np.float32))
    np.testing.assert_allclose(found, golden["gcn"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("of_split", ["", "valid_", "test_"])
def test_the_published_variant_is_that_of_the_original_code(golden, of_split):
    found = GcnLcnRed().normalize(pixels(golden[f"{of_split}raw"]))
    np.testing.assert_allclose(found, golden[f"{of_split}as_run"], rtol=0, atol=TOLERANCE)


def test_the_published_variant_leaves_green_and_blue_as_the_gcn_made_them(golden):
    gcn = pixels(golden["gcn"])
    found = GcnLcnRed().normalize(pixels(golden["raw"]))
    np.testing.assert_array_equal(found[:, 1:], gcn[:, 1:])
    np.testing.assert_array_equal(golden["as_run"][:, 1:], gcn[:, 1:])  # so does the original code
    assert 0.3 < found[:, 0].std() < 0.6
    assert found[:, 1:].std() < 0.03


def test_the_intended_variant_is_the_original_codes_lcn_of_every_channel(golden):
    found = GcnLcn().normalize(pixels(golden["raw"]))
    np.testing.assert_allclose(found, golden["all_channels"], rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(found[:, 0], GcnLcnRed().normalize(pixels(golden["raw"]))[:, 0])


def test_the_window_is_the_product_of_its_sides(golden):
    np.testing.assert_allclose(gaussian(7, 2.0), golden["kernel"], atol=1e-8)


@given(
    seed=st.integers(0, 99),
    kernel_size=st.sampled_from([1, 3, 7, 9]),
    sigma=st.floats(0.5, 5),
    threshold=st.sampled_from([1e-4, 0.5]),
)
def test_lcn_is_its_formula(seed, kernel_size, sigma, threshold):
    images = np.random.default_rng(seed).standard_normal((2, 3, 12, 12)).astype(np.float32)
    found = local_contrast_normalize(images, kernel_size=kernel_size, sigma=sigma, threshold=threshold)
    window = gaussian(kernel_size, sigma)
    for channel, image in zip(found.reshape(-1, 12, 12), images.reshape(-1, 12, 12).astype(np.float64), strict=True):
        deviation = np.sqrt(convolve2d(image**2, window, "same"))
        expected = image - convolve2d(image, window, "same")
        expected /= np.maximum(np.maximum(deviation, deviation.mean()), threshold)
        np.testing.assert_allclose(channel, expected, rtol=0, atol=1e-5)


def test_a_uniform_image_gives_no_nan():
    gray = np.full((2, 3, 32, 32), 128, np.uint8)
    for variant in (GcnLcnRed(), GcnLcn()):
        np.testing.assert_array_equal(variant.normalize(gray), 0)
    low, high = np.zeros(2, np.float32), np.full(2, 255, np.float32)
    np.testing.assert_array_equal(Torch7Lcn().normalize(gray, low, high), 0)


@given(seed=st.integers(0, 99), first=st.integers(1, 30))
def test_an_image_is_normalized_alike_in_any_company(seed, first):
    """To the last bit: what is stored must not depend on chunks, threads or machines."""
    images = np.random.default_rng(seed).integers(0, 256, (31, 3, 32, 32), np.uint8)
    for variant in (GcnLcn(), GcnLcnRed()):
        parts = [variant.normalize(images[:first]), variant.normalize(images[first:])]
        np.testing.assert_array_equal(np.concatenate(parts), variant.normalize(images))


def test_what_is_given_is_not_changed():
    images = np.random.default_rng(5).standard_normal((2, 3, 32, 32)).astype(np.float32)
    before = images.copy()
    local_contrast_normalize(images)
    local_mean_normalize(images)
    np.testing.assert_array_equal(images, before)


def test_torch7s_rule_step_by_step():
    """dp's gcn.lua and lecunlcn.lua in float64: image / 255, centered, by the root of variance + 10, then the LCN."""
    images = np.random.default_rng(6).integers(0, 256, (3, 3, 32, 32), np.uint8)
    low, high = np.float32([0, 0, 20]), np.float32([255, 255, 200])
    found = Torch7Lcn().normalize(images, low, high)
    window = gaussian(9, 2.0)
    for number, image in enumerate(images):
        scaled = (image.astype(np.float64) - low[number]) / (high[number] - low[number])
        scaled -= scaled.mean()
        scaled /= np.sqrt((scaled**2).mean() + 10)
        for channel in range(3):
            center = scaled[channel] - convolve2d(scaled[channel], window, "same")
            expected = center / (center.std(ddof=1) + 1e-4)
            np.testing.assert_allclose(found[number, channel], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", [GcnLcn, GcnLcnRed, Torch7Lcn])
def test_a_window_without_a_middle_is_refused(kind):
    with pytest.raises(DataError, match="kernel_size: expected an odd number, found 8"):
        kind(kernel_size=8)
