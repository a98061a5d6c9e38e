"""Preparing a data set once: nothing to do when it is intact, one process at a time, built anew when it is not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import DamagedDataError, DataError, MissingDataError, StorageError, preparing
from data_prep.progress import Progress, bar
from data_prep.storage import store
from data_prep.storage.files import locked, make_folder
from data_prep.streams import stream
from data_prep.types import Prepared, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
Rows = slice | Any  # a slice, or int64 (images,)
ClassCounts = Mapping[str, tuple[int, ...]]  # number of images of each class, by the name of an array of labels

_TOLERANCE = 1e-6  # known statistics have six decimals


@dataclass(frozen=True)
class PublishedSet:
    """A data set as published, stored whole.

    The stored training images are `train` images for training, then `valid` for validation.

    Attributes:
        digest: of the stored arrays: they are the same everywhere, so this is known beforehand.
        gather: brings the arrays, and says where they came from, given the data folder and the folder of the user.
        statistics_of: what is told of the arrays.
    """

    name: str
    train: int
    valid: int
    test: int
    digest: str
    gather: Callable[[Path, Path | None, Progress], tuple[Arrays, str]]
    statistics_of: Callable[[Arrays], dict[str, float]]

    def prepare(self, root: Path, source: Path | None, progress: Progress) -> Prepared:
        """See data_prep.prepare."""
        return prepare_once(
            self.name, root, lambda: self.check(root), lambda: self.build(root, source, progress), progress
        )

    def build(self, root: Path, source: Path | None, progress: Progress) -> None:
        """Gather, prove and store the arrays, whatever is stored."""
        arrays, origin = self.gather(root, source, progress)
        with bar(progress, f"proving and storing {self.name}", None):
            found = store.digest_of(arrays)
            if found != self.digest:
                raise DataError(f"{self.name}: expected sha256 {self.digest} of its arrays, found {found}")
            store.write(self.name, root, arrays, origin, self.statistics_of(arrays))

    def check(self, root: Path) -> Prepared:
        """See data_prep.check."""
        header, _ = store.read(self.name, root, self.digest)
        return self.prepared(root, header)

    def status(self, root: Path) -> Prepared | None:
        """See data_prep.status."""
        try:
            return self.prepared(root, store.glance(self.name, root))
        except MissingDataError:
            return None

    def arrays(self, root: Path) -> Arrays:
        """What is stored, proved; read-only memory maps."""
        return store.read(self.name, root, self.digest)[1]

    def prepared(self, root: Path, header: store.Header) -> Prepared:
        """The account of a stored file, of the data set itself or of a variant of it."""
        return Prepared(
            dataset=self.name,
            path=store.path_of(self.name, root, header.variant),
            bytes=header.bytes,
            origin=header.origin,
            digest=header.digest,
            counts={"train": self.train, "valid": self.valid, "test": self.test},
            statistics=header.statistics,
            variant=header.variant,
            settings=header.settings,
        )

    def parts(
        self, train_images: int, valid_images: int, split_seed: int | None = None, subset: str = "all"
    ) -> tuple[Rows, Rows]:
        """The stored training images that are trained on, and those that validate.

        Of the published split the first so many of each part; without validation images the training images go on where
        those of validation would begin. Of a random one: validation images are the first so many
        of a permutation of all, in its order; training images the next so many, in the order that they are stored in.
        Source: akshaychawla/Binary-Neural-Networks@103fd84, utils.py, get_cifar10: random.sample, and
        list(set(all) - set(sample)), which for so many small numbers is in ascending order.

        Raises:
            DataError: there are not so many, or a subset is asked for.
        """
        if subset != "all":
            raise DataError(f"{self.name} has no subset {subset!r}: only svhn has one")
        if split_seed is not None:
            return self._random_parts(train_images, valid_images, split_seed)
        if valid_images == 0:
            check_counts(self.name, {"training": (train_images, self.train + self.valid)})
        else:
            check_counts(self.name, {"training": (train_images, self.train), "validation": (valid_images, self.valid)})
        return slice(0, train_images), slice(self.train, self.train + valid_images)

    def _random_parts(self, train_images: int, valid_images: int, seed: int) -> tuple[Rows, Rows]:
        most = self.train + self.valid
        if train_images < 1 or valid_images < 1 or train_images + valid_images > most:
            raise DataError(
                f"{self.name} has {most} images to give for training and validation together, and each needs one at"
                f" least: asked for {train_images} and {valid_images}"
            )
        drawn = stream(seed, "split").permutation(most)
        train = drawn[valid_images : valid_images + train_images]
        train.sort()
        return train, drawn[:valid_images]


def check_known(
    dataset: str, arrays: Arrays, found: Mapping[str, float], known: Mapping[str, float], class_counts: ClassCounts
) -> None:
    """Raise DataError unless the statistics that were found, and the images of each class, are the known ones.

    Args:
        dataset: as people write it.
        arrays: with labels, by the names that `class_counts` has.
        found, known: statistics by name.
    """
    check_statistics(dataset, found, known)
    for name, counts in class_counts.items():
        counted = tuple(np.bincount(arrays[name], minlength=len(counts)).tolist())
        if counted != counts:
            raise DataError(f"not {dataset}: expected images of each class in {name} {counts}, found {counted}")


def check_statistics(dataset: str, found: Mapping[str, float], known: Mapping[str, float]) -> None:
    """Raise DataError unless the statistics that were found, by name, are the known ones."""
    for name, value in known.items():
        if abs(found[name] - value) > _TOLERANCE:
            raise DataError(f"not {dataset}: expected {name} {value:.6f}, found {found[name]:.6f}")


def check_no_folder(dataset: str, source: Path | None) -> None:
    """Raise DataError if a folder is given for a data set that ships with this package."""
    if source is not None:
        raise DataError(f"{dataset} ships with this package and takes no folder: {preparing(dataset)}")


def check_counts(dataset: str, asked: dict[str, tuple[int, int]]) -> None:
    """Raise DataError unless of each kind of images one is asked for at least, and no more than there are."""
    for name, (count, most) in asked.items():
        if not 1 <= count <= most:
            raise DataError(f"{dataset} has 1 to {most} {name} images to give: asked for {count}")


def split(name: str, images: NDArray[Any], labels: NDArray[Any]) -> Split:
    """A split of float32 (N, channels, height, width) images, C-contiguous, and whole-number labels (N,)."""
    arrays: Arrays = {"images": images, "labels": labels.astype("int64")}
    return Split(name, **arrays, digest=store.digest_of(arrays))


def prepare_once(
    dataset: str,
    root: Path,
    check: Callable[[], Prepared],
    build: Callable[[], None],
    progress: Progress,
    variant: str | None = None,
) -> Prepared:
    """Run `build` unless `check` finds the data set under `root` intact; return what `check` gives in the end.

    `build` runs in one process at a time; the others wait, and then find its work done. A data set that is intact is
    found so without writing anything: a data folder that many share may be read-only.

    Raises:
        StorageError: `root` cannot be written.
        DataError: whatever else `build` raises.
    """
    path = store.path_of(dataset, root, variant)
    name = path.stem
    try:
        with bar(progress, f"proving {name}", None) if path.exists() else contextlib.nullcontext():
            prepared = check()
    except (MissingDataError, DamagedDataError):
        pass
    else:
        progress.note(f"{name} is already prepared and intact: {prepared.path}")
        return prepared
    waiting = f"another process is preparing {name} in {root}: waiting for it"
    try:
        make_folder(root)
        with locked(root / f".{name}.lock", lambda: progress.note(waiting)):
            return _checked_or_built(name, check, build, progress)
    except StorageError as error:
        raise StorageError(f"{error}, then {preparing(dataset, variant)}") from error


def _checked_or_built(
    name: str, check: Callable[[], Prepared], build: Callable[[], None], progress: Progress
) -> Prepared:
    try:
        prepared = check()
    except MissingDataError:
        pass
    except DamagedDataError as damage:
        progress.note(f"{damage.reason}; preparing it again")
    else:
        progress.note(f"{name} has been prepared by the other process: {prepared.path}")
        return prepared
    build()
    return check()
