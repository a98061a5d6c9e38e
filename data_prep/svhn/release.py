"""The official files of SVHN: where they come from, what proves them, and what is in them.

Format 2, three MATLAB files. http://ufldl.stanford.edu/housenumbers/ is the only place that gives them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError, SourceError, preparing
from data_prep.fetch.download import Artifact
from data_prep.fetch.sources import from_mirrors
from data_prep.progress import Progress
from data_prep.storage.files import need_space
from data_prep.svhn.chunks import Chunk, chunk_of, ranges
from data_prep.svhn.matlab import Variable, variables
from data_prep.svhn.normalized import measure_channels
from data_prep.svhn.store import IMAGE_SHAPE, IMAGE_VALUES, Plan

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint8]

SITE = "http://ufldl.stanford.edu/housenumbers/"


@dataclass(frozen=True)
class MatFile:
    """One of the three files, and how many images it has."""

    artifact: Artifact
    images: int


@dataclass(frozen=True)
class Release:
    """Three files that belong together. There is one official release; tests make smaller ones.

    Attributes:
        held_out: images of each class held out for validation from `train`, and from `extra`.
        known: statistics of the images of `train`, in [0,1], to six decimals.
    """

    train: MatFile
    extra: MatFile
    test: MatFile
    held_out: tuple[int, int]
    known: Mapping[str, float]

    @property
    def files(self) -> tuple[MatFile, MatFile, MatFile]:
        """The files in the order in which they are stored."""
        return self.train, self.extra, self.test

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Images of each file."""
        return self.train.images, self.extra.images, self.test.images

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the SHA-256 of the files: what is stored says by it which files it was made from."""
        return hashlib.sha256(" ".join(file.artifact.sha256 for file in self.files).encode()).hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split."""
        valid = 10 * sum(self.held_out)
        return {"train": self.train.images + self.extra.images - valid, "valid": valid, "test": self.test.images}


OFFICIAL = Release(
    train=MatFile(
        Artifact("train_32x32.mat", 182040794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        73257,
    ),
    extra=MatFile(
        Artifact("extra_32x32.mat", 1329278602, "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3"),
        531131,
    ),
    test=MatFile(
        Artifact("test_32x32.mat", 64275384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"), 26032
    ),
    held_out=(400, 200),
    known={
        "red_mean": 0.437682,
        "green_mean": 0.443770,
        "blue_mean": 0.472804,
        "red_std": 0.198030,
        "green_std": 0.201016,
        "blue_std": 0.197036,
    },
)


def imported(folder: Path, release: Release) -> tuple[list[Path], str]:
    """The three files in a folder of the user, proved, and what is told of where they came from.

    Raises:
        DataError: one of them is not there, or is another one.
    """
    mend = f"put the official file there, or {preparing('svhn')} to fetch it"
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: {mend}")
    for file in release.files:
        path = folder / file.artifact.name
        if not path.is_file():
            raise DataError(f"{folder} has no file {path.name}: {mend}")
        difference = file.artifact.difference(path)
        if difference is not None:
            raise DataError(f"{path} is not {path.name}: {difference}: {mend}")
    # The folder is not named: what is stored may be published, and a path may name its user.
    return [folder / file.artifact.name for file in release.files], "a folder of the user"


def fetched(plan: Plan, release: Release, progress: Progress) -> tuple[list[Path], str]:
    """The three files in the folder of downloads, proved, and where they came from.

    Raises:
        DataError: they cannot be fetched, or there is no space for them and for what is made of them.
    """
    downloads, artifacts = plan.root / "downloads", [file.artifact for file in release.files]
    missing = sum(artifact.bytes for artifact in artifacts if not (downloads / artifact.name).exists())
    stored = 0 if plan.part.exists() else plan.size
    need_space(plan.root, missing + stored, f"preparing {plan.dataset}")
    try:
        origin = from_mirrors(artifacts, (SITE,), downloads, progress)
    except SourceError as failure:
        names = ", ".join(artifact.name for artifact in artifacts)
        raise DataError(
            f"{plan.dataset} cannot be fetched ({failure}), and nobody else gives these files: connect to a network, or"
            f" download {names} from {SITE} elsewhere and {preparing(f'{plan.dataset} --source FOLDER')}"
        ) from failure
    return [downloads / artifact.name for artifact in artifacts], origin


def blocks(paths: Sequence[Path], release: Release, finished: int, labels: list[Labels]) -> Iterator[Pixels | None]:
    """The images of all files in chunks, uint8 (n, 3, 32, 32) with columns before rows; None for the first `finished`.

    The classes 0..9 of the images of each file are appended to `labels`, uint8 (images,).

    Raises:
        DataError: a file does not hold what it should.
    """
    for path, file in zip(paths, release.files, strict=True):
        found: dict[str, Labels | None] = {}
        for variable in variables(path):
            if variable.name == "X" and "X" not in found:
                _expect(path, variable, ("uint8",), (32, 32, 3, file.images))
                for rows in ranges([file.images]):
                    pixels = cast(Pixels, variable.read(len(rows) * IMAGE_VALUES))
                    yield pixels.reshape(-1, *IMAGE_SHAPE) if finished <= 0 else None
                    finished -= 1
                found["X"] = None
            elif variable.name == "y" and "y" not in found:
                _expect(path, variable, ("uint8", "double"), (file.images, 1))
                found["y"] = _classes(path, variable.read(file.images))
            else:
                raise DataError(f"{path.name}: expected one X and one y, found {variable.name!r} beside or again")
        if found.keys() != {"X", "y"}:
            raise DataError(f"{path.name}: expected variables X and y, found {', '.join(found) or 'none'}")
        labels.append(cast(Labels, found["y"]))


def _expect(path: Path, variable: Variable, kinds: tuple[str, ...], shape: tuple[int, ...]) -> None:
    if variable.kind not in kinds or variable.shape != shape:
        expected, found = f"{' or '.join(kinds)} {shape}", f"{variable.kind} {variable.shape}"
        raise DataError(f"{path.name}: expected {variable.name} to be {expected}, found {found}")


def _classes(path: Path, digits: NDArray[Any]) -> Labels:
    """Classes 0..9, uint8, from 1..10 as the files number them."""
    wrong = digits[~np.isin(digits, np.arange(1, 11))]
    if wrong.size:
        raise DataError(f"{path.name}: expected labels 1 to 10, found {wrong[0]:g}")
    return digits.astype(np.uint8) - np.uint8(1)


def upright(pixels: Pixels | None) -> Chunk | None:
    """A chunk of images with rows before columns, to be stored."""
    if pixels is None:
        return None
    images = np.ascontiguousarray(pixels.transpose(0, 1, 3, 2))
    return chunk_of(images, measure_channels(images))
