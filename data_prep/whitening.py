"""ZCA whitening of whole data sets: every pixel uncorrelated with every other, by the symmetric matrix that does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.progress import Progress, bar

Images = NDArray[np.float32]

# Images multiplied at a time: a block of 60 MB, large enough for full speed, small beside the images themselves.
_BLOCK = 5000


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
        with bar(progress, "whitening", images.nbytes):
            for start in range(0, len(images), _BLOCK):
                block = images[start : start + _BLOCK]
                np.matmul(block - self.mean, self.matrix, out=block)
                progress.advance(block.nbytes)


def fit_zca(images: Images, bias: float, progress: Progress, *, ddof: int = 0) -> Whitening:
    """Fit a ZCA to float32 (N, D) images: with X the centred images, X'X / (N - ddof) + bias I = V diag(e) V' and
    matrix = V diag(1 / sqrt(e)) V'.

    All in float32, as pylearn2 with floatX=float32: on other processors and libraries it differs in the last bits.

    Raises:
        DataError: an eigenvalue is not positive: `bias` is too small for these images.

    Source: pylearn2@fe9beee, pylearn2/datasets/preprocessing.py, ZCA.fit; with ddof=1 unsup, whitening.lua, zca_whiten.
    """
    # The driver: of those of LAPACK, the one whose small eigenvalues are nearest to those in float64.
    from scipy.linalg import eigh

    mean: Images = images.mean(axis=0)
    covariance = np.zeros((images.shape[1], images.shape[1]), np.float32)
    with bar(progress, "covariance", images.nbytes):
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK] - mean
            covariance += block.T @ block
            progress.advance(block.nbytes)
    covariance /= np.float32(len(images) - ddof)
    covariance[np.diag_indices_from(covariance)] += np.float32(bias)
    with bar(progress, "eigenvectors", None):
        eigenvalues, vectors = eigh(covariance, overwrite_a=True, check_finite=False, driver="evr")
    if eigenvalues[0] <= 0:
        raise DataError(f"no whitening: expected positive eigenvalues, found {eigenvalues[0]:g} with bias {bias:g}")
    matrix: Images = (vectors / np.sqrt(eigenvalues)) @ vectors.T
    return Whitening(mean, matrix, eigenvalues)
