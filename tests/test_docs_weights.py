"""docs/weights.md: its code classifies images with published weights, every one as the record says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from docs_blocks import ROOT
from published import WEIGHTS, WEIGHTS_OF_EACH_BENCHMARK
from weights_reader import reader

from data_prep import load
from results import registry
from results.record import unpack_bits


def correct_of(path: Path, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    code = reader()
    network, tensors = code["read"](path)
    parts = [code["scores"](np.asarray(part, np.float32), network, tensors) for part in np.array_split(images, 50)]
    return np.concatenate(parts).argmax(1) == labels


def recorded(path: Path) -> tuple[np.ndarray, str]:
    record = registry.read(ROOT / "results" / "runs" / path.parent.name / f"{path.stem}.json")
    assert record.test_correct is not None
    return unpack_bits(record.test_correct, record.data.test.images), record.data.test.preprocessing


def of_mnist(*, others: bool = False) -> pytest.MarkDecorator:
    """A network of each benchmark of MNIST; `others`: and at night all others of them."""
    one = WEIGHTS_OF_EACH_BENCHMARK
    cases = [
        pytest.param(path, marks=() if path in one else pytest.mark.nightly, id=path.parent.name)
        for path in (WEIGHTS if others else one)
        if "mnist" in path.parent.name
    ]
    return pytest.mark.parametrize("path", cases)


@of_mnist()
def test_the_first_images_come_out_as_recorded(path, small_data_root):
    expected, preprocessing = recorded(path)
    test = load("mnist-small", small_data_root, preprocessing, 2000, 200).test
    np.testing.assert_array_equal(correct_of(path, test.images[:], test.labels), expected[:200])


@pytest.mark.slow
@pytest.mark.data
@of_mnist(others=True)
def test_every_image_comes_out_as_recorded(path, real_data):
    expected, preprocessing = recorded(path)
    test = load("mnist", real_data, preprocessing, 50_000, 10_000).test
    assert len(test.labels) == 10_000
    np.testing.assert_array_equal(correct_of(path, test.images[:], test.labels), expected)


def test_it_is_carried_out_as_it_stands(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    reader("__main__")
    error = capsys.readouterr().out
    expected, _ = recorded(next(path for path in WEIGHTS if path.stem == "237fe4a5f6da1e2c"))
    assert error == f"{100 * np.mean(~expected[:200])} % wrong\n"
