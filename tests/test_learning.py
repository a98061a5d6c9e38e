"""Benchmarks learn: trained on real images with a reduced budget, each errs far less than a guess.

The budget is a part of the training images, a few epochs and a narrower network; every other setting is the published
one. Where labels are random, what is learned is the training images by heart. SVHN's own files cannot be fetched
without its authors' site, so its benchmarks see MNIST's digits drawn on CIFAR-10's images, in files of SVHN's format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from svhn_files import release_of, write_mat

import data_prep
from benchmarks.engine import open_engine
from benchmarks.recipe import Recipe, benchmark_ids, load_recipe, summaries
from benchmarks.regress.images import draw_digits
from benchmarks.regress.narrow import narrowed
from benchmarks.run import protocol
from benchmarks.run.data import load_data
from data_prep import Dataset, Split
from data_prep.memorization import memorized
from data_prep.svhn import dataset as svhn
from data_prep.svhn.release import Release

SEED = 1


class Budget(NamedTuple):
    """What a benchmark is trained with, and the error in percent, of which images, that it must stay under."""

    error_below: float
    train_images: int = 5000
    epochs: int = 2
    narrower: int = 4  # units and filters are divided by this
    valid_images: int = 1000
    of_images: str = "valid"
    settings: tuple[str, ...] = ()  # what else is not as published

    def of(self, benchmark: str) -> Recipe:
        """The benchmark's recipe within this budget."""
        architecture = narrowed(load_recipe(benchmark).model.architecture, self._narrower, self._narrower)
        return load_recipe(
            benchmark,
            [
                f"data.train_images={self.train_images}",
                f"data.valid_images={self.valid_images}",
                f"train.epochs={self.epochs}",
                f"model.architecture={architecture}",
                *self.settings,
            ],
        )

    def _narrower(self, width: int) -> int:
        return width // self.narrower


# Evaluated with its real-valued weights, a deep network errs like a guess until many of them are at their limits, layer
# after layer. How far they go in a step grows with the width (model.lr_scale), so at the published rate 1,000 steps are
# not enough for a narrow one.
TEN_TIMES_AS_FAST = ("train.lr_start=0.03", "train.lr_final=0.003")

BY_HEART = Budget(90, train_images=100, epochs=100, narrower=8, valid_images=50, of_images="train")

# Measured with this budget; the limit is a third of the way from there to a guess, 90 %. Where that is near, the
# seeds 1 to 4 were measured, and it is half the way from the worst of them: another processor rounds otherwise, which
# changes an error as another seed does. Not among them are akshaychawla's convolutions with binary weights, which err
# like a guess at the rates 0.00001, 0.0001, 0.001 and 0.01 (their author: "the loss doesn't seem to go down"), or
# stochastic ones, at 0.0001; variants of VGGNet7 whose parts others have; GluonCV's networks; FINN's LFC, CNV and SFC
# with activations of 2 bits; loss-aware binarization's convolutions, which are BinaryConnect's; and
# rwth-lenet5-mnist-xnor, whose loss grows from the start: sums of 512 products in front of a squared hinge, with no
# batch normalization between.
BUDGETS = {
    "binaryconnect-mnist": Budget(44),  # measured: 21.7
    "binaryconnect-mnist-deterministic": Budget(36),  # measured: 8.6
    "binaryconnect-paper-mnist": Budget(39),  # measured: 12.8
    "binaryconnect-paper-mnist-deterministic": Budget(35),  # measured: 6.8
    "binaryconnect-paper-mnist-none": Budget(35),  # measured: 7.8
    "binaryconnect-paper-mnist-dropout": Budget(42),  # measured: 17.9
    "binarynet-mnist": Budget(39),  # measured: 13.2
    "binarynet-torch7-mnist": Budget(37),  # measured: 11.1
    "binaryconnect-svhn": Budget(41),  # measured: 16.3
    "binaryconnect-svhn-deterministic": Budget(33),  # measured: 4.4
    "binaryconnect-svhn-none": Budget(33),  # measured: 4.7
    "binarynet-svhn": Budget(66),  # measured: 41 to 43
    "binarynet-torch7-svhn": Budget(78),  # measured: 41 to 66
    "binaryconnect-cifar10": Budget(76, epochs=4, narrower=8, settings=TEN_TIMES_AS_FAST),  # measured: 57 to 62
    "binaryconnect-cifar10-deterministic": Budget(82, narrower=8),  # measured: 71 to 74
    "binaryconnect-cifar10-none": Budget(81, narrower=8),  # measured: 64 to 72
    "binarynet-cifar10": Budget(80, epochs=3, narrower=8),  # measured: 66 to 70
    "binarynet-torch7-cifar10": Budget(84, epochs=4, narrower=8),  # measured: 73 to 79
    "chawla-mlp-mnist-float": Budget(71, epochs=10),  # measured: 48 to 53
    "chawla-mlp-mnist-binary": Budget(82, epochs=10),  # measured: 64 to 75
    "chawla-mlp-mnist-stochastic": Budget(80, epochs=60),  # measured, seeds 1 to 3: 62 to 71
    "chawla-cnn-cifar10-float": Budget(81, epochs=4, settings=("train.lr_start=0.03",)),  # measured: 62 to 71
    "finn-tfc-mnist-1w1a": Budget(51, narrower=1),  # measured, seeds 1 to 4: 30 to 32
    "finn-tfc-mnist-1w2a": Budget(45, narrower=1),  # measured, seeds 1 to 4: 22 to 23
    "finn-tfc-mnist-2w2a": Budget(45, narrower=1),  # measured, seeds 1 to 4: 21 to 23
    "finn-sfc-mnist-1w1a": Budget(43, narrower=1),  # measured, seeds 1 to 4: 17 to 20
    "rwth-lenet5-mnist-float": Budget(32, narrower=2),  # measured: 3.3
    "rwth-lenet5-mnist-binary": Budget(39, narrower=2),  # measured: 13.6
    "rwth-lenet5-mnist-bireal": Budget(38, narrower=2),  # measured: 12.3
    "rwth-lenet5-mnist-swish": Budget(41, narrower=2),  # measured: 17.8
    "rwth-lenet5-mnist-vanilla": Budget(38, narrower=2),  # measured: 12.0
    "rwth-lenet5-mnist-cbap": Budget(40, narrower=2),  # measured: 16.2
    "rwth-lenet5-mnist-l1t": Budget(37, narrower=2),  # measured: 11.5
    "rwth-lenet5-mnist-lnt": Budget(38, narrower=2),  # measured: 13.1
    "rwth-lenet5-mnist-l1nt": Budget(38, narrower=2),  # measured: 12.0
    "rwth-lenet5-mnist-tern1": Budget(36, narrower=2),  # measured: 9.1
    "rwth-vgg7-cifar10-float": Budget(83, epochs=4, narrower=8),  # measured: 71 to 77
    "rwth-vgg7-cifar10-binary": Budget(81, narrower=8),  # measured: 71 to 74
    "rwth-vgg7-cifar10-tern5": Budget(78, narrower=8),  # measured: 65 to 67
    "rwth-vgg7-cifar10-l1nfp": Budget(81, narrower=8),  # measured: 70 to 72
    "lab-mnist": Budget(35),  # measured: 6.9
    "lab-mnist-float": Budget(35),  # measured: 6.8
    "lab-mnist-binaryconnect": Budget(35),  # measured: 7.2
    "lab-mnist-bwn": Budget(35),  # measured: 7.1
    "lab-mnist-bnn": Budget(36),  # measured: 8.6
    "lab-mnist-xnor": Budget(36),  # measured: 9.7
    "lab-mnist-lab2": Budget(37),  # measured: 10.2
    "larq-mnist": Budget(41, epochs=6, narrower=2),  # measured, seeds 1 to 4: 13 to 17
    "xnornet-lenet5-mnist": Budget(35, narrower=2),  # measured, seeds 1 to 3: 5.9 to 8.3
    "memorization-cifar10-random-labels": BY_HEART._replace(error_below=75),  # measured: 54 to 61
    "memorization-cifar10-noise-inputs": BY_HEART._replace(error_below=84),  # measured: 72 to 79
    "memorization-cifar10-dropout": BY_HEART._replace(error_below=79, epochs=200),  # measured: 58 to 69
    "memorization-cifar10-stochastic-sigmoid": BY_HEART._replace(
        error_below=30, settings=TEN_TIMES_AS_FAST
    ),  # measured: 0
    "memorization-svhn-random-labels": BY_HEART._replace(error_below=81),  # measured: 60 to 72
    "memorization-svhn-dropout": BY_HEART._replace(error_below=84, epochs=200),  # measured: 70 to 78
    "memorization-svhn-stochastic-sigmoid": BY_HEART._replace(
        error_below=43, settings=TEN_TIMES_AS_FAST
    ),  # measured: 7 to 20
    "memorization-svhn-l2": BY_HEART._replace(error_below=81),  # measured, seed 1: as with random labels
    "memorization-svhn-l2-acting": BY_HEART._replace(error_below=78),  # measured: 40 to 67
}


def learned_error(recipe: Recipe, data: Dataset, engine: str, of_images: str = "valid") -> float:
    """Error in percent after the last epoch, of the validation or the training images."""
    opened = open_engine(engine, recipe.model, recipe.image_shape, SEED)
    few = slice(0, 100)  # test images are evaluated after every epoch, for nothing here
    test = Split(data.test.name, data.test.images[few], data.test.labels[few], data.test.digest)
    data = dataclasses.replace(data, test=test)
    progress = protocol.TrainingState(order=np.arange(len(data.train.labels)))
    for _ in protocol.train(opened, recipe, data, SEED, progress):
        pass
    error: float = progress.curve[f"{of_images}_error"][-1]
    return error


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def svhn_like(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> tuple[Path, Release]:
    """A folder with SVHN's files, 9,000 images in all, in which MNIST's digits are drawn on CIFAR-10's images."""
    return write_svhn_like(tmp_path_factory.mktemp("svhn"), real_data)


def write_svhn_like(folder: Path, root: Path) -> tuple[Path, Release]:
    """Write them to `folder`, from the data prepared under `root`; the folder and what it holds as a release."""
    digits = data_prep.load("mnist", root, "unit", 9000, 1).train
    backgrounds = data_prep.load("cifar10", root, "unit", 9000, 1).train.images
    images = draw_digits(digits.images, backgrounds)
    labels = np.where(digits.labels == 0, 10, digits.labels)
    sizes = (4000, 4000, 1000)
    for official, rows in zip(svhn.OFFICIAL.files, np.split(np.arange(9000), np.cumsum(sizes)[:-1]), strict=True):
        write_mat(folder / official.artifact.name, [images[rows]], labels[rows])
    return folder, release_of(folder, sizes, (60, 40))


def load(recipe: Recipe, root: Path, svhn_files: Callable[[], tuple[Path, Release]]) -> Dataset:
    """The data of a recipe, prepared first where they are not."""
    name, preprocessing = recipe.data.dataset, recipe.data.preprocessing
    stored = preprocessing if preprocessing in data_prep.variants(name) else None
    if name != "svhn":
        data_prep.prepare(name, root, variant=stored)
        return load_data(recipe, root, SEED)
    counts = recipe.data.train_images, recipe.data.valid_images
    folder, release = svhn_files()
    svhn.prepare("svhn", folder, folder, data_prep.Silent(), release)
    if stored is not None:
        svhn.prepare_variant("svhn", folder, stored, folder, data_prep.Silent(), release)
    data = svhn.load("svhn", folder, preprocessing, *counts, release, subset=recipe.data.subset)
    return memorized(data, recipe.data.labels, recipe.data.inputs, SEED)


# -- tests -------------------------------------------------------------------------------------------------------------


def test_every_benchmark_of_the_first_papers_has_a_budget():
    papers = {name: load_recipe(name).paper.name for name in benchmark_ids()}
    expected = {name for name, paper in papers.items() if paper in {"BinaryConnect", "BinaryNet"}}
    assert expected <= set(BUDGETS)


def at_night() -> set[str]:
    """All but the first of each paper and data set; and BinaryConnect's of CIFAR-10, whose whitening takes minutes."""
    known = {summary.id: (summary.paper, summary.dataset) for summary in summaries()}
    first = {known[name]: name for name in reversed(BUDGETS)}
    return {name for name in BUDGETS if name != first[known[name]] or name == "binaryconnect-cifar10"}


AT_NIGHT = at_night()


@pytest.mark.data
@pytest.mark.parametrize(
    "benchmark", [pytest.param(name, marks=pytest.mark.nightly) if name in AT_NIGHT else name for name in BUDGETS]
)
def test_learns(benchmark, real_data, request):
    recipe = BUDGETS[benchmark].of(benchmark)
    data = load(recipe, real_data, lambda: request.getfixturevalue("svhn_like"))
    assert learned_error(recipe, data, "gluon", BUDGETS[benchmark].of_images) < BUDGETS[benchmark].error_below
