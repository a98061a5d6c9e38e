"""GCN and ZCA against the original code's arrays, and against an independent computation in float64."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_prep import DataError, Silent, prepare
from data_prep.cifar10.dataset import DATA_SETS
from data_prep.preprocess.contrast import global_contrast_normalize
from data_prep.preprocess.whitening import fit_zca
from data_prep.preprocess.whitening_process import Step, shared_images, whiten

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "golden" / "cifar10_gcn_zca.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """Made by the original code on all of CIFAR-10: pylearn2's make_cifar10_gcn_whitened.main()."""
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> dict[str, np.ndarray]:
    """The first images of the published training and test set, float32 (N, 3072) in 0..255."""
    root = tmp_path_factory.mktemp("data")
    prepare("cifar10-small", root)
    arrays = DATA_SETS["cifar10-small"].arrays(root)
    return {name: arrays[f"{name}_images"].reshape(-1, 3072).astype(np.float32) for name in ("train", "test")}


# --- GCN


@pytest.mark.parametrize("name", ["train", "test"])
def test_gcn_is_that_of_the_original_code_to_the_last_bit(golden, raw, name):
    normalized = global_contrast_normalize(raw[name], scale=55.0)
    assert normalized.dtype == np.float32
    np.testing.assert_array_equal(normalized[:8], golden[f"gcn_{name}_first8"])


@given(
    images=arrays(np.uint8, (5, 12)),
    scale=st.sampled_from([1.0, 55.0]),
    use_std=st.booleans(),
    sqrt_bias=st.sampled_from([0.0, 10.0]),
    subtract_mean=st.booleans(),
)
def test_gcn_is_its_formula_in_float64(images, scale, use_std, sqrt_bias, subtract_mean):
    expected = images.astype(np.float64)
    if subtract_mean:
        expected -= expected.mean(axis=1, keepdims=True)
    for row, image in enumerate(expected):
        spread = np.var(image, ddof=1) if use_std else np.sum(image**2)
        divisor = np.sqrt(sqrt_bias + spread) / scale
        expected[row] = image / divisor if divisor >= 1e-8 else image
    # A float32 mean leaves up to 1e-5 of an image without contrast, which is then made to fill the scale.
    flat = images.std(axis=1) == 0
    found = global_contrast_normalize(
        images.astype(np.float32), scale=scale, use_std=use_std, sqrt_bias=sqrt_bias, subtract_mean=subtract_mean
    )
    np.testing.assert_allclose(found[~flat], expected[~flat], rtol=1e-4, atol=1e-5 * scale)


def test_an_image_without_contrast_is_centered_and_not_divided():
    np.testing.assert_array_equal(global_contrast_normalize(np.full((1, 16), 7, np.float32), scale=55.0), 0)


def test_gcn_leaves_its_argument_and_does_not_depend_on_the_batch():
    images = np.random.default_rng(0).uniform(0, 255, (600, 48)).astype(np.float32)
    before = images.copy()
    whole = global_contrast_normalize(images, scale=55.0)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(np.concatenate([global_contrast_normalize(images[i : i + 7], scale=55.0)
                                                  for i in range(0, 600, 7)]), whole)  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 55.0, rtol=1e-5)


# --- ZCA


def in_float64(images: np.ndarray, bias: float, ddof: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, matrix and eigenvalues by another way: the matrix by iterating Denman and Beavers' square root."""
    images = images.astype(np.float64)
    mean = images.mean(axis=0)
    covariance = np.cov(images, rowvar=False, ddof=ddof) + bias * np.eye(images.shape[1])
    root, inverse = covariance, np.eye(len(covariance))
    for _ in range(60):
        root, inverse = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2
    return mean, inverse, np.linalg.eigvalsh(covariance)


def correlated(count: int, features: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((features, features)) / np.sqrt(features)
    return (generator.standard_normal((count, features)) @ mixing + generator.uniform(-3, 3, features)).astype(
        np.float32
    )


@pytest.mark.parametrize(("bias", "ddof"), [(0.1, 0), (1e-2, 1)])
def test_zca_is_its_formula_in_float64(bias, ddof):
    images = correlated(7000, 40, 1)  # more than one block, and a part of one
    mean, matrix, eigenvalues = in_float64(images, bias, ddof)
    fitted = fit_zca(images, bias, Silent(), ddof=ddof)
    assert (fitted.mean.dtype, fitted.matrix.dtype, fitted.eigenvalues.dtype) == (np.float32,) * 3
    np.testing.assert_allclose(fitted.mean, mean, atol=1e-4)
    np.testing.assert_allclose(fitted.eigenvalues, eigenvalues, rtol=1e-3)
    np.testing.assert_allclose(fitted.matrix, matrix, atol=2e-3)
    whitened = images.copy()
    fitted.apply(whitened, Silent())
    np.testing.assert_allclose(whitened, (images - mean) @ matrix, atol=1e-2)


@examples(25)
@given(features=st.integers(1, 12), seed=st.integers(0, 1000), bias=st.sampled_from([1e-3, 0.1, 5.0]))
def test_whitened_images_are_uncorrelated_but_for_the_bias(features, seed, bias):
    """Each eigenvector of the covariance keeps its direction and gets the variance v / (v + bias)."""
    images = correlated(500, features, seed)
    fitted = fit_zca(images, bias, Silent())
    np.testing.assert_allclose(fitted.matrix, fitted.matrix.T, atol=1e-3)
    whitened = images.copy()
    fitted.apply(whitened, Silent())
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    covariance = np.cov(images.astype(np.float64), rowvar=False, ddof=0).reshape(features, features)
    expected = covariance @ np.linalg.inv(covariance + bias * np.eye(features))
    found = np.cov(whitened.astype(np.float64), rowvar=False, ddof=0).reshape(features, features)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_other_images_go_through_the_same_mean_and_matrix():
    images = correlated(300, 6, 2)
    fitted = fit_zca(images[:200], 0.1, Silent())
    whitened = images.copy()
    fitted.apply(whitened, Silent())
    np.testing.assert_allclose(whitened[200:], (images[200:] - fitted.mean) @ fitted.matrix, atol=1e-6)


def test_fitting_changes_nothing():
    images = correlated(100, 6, 3)
    before = images.copy()
    fit_zca(images, 0.1, Silent())
    np.testing.assert_array_equal(images, before)


# --- in a process of its own


class Listener(Silent):
    def __init__(self) -> None:
        self.bars: list[str] = []
        self.bytes = 0

    def start(self, description, total):
        self.bars.append(description)

    def advance(self, amount):
        self.bytes += amount


def whitened_apart(images: np.ndarray, *steps: Step, progress: Silent | None = None) -> np.ndarray:
    with shared_images(*images.shape) as (descriptor, shared):
        shared[:] = images
        whiten(descriptor, images.shape, steps, progress or Silent())
        return shared.copy()


def test_the_bits_depend_neither_on_cores_nor_on_the_settings_of_the_blas_library(monkeypatch):
    images, cores = correlated(1700, 600, 4), os.sched_getaffinity(0)
    expected = whitened_apart(images, Step(1500, 0.1))
    try:
        os.sched_setaffinity(0, {min(cores)})
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
        monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        np.testing.assert_array_equal(whitened_apart(images, Step(1500, 0.1)), expected)
    finally:
        os.sched_setaffinity(0, cores)
    fitted = fit_zca(images[:1500], 0.1, Silent())
    np.testing.assert_allclose(expected, (images - fitted.mean) @ fitted.matrix, atol=1e-4)


def test_steps_follow_each_other_and_their_progress_is_heard():
    images, listener = correlated(300, 6, 5), Listener()
    found = whitened_apart(images, Step(200, 0.1), Step(200, 1e-5, ddof=1), progress=listener)
    fit_zca(images[:200], 0.1, Silent()).apply(images, Silent())
    fit_zca(images[:200], 1e-5, Silent(), ddof=1).apply(images, Silent())
    np.testing.assert_allclose(found, images, atol=1e-4)
    assert listener.bars == ["covariance", "eigenvectors", "whitening"] * 2
    assert listener.bytes == 2 * (200 + 300) * 6 * 4


def test_what_is_wrong_in_the_process_is_told_by_its_parent():
    with pytest.raises(DataError, match=r"^no whitening: expected positive eigenvalues, found .* with bias 0$"):
        whitened_apart(np.ones((10, 4), np.float32), Step(10, 0.0))


def test_the_process_ends_with_its_parent():
    with shared_images(5000, 1500) as (descriptor, _):
        job = json.dumps([descriptor, [5000, 1500], [{"fitted": 5000, "bias": 0.1}] * 50])
        child = subprocess.Popen(
            [sys.executable, "-m", "data_prep.preprocess.whitening_process", job], cwd=REPOSITORY,
            pass_fds=[descriptor], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        child.stdin.close()
        assert child.wait() == 1


def test_a_bias_that_is_too_small_is_told():
    images = np.ones((10, 4), np.float32)  # no variance at all
    with pytest.raises(DataError, match=r"expected positive eigenvalues, found .* with bias 0"):
        fit_zca(images, 0.0, Silent())


def test_the_original_whitened_images_are_the_gcn_through_its_mean_and_matrix(golden, raw):
    """Where its whole matrix is known, in rows 0 and 1535: the convention, without a fit of 3,072 pixels."""
    for name in ("train", "test"):
        centered = global_contrast_normalize(raw[name][:8], scale=55.0) - golden["mean"]
        for pixel in (0, 1535):
            expected = golden[f"{name}_white_first8"][:, pixel]
            np.testing.assert_allclose(centered @ golden[f"P_row{pixel}"], expected, atol=1e-4)
