"""What pages show of the test images themselves: errors by class, and the images that every run gets wrong."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import data_prep
from results.record import Record, unpack_bits
from results.views.leaderboard import Picture

MOST = 36  # pictures on a page
# CIFAR-10's classes in the order of their labels: batches.meta.txt of the published archive.
_CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_DIGITS = list("0123456789")


class TestImages:
    """The test images of one data set, in the order of the published files, which is that of a record's outcomes."""

    __test__ = False  # no test, whatever pytest takes its name for

    def __init__(self, images: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
        """Images float32 (N, channels, rows, columns) in [0, 1], labels int64 (N,), a name for each class."""
        self._images, self._labels, self._names = images, labels, names

    def class_errors(self, records: Sequence[Record]) -> list[tuple[str, float]]:
        """Error (percent) of each class, the mean over the runs; empty if the runs have other images than these."""
        correct = [record.test_correct for record in records if record.test_correct is not None]
        if not correct or any(record.data.test.images != len(self._labels) for record in records):
            return []
        wrong = 1 - np.mean([unpack_bits(text, len(self._labels)) for text in correct], axis=0)
        return [(name, float(100 * wrong[self._labels == label].mean())) for label, name in enumerate(self._names)]

    def pictures(self, indices: Sequence[int]) -> list[Picture]:
        """The first of these images."""
        return [
            Picture(index=index, label=self._names[int(self._labels[index])], address=_png(self._images[index]))
            for index in indices[:MOST]
        ]


@functools.cache
def test_images(dataset: str, data_root: Path) -> TestImages | None:
    """Those of a data set; None if it is not prepared, or too large to be loaded for a few pictures."""
    if dataset == "svhn" or data_prep.status(dataset, data_root) is None:
        return None
    test = data_prep.load(dataset, data_root, "unit", 1, 1).test
    return TestImages(test.images, test.labels, _CIFAR10 if dataset.startswith("cifar10") else _DIGITS)


def _png(image: np.ndarray) -> str:
    """A data: address of an image, float32 (channels, rows, columns) in [0, 1]."""
    from PIL import Image

    pixels = np.round(image * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
