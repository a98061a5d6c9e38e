"""Data to be learnt by heart: random labels and images of noise, both functions of a seed.

What a network reaches on them says how much it can memorize (Zhang et al., arXiv 1611.03530, for networks of real
numbers). Source: hockeybro12/BinaryNetGeneralizationExperiments@73ed87d, which draws anew in every run and does not
record its draws.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from data_prep.streams import stream
from data_prep.types import Dataset, Split

CLASSES = 10
NOISE_VARIANCE = 0.1
# Which splits get random labels, by the setting's name.
RANDOM_LABELS: dict[str, tuple[str, ...]] = {
    "true": (),
    "random": ("train", "valid", "test"),
    "random_train_valid": ("train", "valid"),
}


def memorized(data: Dataset, labels: str, inputs: str, seed: int) -> Dataset:
    """The data with random labels and noise for images as the two settings say, "true" and "images": as they are.

    With "noise" the training images alone are replaced; validation and test images, and all labels, are the true ones.

    Args:
        labels: one of RANDOM_LABELS.
        inputs: "images" or "noise".
    """
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    splits |= {name: random_labels(splits[name], seed) for name in RANDOM_LABELS[labels]}
    if inputs == "noise":
        splits["train"] = noise_images(splits["train"], seed)
    return Dataset(data.name, data.preprocessing, **splits)


def random_labels(split: Split, seed: int) -> Split:
    """The split with uniform labels 0..9, a function of the seed and the split's name.

    Fewer images of a split get the first of the same labels. Source: svhn_random_labels.py, random.randint(0, 9).
    """
    labels = stream(seed, f"labels {split.name}").integers(0, CLASSES, len(split.labels))
    return Split(split.name, split.images, labels, _digest(split, "labels", labels))


def noise_images(split: Split, seed: int) -> Split:
    """The split with images ~ N(0, variance .1), float32, independent in every pixel, in memory.

    Source: cifar10_randX_input.py, np.random.normal(0, 0.1**0.5) in place of the scaled training images.
    """
    images = stream(seed, f"noise {split.name}").standard_normal(split.images.shape, np.float32)
    images *= np.float32(math.sqrt(NOISE_VARIANCE))
    return Split(split.name, images, split.labels, _digest(split, "images", images))


def _digest(split: Split, what: str, values: np.ndarray) -> str:
    """SHA-256 over the digest of the split as it was, and over what replaces its labels or its images."""
    digest = hashlib.sha256(f"{split.digest} {what} {values.dtype.str} {values.shape}\n".encode())
    digest.update(values.data)
    return digest.hexdigest()
