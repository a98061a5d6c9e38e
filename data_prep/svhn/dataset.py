"""SVHN, format 2, as the published experiments saw it: 73,257 + 531,131 + 26,032 images of 32x32, raw or normalized.

The three official files are stored as one, image by image in their order; the published splits are lists of image
numbers. Classes are numbered as in the original code: class k is the digit k + 1, and class 9 is the digit 0, which the
files call 10. For non-commercial use only.

Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Ng, Reading Digits in Natural Images with Unsupervised Feature
Learning, NIPS Workshop 2011.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data_prep.cifar10.dataset import signed, unit
from data_prep.errors import DamagedDataError, DataError, MissingDataError, preparing
from data_prep.preprocess.variant_names import name_of, parse_variant
from data_prep.progress import Progress, bar
from data_prep.storage import store
from data_prep.storage.lazy import LazyImages
from data_prep.storage.preparation import check_counts, check_statistics, prepare_once
from data_prep.svhn.chunks import Chunk, chunk_of, in_order, ranges
from data_prep.svhn.normalized import VARIANTS, Published, Torch7Lcn, Variant, channel_statistics
from data_prep.svhn.release import OFFICIAL, Release, blocks, fetched, imported, upright
from data_prep.svhn.split import Rows, first_of_class_split, pylearn2_split, train_digits
from data_prep.svhn.store import IMAGE_SHAPE, IMAGE_VALUES, Plan, construction
from data_prep.types import Dataset, Prepared, Split

Pixels = NDArray[np.uint8]
Images = NDArray[np.float32]
Labels = NDArray[np.uint8]

# What is computed on reading, uint8 -> float32; BinaryNet's svhn.py scales as its cifar10.py does.
SCALINGS: dict[str, Callable[[Pixels], Images]] = {"signed": signed, "unit": unit}

# -- the published images ----------------------------------------------------------------------------------------------


def prepare(dataset: str, root: Path, source: Path | None, progress: Progress, release: Release = OFFICIAL) -> Prepared:
    """See data_prep.prepare."""
    return prepare_once(
        dataset,
        root,
        lambda: check(dataset, root, release),
        lambda: _build(dataset, root, source, progress, release),
        progress,
    )


def check(dataset: str, root: Path, release: Release = OFFICIAL) -> Prepared:
    """See data_prep.check."""
    return _checked(dataset, root, None, release)


def status(dataset: str, root: Path, release: Release = OFFICIAL) -> Prepared | None:
    """See data_prep.status."""
    return _glanced(dataset, root, None, release)


def _build(dataset: str, root: Path, source: Path | None, progress: Progress, release: Release) -> None:
    plan = _plan(dataset, root, None, release)
    paths, origin = imported(source, release) if source is not None else fetched(plan, release, progress)
    labels: list[Labels] = []
    with construction(plan) as made:
        pieces = blocks(paths, release, len(made.finished), labels)
        with bar(progress, f"reading {dataset}", plan.count * plan.image_bytes):
            for rows, chunk in zip(ranges(plan.files), in_order(upright, pieces), strict=True):
                if chunk is not None:
                    made.add(chunk)
                progress.advance(len(rows) * plan.image_bytes)
        # The chunks of the first file, and none of the others.
        measured = made.measured[: len(ranges([release.train.images]))]
        statistics = channel_statistics(measured, unit=255)
        check_statistics("SVHN", statistics, release.known)
        made.complete(np.concatenate(labels), origin, statistics, progress)


# -- the variants ------------------------------------------------------------------------------------------------------


def prepare_variant(
    dataset: str, root: Path, variant: str, source: Path | None, progress: Progress, release: Release = OFFICIAL
) -> Prepared:
    """See data_prep.prepare."""
    kind = parse_variant(variant, VARIANTS)
    return prepare_once(
        dataset,
        root,
        lambda: _checked(dataset, root, kind, release),
        lambda: _build_variant(dataset, root, kind, source, progress, release),
        progress,
        name_of(kind),
    )


def check_variant(dataset: str, root: Path, variant: str, release: Release = OFFICIAL) -> Prepared:
    """See data_prep.check."""
    return _checked(dataset, root, parse_variant(variant, VARIANTS), release)


def status_variant(dataset: str, root: Path, variant: str, release: Release = OFFICIAL) -> Prepared | None:
    """See data_prep.status."""
    return _glanced(dataset, root, parse_variant(variant, VARIANTS), release)


def _build_variant(
    dataset: str, root: Path, variant: Variant, source: Path | None, progress: Progress, release: Release
) -> None:
    origin = prepare(dataset, root, source, progress, release).origin
    stored, plan = _Stored(dataset, root, None, release), _plan(dataset, root, variant, release)
    published = Published(stored.pixels, release.train.images, _sets(_split_for(variant, stored), plan.count))
    normalize = variant.normalizer(published)

    def made_of(rows: range) -> Chunk:
        images = normalize(rows, stored.pixels(rows))
        return chunk_of(images, variant.measure(published, rows, images))

    with construction(plan) as made:
        with bar(progress, f"preparing {plan.path.stem}", plan.count * plan.image_bytes):
            chunks, done = ranges(plan.files), len(made.finished)
            progress.advance(sum(len(rows) for rows in chunks[:done]) * plan.image_bytes)
            left = chunks[done:]
            for rows, chunk in zip(left, in_order(made_of, left), strict=True):
                made.add(chunk)
                progress.advance(len(rows) * plan.image_bytes)
        made.complete(stored.labels, origin, variant.statistics(made.measured), progress)


def _sets(split: Rows, count: int) -> NDArray[np.uint8]:
    """TRAIN, VALID or TEST for each stored image."""
    sets = np.empty(count, np.uint8)
    for number, rows in enumerate(split):
        sets[rows] = number
    return sets


# -- what is stored ----------------------------------------------------------------------------------------------------


def _name(variant: Variant | None) -> str | None:
    return None if variant is None else name_of(variant)


def _settings(variant: Variant | None, release: Release) -> dict[str, store.Setting]:
    return {"files": release.fingerprint, **(dataclasses.asdict(variant) if variant is not None else {})}


def _plan(dataset: str, root: Path, variant: Variant | None, release: Release) -> Plan:
    settings = _settings(variant, release)
    if variant is not None:
        import scipy

        settings["computed_with"] = f"numpy {np.__version__}, scipy {scipy.__version__}"
    return Plan(dataset, _name(variant), root, release.sizes, "uint8" if variant is None else "float32", settings)


def _checked(dataset: str, root: Path, variant: Variant | None, release: Release) -> Prepared:
    header, _ = store.read(dataset, root, None, _name(variant))
    return _account(dataset, root, variant, release, header)


def _glanced(dataset: str, root: Path, variant: Variant | None, release: Release) -> Prepared | None:
    try:
        return _account(dataset, root, variant, release, store.glance(dataset, root, _name(variant)))
    except MissingDataError:
        return None


def _account(dataset: str, root: Path, variant: Variant | None, release: Release, header: store.Header) -> Prepared:
    """What a stored file says of itself, once it is known to be of these files and settings."""
    path, expected = store.path_of(dataset, root, header.variant), _settings(variant, release)
    found = {name: header.settings.get(name) for name in expected}
    if found != expected:
        again = preparing(dataset, _name(variant))
        raise DataError(f"{path} was made from {found}, not from {expected}: move it away, then {again}")
    return Prepared(
        dataset=dataset,
        path=path,
        bytes=header.bytes,
        origin=header.origin,
        digest=header.digest,
        counts=release.counts,
        statistics=header.statistics,
        variant=header.variant,
        settings=header.settings,
    )


class _Stored:
    """A stored file to read from, unproved but for its header and length.

    Attributes:
        account: what it says of itself.
        labels: classes 0..9, uint8 (images,), in the order they are stored.
    """

    def __init__(self, dataset: str, root: Path, variant: Variant | None, release: Release) -> None:
        header = store.glance(dataset, root, _name(variant))
        self.account, self._places = _account(dataset, root, variant, release, header), header.places
        self.release, self.dtype = release, np.dtype(np.uint8 if variant is None else np.float32)
        self._count, self._image_bytes = sum(release.sizes), IMAGE_VALUES * self.dtype.itemsize
        sizes = {"images": self._count * self._image_bytes, "labels": self._count}
        if any(self._places.get(name, header.bytes) + size > header.bytes for name, size in sizes.items()):
            reason = f"{self.account.path} is damaged: it has no place for its arrays"
            raise DamagedDataError(reason, dataset, _name(variant))
        self.labels = np.fromfile(self.account.path, np.uint8, self._count, offset=self._places["labels"])
        if len(self.labels) != self._count or self.labels.max() > 9:
            raise DamagedDataError(
                f"{self.account.path} is damaged: its labels are not 0 to 9", dataset, _name(variant)
            )

    @property
    def labels_by_file(self) -> tuple[Labels, Labels, Labels]:
        """Of train, extra and test."""
        train, extra, test = np.split(self.labels, np.cumsum(self.release.sizes[:2]))
        return train, extra, test

    def pixels(self, rows: range) -> Any:
        """Some of the images in the order they are stored, (n, 3, 32, 32)."""
        offset = self._places["images"] + rows.start * self._image_bytes
        values = np.fromfile(self.account.path, self.dtype, len(rows) * IMAGE_VALUES, offset=offset)
        return values.reshape(-1, *IMAGE_SHAPE)

    def lazy(self, rows: NDArray[np.int32], convert: Callable[[NDArray[Any]], Images]) -> LazyImages:
        """Some of the images, to be read when they are asked for."""
        return LazyImages(self.account.path, self._places["images"], self.dtype, IMAGE_SHAPE, rows, convert)


# -- reading -----------------------------------------------------------------------------------------------------------


def load(
    dataset: str,
    root: Path,
    preprocessing: str,
    train_images: int,
    valid_images: int,
    release: Release = OFFICIAL,
    split_seed: int | None = None,
    subset: str = "all",
) -> Dataset:
    """See data_prep.load. The images are LazyImages; the digest of a split is told at `_split`."""
    if split_seed is not None:
        raise DataError(f"{dataset} has no random split: expected the published one (data.split=published)")
    variant = _variant(dataset, preprocessing)
    most = _most_training_images(dataset, subset, variant, release)
    check_counts(dataset, {"training": (train_images, most), "validation": (valid_images, release.counts["valid"])})
    stored = _Stored(dataset, root, variant, release)
    rows = _split_for(variant, stored)
    if subset == "train_digits":
        rows = rows._replace(train=train_digits(release.train.images))
    named = {"train": rows.train[:train_images], "valid": rows.valid[:valid_images], "test": rows.test}
    name = preprocessing if variant is None else name_of(variant)
    splits = {
        split: _split(split, name, stored, chosen, _converter(split, preprocessing, variant, stored.account))
        for split, chosen in named.items()
    }
    return Dataset(name=dataset, preprocessing=name, **splits)


def first_images(
    dataset: str, root: Path, preprocessing: str, count: int, release: Release = OFFICIAL
) -> tuple[Images, Images]:
    """The first training images of a preprocessing: "signed", and as `load` gives them; float32 (count, 3, 32, 32).

    Raises:
        DataError: as `load`.
    """
    seen = load(dataset, root, preprocessing, count, 1, release).train.images
    stored, variant = _Stored(dataset, root, None, release), _variant(dataset, preprocessing)
    rows = _split_for(variant, stored).train[:count]
    return signed(np.concatenate([stored.pixels(range(row, row + 1)) for row in rows])), seen[:]


def _most_training_images(dataset: str, subset: str, variant: Variant | None, release: Release) -> int:
    if subset == "all":
        return release.counts["train"]
    if subset != "train_digits":
        raise DataError(f"unknown subset {subset!r} of {dataset}: expected all or train_digits")
    if isinstance(variant, Torch7Lcn):
        raise DataError(f"{variant.NAME} goes with a split of its own, which has no subset train_digits: expected all")
    return release.train.images


def _variant(dataset: str, preprocessing: str) -> Variant | None:
    """The variant of that name; None for the preprocessings that are not stored."""
    if preprocessing in SCALINGS:
        return None
    if preprocessing.partition(",")[0] not in VARIANTS:
        expected = ", ".join([*SCALINGS, *VARIANTS])
        raise DataError(f"unknown preprocessing {preprocessing!r} of {dataset}: expected {expected}")
    return parse_variant(preprocessing, VARIANTS)


def _split_for(variant: Variant | None, stored: _Stored) -> Rows:
    split = first_of_class_split if isinstance(variant, Torch7Lcn) else pylearn2_split
    train, extra, test = stored.labels_by_file
    return split(train, extra, test, stored.release.held_out)


def _converter(
    split: str, preprocessing: str, variant: Variant | None, account: Prepared
) -> Callable[[NDArray[Any]], Images]:
    """What makes images of a split ready, from how they are stored."""
    if variant is None:
        return SCALINGS[preprocessing]
    if isinstance(variant, Torch7Lcn):
        found = account.statistics
        return partial(standardized, greatest=found[f"{split}_max"], mean=found["mean"], std=found["std"])
    return _as_stored


def _as_stored(images: Images) -> Images:
    return images


def standardized(images: Images, greatest: float, mean: float, std: float) -> Images:
    """(x / greatest - mean) / std, in place."""
    images /= np.float32(greatest)
    images -= np.float32(mean)
    images /= np.float32(std)
    return images


def _split(
    name: str, preprocessing: str, stored: _Stored, rows: NDArray[np.int32], convert: Callable[[NDArray[Any]], Images]
) -> Split:
    """A split whose digest is SHA-256 over the preprocessing, the digest of what is stored, the numbers of the images
    and their labels: over all that decides what the images are, without reading them.
    """
    labels = stored.labels[rows].astype(np.int64)
    digest = hashlib.sha256(f"{preprocessing} {stored.account.digest}\n".encode())
    digest.update(rows.tobytes())
    digest.update(labels.tobytes())
    # LazyImages is no array, but is indexed like one, which is all that engines do with images.
    images = cast(Images, stored.lazy(rows, convert))
    return Split(name, images, labels, digest.hexdigest())
