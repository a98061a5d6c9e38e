"""Gluon layers of the papers that Gluon itself does not have."""

from __future__ import annotations

from typing import Any

from mxnet import gluon


class BinaryConnectBatchNorm(gluon.HybridBlock):
    """Batch normalisation as BinaryConnect's own batch_norm.py has it: epsilon is added to the standard deviation.

    Forward, over the batch (and the pixels of a convolution's output):
        y = (x - mean) * gamma / (std + epsilon) + beta,  std = sqrt(mean((x - mean)^2))
    Gradient: of that formula, through mean and std. A channel of zero variance has gradient NaN, as in the original.
    In evaluation mean and std are the moving averages, m <- (1 - alpha) m + alpha * batch value, kept by the engine: of
    the standard deviation itself, not of the variance, without epsilon and without bias correction.

    Input and output: float32 (N, channels) or (N, channels, rows, columns). In training the block returns
    (y, mean, std), the latter two of `channels` elements; in evaluation y.
    """

    def __init__(self, channels: int, spatial: bool, epsilon: float, training: bool, prefix: str) -> None:
        super().__init__(prefix=prefix)
        self._spatial, self._epsilon, self._training = spatial, epsilon, training
        shape = (1, channels, 1, 1) if spatial else (1, channels)
        with self.name_scope():
            self.gamma = self.params.get("gamma", shape=shape, init="ones")
            self.beta = self.params.get("beta", shape=shape, init="zeros")
            if not training:
                self.running_mean = self.params.get("running_mean", shape=shape, init="zeros", grad_req="null")
                self.running_std = self.params.get("running_std", shape=shape, init="ones", grad_req="null")

    def hybrid_forward(
        self, F: Any, x: Any, gamma: Any, beta: Any, running_mean: Any = None, running_std: Any = None
    ) -> Any:
        if not self._training:
            return _affine(F, F.broadcast_sub(x, running_mean), gamma / (running_std + self._epsilon), beta)
        if self._spatial:
            mean = F.mean(x, axis=(0, 2, 3), keepdims=True)
            centred = F.broadcast_sub(x, mean)
            std = F.sqrt(F.mean(F.square(centred), axis=(0, 2, 3), keepdims=True))
            return _affine(F, centred, gamma / (std + self._epsilon), beta), mean, std
        # Over the rows of a matrix, sums and broadcasts as products with a column of ones: MXNet's reductions along the
        # first axis, which the gradients of broadcasting are too, take three times as long.
        ones = F.ones_like(F.slice_axis(x, axis=1, begin=0, end=1))
        mean = _row_mean(F, ones, x)
        centred = x - F.dot(ones, mean)
        std = F.sqrt(_row_mean(F, ones, F.square(centred)))
        return centred * F.dot(ones, gamma / (std + self._epsilon)) + F.dot(ones, beta), mean, std


def _affine(F: Any, x: Any, scale: Any, shift: Any) -> Any:
    return F.broadcast_add(F.broadcast_mul(x, scale), shift)


def _row_mean(F: Any, ones: Any, x: Any) -> Any:
    """Mean over the rows of x (N, channels), by a product with `ones` (N, 1): shape (1, channels)."""
    return F.broadcast_div(F.dot(ones, x, transpose_a=True), F.sum(ones))
