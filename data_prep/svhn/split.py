"""Which images of SVHN are trained on, validated on and tested on, and in which order: the two published ways.

Both hold out for validation so many images of each class from `train` and so many from `extra`, 400 and 200 with the
official files (Sermanet, Chintala, LeCun, ICPR 2012); they differ in which. Images are numbered as they are stored:
those of `train`, then those of `extra`, then those of `test`, each in the order of its file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLASSES = 10
SEED = 322  # of pylearn2's svhn.py


class Rows(NamedTuple):
    """The images of each split, int32 (images,): numbers of stored images, in the order of the split."""

    train: NDArray[np.int32]
    valid: NDArray[np.int32]
    test: NDArray[np.int32]


def pylearn2_split(
    train: NDArray[np.uint8], extra: NDArray[np.uint8], test: NDArray[np.uint8], held_out: tuple[int, int]
) -> Rows:
    """The split of pylearn2, which BinaryConnect and the Theano code of BinaryNet used.

    With one generator, RandomState(322): the images of each class of `train` are shuffled and the first of them held
    out, then those of `extra`; what is left is put in the order of `train`, then of `extra`, and shuffled. The test
    images are shuffled too, and the validation images: each by a generator that has gone the same way before.

    The order of `train` and of `test` is that of the original code. The members of `valid` are too, but the order in
    which they are shuffled is ascending here, and that of a Python set there, which depends on the version of Python.
    (The training images passed through such sets as well. Those fill two thirds of their hash tables at most; as
    more than two thirds of the images are in them, the tables have a place for each number, and the order is
    ascending in every version.)

    Args:
        train, extra, test: classes 0..9 of the images of each file, uint8 (images,).
        held_out: images of each class from `train`, and from `extra`.

    Source: pylearn2@fe9beee, pylearn2/datasets/svhn.py, make_data.
    """
    generator = np.random.RandomState(SEED)
    held, left, start = [], [], 0
    for labels, count in zip((train, extra), held_out, strict=True):
        chosen = np.zeros(len(labels), bool)
        for members in _members(labels):
            generator.shuffle(members)
            chosen[members[:count]] = True
        held.append(start + np.flatnonzero(chosen))
        left.append(start + np.flatnonzero(~chosen))
        start += len(labels)
    state = generator.get_state()
    first_test = len(train) + len(extra)
    return Rows(
        train=_shuffled(np.concatenate(left), generator),
        valid=_shuffled(np.concatenate(held), _generator_at(state)),
        test=_shuffled(np.arange(first_test, first_test + len(test)), np.random.RandomState(SEED)),
    )


def train_digits(train_images: int) -> NDArray[np.int32]:
    """The images of `train` alone, int32 (train images,), in the order of pylearn2's SVHN(which_set="train").

    They are shuffled as its test images are. With pylearn2's validation set they overlap: two thirds of that are images
    of `train`.
    Source: hockeybro12/BinaryNetGeneralizationExperiments@73ed87d, SVHN/svhn_random_labels.py, trains on this set and
    validates on that one; pylearn2@fe9beee, pylearn2/datasets/svhn.py, make_data.
    """
    return _shuffled(np.arange(train_images), np.random.RandomState(SEED))


def first_of_class_split(
    train: NDArray[np.uint8], extra: NDArray[np.uint8], test: NDArray[np.uint8], held_out: tuple[int, int]
) -> Rows:
    """The split of dp, which the Torch7 code of BinaryNet used: the first images of each class are held out.

    All are given in the order they are stored: the original shuffles the training images, and again every epoch.

    Args:
        train, extra, test: classes 0..9 of the images of each file, uint8 (images,).
        held_out: images of each class from `train`, and from `extra`.

    Source: nicholas-leonard/dp, data/svhn.lua, Svhn:_loadTrainValid.
    """
    held = np.zeros(len(train) + len(extra), bool)
    for labels, count, start in ((train, held_out[0], 0), (extra, held_out[1], len(train))):
        for members in _members(labels):
            held[start + members[:count]] = True
    tested = np.arange(len(held), len(held) + len(test), dtype=np.int32)
    return Rows(np.flatnonzero(~held).astype(np.int32), np.flatnonzero(held).astype(np.int32), tested)


def _members(labels: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """The images of each class, in order."""
    return [np.flatnonzero(labels == label) for label in range(CLASSES)]


def _shuffled(rows: NDArray[np.int64], generator: np.random.RandomState) -> NDArray[np.int32]:
    index = np.arange(len(rows))
    generator.shuffle(index)
    shuffled: NDArray[np.int32] = rows[index].astype(np.int32)
    return shuffled


def _generator_at(state: object) -> np.random.RandomState:
    generator = np.random.RandomState()
    generator.set_state(state)  # type: ignore[arg-type]
    return generator
