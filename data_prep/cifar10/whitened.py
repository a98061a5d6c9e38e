"""The whitened variants of CIFAR-10: each takes a minute to fit, so it is made once and stored beside the images."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DamagedDataError, DataError, MissingDataError
from data_prep.preprocess.contrast import global_contrast_normalize
from data_prep.preprocess.variant_names import name_of, parse_variant
from data_prep.preprocess.whitening import FIT
from data_prep.preprocess.whitening_process import Step, shared_images, whiten
from data_prep.progress import Progress, bar
from data_prep.storage import store
from data_prep.storage.files import need_space
from data_prep.storage.preparation import Arrays, PublishedSet, prepare_once, split
from data_prep.types import Dataset, Prepared

Pixels = NDArray[np.uint8]
Images = NDArray[np.float32]

_BLOCK = 1000  # images converted at a time


@dataclass(frozen=True)
class GcnZca:
    """BinaryConnect's input: pylearn2's make_cifar10_gcn_whitened.py, GCN and then ZCA.

    The ZCA is fitted to all 50,000 training images, so that the later validation images take part in it; the test
    images go through the same one. Source: pylearn2@fe9beee, pylearn2/scripts/datasets/make_cifar10_gcn_whitened.py.

    Attributes:
        scale: L2 norm of every image after the GCN.
        filter_bias: added to the diagonal of the covariance.
    """

    NAME: ClassVar[str] = "gcn_zca"
    FITS_VALIDATION: ClassVar[bool] = True
    VALID_EARLY: ClassVar[int] = 0
    scale: float = 55.0
    filter_bias: float = 0.1

    def convert(self, pixels: Pixels) -> Images:
        """Normalize the contrast of some images; uint8 (N, D) -> float32 (N, D)."""
        return global_contrast_normalize(pixels.astype(np.float32), scale=self.scale)

    def steps(self, fitted: int) -> list[Step]:
        """How the converted images are whitened, fitted to the first `fitted` of them."""
        return [Step(fitted, self.filter_bias)]


@dataclass(frozen=True)
class Torch7Zca:
    """The input of BinaryNet's Torch7 code: x / 255, then whitened twice, fitted to the 45,000 training images alone.

    Data.lua takes dp.Cifar10 with dp.ZCA(), which is pylearn2's; then, because Main_BinaryNet_Cifar10.lua sets
    `whiten` by default, it whitens the outcome again with unsup.zca_whiten.
    dp.Cifar10 cuts its validation images one too early: they are images 44,999..49,998, of which the first is
    a training image too. So it is here.
    Source: itayhubara/BinaryNet, Data.lua; nicholas-leonard/dp, preprocess/zca.lua and data/cifar10.lua;
    koraykv/unsup, whitening.lua and pca.lua. dp computes in float64, this stores float32.

    Attributes:
        filter_bias: dp.ZCA's, added to the diagonal of the covariance.
        epsilon: unsup.zca_whiten's, added to the eigenvalues of the second covariance, which divides by N - 1.
    """

    NAME: ClassVar[str] = "torch7_zca"
    FITS_VALIDATION: ClassVar[bool] = False
    VALID_EARLY: ClassVar[int] = 1
    filter_bias: float = 0.1
    epsilon: float = 1e-5

    def convert(self, pixels: Pixels) -> Images:
        """x / 255 in [0,1]; uint8 (N, D) -> float32 (N, D)."""
        return pixels.astype(np.float32) / np.float32(255)

    def steps(self, fitted: int) -> list[Step]:
        """How the converted images are whitened, fitted to the first `fitted` of them."""
        return [Step(fitted, self.filter_bias), Step(fitted, self.epsilon, ddof=1)]


# FITS_VALIDATION: the validation images take part in the fit; VALID_EARLY: they begin so many images too early.
Variant = GcnZca | Torch7Zca
VARIANTS: dict[str, type[GcnZca] | type[Torch7Zca]] = {kind.NAME: kind for kind in (GcnZca, Torch7Zca)}


def prepare(published: PublishedSet, root: Path, text: str, source: Path | None, progress: Progress) -> Prepared:
    """Make and store a variant of `published`, which is prepared first where it is not.

    Raises:
        DataError: as data_prep.prepare.
    """
    variant = parse_variant(text, VARIANTS)
    return prepare_once(
        published.name,
        root,
        lambda: check(published, root, text),
        lambda: _build(published, root, variant, source, progress),
        progress,
        name_of(variant),
    )


def check(published: PublishedSet, root: Path, text: str) -> Prepared:
    """Prove what is stored of a variant. See data_prep.check."""
    header, _ = _read(published, root, parse_variant(text, VARIANTS))
    return published.prepared(root, header)


def status(published: PublishedSet, root: Path, text: str) -> Prepared | None:
    """What the stored file of a variant says of itself. See data_prep.status."""
    try:
        return published.prepared(root, store.glance(published.name, root, name_of(parse_variant(text, VARIANTS))))
    except MissingDataError:
        return None


def load(
    published: PublishedSet,
    root: Path,
    text: str,
    train_images: int,
    valid_images: int,
    split_seed: int | None = None,
    subset: str = "all",
) -> Dataset:
    """The splits of a variant; their images are read-only memory maps, but of a random split. See data_prep.load."""
    variant = parse_variant(text, VARIANTS)
    train, valid = published.parts(train_images, valid_images, split_seed, subset)
    if split_seed is None:
        valid = slice(valid.start - variant.VALID_EARLY, valid.stop - variant.VALID_EARLY)
    _, arrays = _read(published, root, variant)
    images, labels = arrays["train_images"], arrays["train_labels"]
    return Dataset(
        name=published.name,
        preprocessing=name_of(variant),
        train=split("train", images[train], labels[train]),
        valid=split("valid", images[valid], labels[valid]),
        test=split("test", arrays["test_images"], arrays["test_labels"]),
    )


def _read(published: PublishedSet, root: Path, variant: Variant) -> tuple[store.Header, Arrays]:
    # No digest is known beforehand: the fit may differ from machine to machine in the last bits, and files of before
    # `FIT` was stored are whole too: runs began with them. The seal has to do.
    header, arrays = store.read(published.name, root, None, name_of(variant))
    expected = _settings(published, variant)
    found = {name: header.settings.get(name) for name in expected}
    if found != expected:
        path = store.path_of(published.name, root, name_of(variant))
        raise DataError(
            f"{path} was made with {found}, not with {expected}: move it away and prepare the variant again"
        )
    return header, arrays


def _settings(published: PublishedSet, variant: Variant) -> dict[str, store.Setting]:
    return {**dataclasses.asdict(variant), "made_from": published.digest}


def _build(published: PublishedSet, root: Path, variant: Variant, source: Path | None, progress: Progress) -> None:
    import scipy

    name, count = name_of(variant), published.train + published.valid
    header, arrays = _published(published, root, source, progress)
    shape = arrays["train_images"].shape[1:]
    whole = (count + published.test, math.prod(shape))
    need_space(root, math.prod(whole) * 4 + whole[0], f"preparing {published.name} {name}")
    with shared_images(*whole) as (descriptor, images):
        with bar(progress, "contrast", images.nbytes):
            for pixels, rows in ((arrays["train_images"], images[:count]), (arrays["test_images"], images[count:])):
                for start in range(0, len(pixels), _BLOCK):
                    block = rows[start : start + _BLOCK]
                    block[:] = variant.convert(pixels[start : start + _BLOCK].reshape(len(block), -1))
                    progress.advance(block.nbytes)
        steps = variant.steps(count if variant.FITS_VALIDATION else published.train)
        whiten(descriptor, whole, steps, progress)
    whitened: Arrays = {
        "train_images": images[:count].reshape(-1, *shape),
        "train_labels": arrays["train_labels"],
        "test_images": images[count:].reshape(-1, *shape),
        "test_labels": arrays["test_labels"],
    }
    computed_with = f"numpy {np.__version__}, scipy {scipy.__version__}"
    settings = _settings(published, variant) | {"computed_with": computed_with, "fit": FIT}
    with bar(progress, f"storing {published.name} {name}", None):
        store.write(published.name, root, whitened, header.origin, _statistics_of(images[:count]), name, settings)


def _published(
    published: PublishedSet, root: Path, source: Path | None, progress: Progress
) -> tuple[store.Header, Arrays]:
    try:
        return store.read(published.name, root, published.digest)
    except (MissingDataError, DamagedDataError):
        published.prepare(root, source, progress)
    return store.read(published.name, root, published.digest)


def _statistics_of(images: Images) -> dict[str, float]:
    """Statistics of the whitened training images, computed in float64."""
    mean = float(images.mean(dtype=np.float64))
    squares = sum(float(np.square(image, dtype=np.float64).sum()) for image in images)
    deviation = math.sqrt(squares / images.size - mean**2)
    return {"mean": mean, "std": deviation, "min": float(images.min()), "max": float(images.max())}
