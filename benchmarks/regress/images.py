"""The images that short checks train on: real ones that ship with data_prep, through the product's own preprocessing.

MNIST and CIFAR-10 are "mnist-small" and "cifar10-small". Nothing of SVHN may be shipped, so its benchmarks see MNIST's
digits drawn on CIFAR-10's images in colors, with SVHN's numbering of classes; its split is not SVHN's.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import data_prep
from benchmarks.recipe import Recipe
from data_prep import Dataset
from data_prep.cifar10 import dataset as cifar10
from data_prep.cifar10 import whitened
from data_prep.memorization import memorized
from data_prep.preprocess.variant_names import parse_variant
from data_prep.storage.preparation import split
from data_prep.svhn import dataset as svhn
from data_prep.svhn.normalized import TEST, TRAIN, VALID, VARIANTS, Published, Torch7Lcn

SEED = 1  # of the colors in which digits are drawn
SVHN_COUNTS = (1000, 200, 200)  # training, validation and test images
Pixels = NDArray[np.uint8]


def prepare(recipe: Recipe, root: Path) -> None:
    """Store what `load` needs for a recipe, once; whitening takes half a minute."""
    for small in ("mnist-small", "cifar10-small"):
        data_prep.prepare(small, root)
    dataset, preprocessing = recipe.data.dataset, recipe.data.preprocessing
    if takes_long(recipe):
        whitened.prepare(cifar10.DATA_SETS["cifar10-small"], root, preprocessing, None, data_prep.Silent())
    path = _svhn_path(root, preprocessing)
    if dataset == "svhn" and not path.exists():
        images, labels = _svhn_images(preprocessing, root)
        np.savez(path, images=images, labels=labels)


def takes_long(recipe: Recipe) -> bool:
    """Whether `prepare` must whiten."""
    return recipe.data.dataset == "cifar10" and recipe.data.preprocessing in whitened.VARIANTS


def load(recipe: Recipe, root: Path, seed: int) -> Dataset:
    """The recipe's data, of so many images as its settings say; `prepare` has stored them.

    Raises:
        DataError: more images asked for than there are.
    """
    settings = recipe.data
    counts = settings.train_images, settings.valid_images
    split_seed = seed if settings.split == "random" else None
    if settings.dataset == "svhn":
        data = _load_svhn(settings.preprocessing, root, *counts)
    elif takes_long(recipe):
        small = cifar10.DATA_SETS["cifar10-small"]
        data = whitened.load(small, root, settings.preprocessing, *counts, split_seed)
    else:
        data = data_prep.load(f"{settings.dataset}-small", root, settings.preprocessing, *counts, split_seed=split_seed)
    data = memorized(data, settings.labels, settings.inputs, seed)
    return data if recipe.train.shuffle == "none" else _by_class(data)


def _by_class(data: Dataset) -> Dataset:
    """Training images class after class: a shuffle that is none is then seen in what is learned."""
    train = data.train
    rows = np.argsort(train.labels, kind="stable")
    return dataclasses.replace(data, train=split("train", train.images[rows], train.labels[rows]))


def _load_svhn(preprocessing: str, root: Path, train_images: int, valid_images: int) -> Dataset:
    with np.load(_svhn_path(root, preprocessing)) as file:
        images, labels = file["images"], file["labels"]
    train, valid, test = np.split(np.arange(len(labels)), np.cumsum(SVHN_COUNTS)[:2])
    rows = {"train": train[:train_images], "valid": valid[:valid_images], "test": test}
    return Dataset("svhn", preprocessing, **{name: split(name, images[of], labels[of]) for name, of in rows.items()})


def _svhn_path(root: Path, preprocessing: str) -> Path:
    return root / f"svhn-like-{preprocessing}.npz"


def _svhn_images(preprocessing: str, root: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All images after the preprocessing, those of training first, and their classes: class k is the digit k + 1."""
    pixels, digits = _drawn(root)
    labels = (digits - 1) % 10
    if preprocessing in svhn.SCALINGS:
        return svhn.SCALINGS[preprocessing](pixels), labels
    variant = parse_variant(preprocessing, VARIANTS)
    sets = np.repeat(np.array([TRAIN, VALID, TEST], np.uint8), SVHN_COUNTS)
    published = Published(lambda rows: pixels[rows.start : rows.stop], SVHN_COUNTS[0], sets)
    everything = range(len(pixels))
    images = variant.normalizer(published)(everything, pixels)
    if isinstance(variant, Torch7Lcn):
        found = variant.statistics([variant.measure(published, everything, images)])
        for number, name in ((TRAIN, "train"), (VALID, "valid"), (TEST, "test")):
            of = sets == number
            images[of] = svhn.standardized(images[of], found[f"{name}_max"], found["mean"], found["std"])
    return images, labels


def _drawn(root: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """MNIST's digits on CIFAR-10's images, uint8 (N, 3, 32, 32), and which digits they are."""
    digits = data_prep.load("mnist-small", root, "unit", 2000, 200).train
    few = data_prep.load("cifar10-small", root, "unit", 400, 100)
    backgrounds = np.concatenate([few.train.images, few.valid.images, few.test.images])
    count = sum(SVHN_COUNTS)
    behind = backgrounds[np.arange(count) % len(backgrounds)]
    return draw_digits(digits.images[:count], behind), digits.labels[:count]


def draw_digits(digits: NDArray[np.float32], backgrounds: NDArray[np.float32]) -> Pixels:
    """Digits of random colors, (N, 1, 28, 28), on images, (N, 3, 32, 32), both in [0, 1]; uint8 as the images."""
    ink = np.pad(digits, ((0, 0), (0, 0), (2, 2), (2, 2)))
    colors = np.random.default_rng(SEED).uniform(0.6, 1, (len(digits), 3, 1, 1)).astype(np.float32)
    pixels: Pixels = np.round(255 * (0.5 * backgrounds * (1 - ink) + colors * ink)).astype(np.uint8)
    return pixels
