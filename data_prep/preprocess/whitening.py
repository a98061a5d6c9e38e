"""ZCA whitening of whole data sets: every pixel uncorrelated with every other, by the symmetric matrix that does it.

The work is cut into pieces of fixed sizes, each computed by one thread and added up in a fixed order. So with a BLAS
library of one thread, as `whitening_process` has it, the bits of the result do not depend on how many cores there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data_prep.cores import usable_cores
from data_prep.errors import DataError
from data_prep.progress import Progress, bar

Images = NDArray[np.float32]
Item = TypeVar("Item")

# Raised by one whenever the fit gives other bits than before; files store it. Without: all in float32, by as many
# threads as there were cores.
FIT = 2
_BLOCK = 1000  # images multiplied at a time; 25 MB as float64
_TILE = 512  # rows and columns of the covariance that one thread computes


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted ZCA: x becomes (x - mean) matrix.

    Attributes:
        mean: float32 (D,).
        matrix: float32 (D, D), symmetric: the inverse square root of the covariance of the images it was fitted to.
        eigenvalues: float32 (D,), ascending, of that covariance, the bias on its diagonal included.
    """

    mean: Images
    matrix: Images
    eigenvalues: Images

    def apply(self, images: Images, progress: Progress) -> None:
        """Whiten images, float32 (N, D), in place."""

        def whiten(start: int) -> None:
            block = images[start : start + _BLOCK]
            np.matmul(block - self.mean, self.matrix, out=block)
            progress.advance(block.nbytes)

        with bar(progress, "whitening", images.nbytes):
            _on_all_cores(whiten, range(0, len(images), _BLOCK))


def fit_zca(images: Images, bias: float, progress: Progress, *, ddof: int = 0) -> Whitening:
    """Fit a ZCA to float32 (N, D) images: with X the centered images, X'X / (N - ddof) + bias I = V diag(e) V' and
    matrix = V diag(1 / sqrt(e)) V'.

    The mean is that of pylearn2 to the last bit. The rest is computed in float64, and so hardly depends on the
    processor and the libraries: pylearn2 with floatX=float32 is itself 5.5e-3 from it in whitened images.

    Raises:
        DataError: an eigenvalue is not positive: `bias` is too small for these images.

    Source: pylearn2@fe9beee, pylearn2/datasets/preprocessing.py, ZCA.fit; with ddof=1 unsup, whitening.lua, zca_whiten.
    """
    # The driver: of those of LAPACK, the one whose small eigenvalues are the most accurate.
    from scipy.linalg import eigh

    mean: Images = images.mean(axis=0)
    covariance = _sum_of_squares(images, mean, progress)
    covariance /= len(images) - ddof
    covariance[np.diag_indices_from(covariance)] += bias
    with bar(progress, "eigenvectors", None):
        eigenvalues, vectors = eigh(covariance, overwrite_a=True, check_finite=False, driver="evr")
    if eigenvalues[0] <= 0:
        raise DataError(f"no whitening: expected positive eigenvalues, found {eigenvalues[0]:g} with bias {bias:g}")
    scaled, matrix = vectors / np.sqrt(eigenvalues), np.empty(vectors.shape, np.float32)

    def multiply(rows: slice) -> None:
        matrix[rows] = scaled[rows] @ vectors.T

    _on_all_cores(multiply, _tiles(len(vectors)))
    return Whitening(mean, matrix, eigenvalues.astype(np.float32))


def _sum_of_squares(images: Images, mean: Images, progress: Progress) -> NDArray[np.float64]:
    """X'X in float64 (D, D) of float32 (N, D) images less their mean; half of its tiles are copies of the others."""
    features = images.shape[1]
    total = np.zeros((features, features))
    pairs = [
        (rows, columns)
        for rows, columns in itertools.product(_tiles(features), repeat=2)
        if rows.start <= columns.start
    ]
    with bar(progress, "covariance", images.nbytes):
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK].astype(np.float64)
            block -= mean

            def add(pair: tuple[slice, slice], block: NDArray[np.float64] = block) -> None:
                rows, columns = pair
                total[rows, columns] += block[:, rows].T @ block[:, columns]

            _on_all_cores(add, pairs)
            progress.advance(block.nbytes // 2)
    for rows, columns in pairs:
        total[columns, rows] = total[rows, columns].T
    return total


def _tiles(count: int) -> list[slice]:
    return [slice(start, min(start + _TILE, count)) for start in range(0, count, _TILE)]


def _on_all_cores(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """`work` done to each item, by as many threads as there are usable cores."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(work, items):
            pass
