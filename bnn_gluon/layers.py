"""Gluon layers of the papers that Gluon itself does not have."""

from __future__ import annotations

from typing import Any

from mxnet import gluon

from bnn_gluon.ap2 import ap2


class Convolution(gluon.nn.Conv2D):
    """A convolution that adds the bias to finished sums, as the papers' frameworks do.

    The sums of a binary network are whole numbers, and pooling finds many of them tied. MXNet's own operator starts its
    sums with the bias, so that rounding makes one of equal sums the greatest by chance, and the gradient goes there.
    Gradient: of the formula.
    """

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any) -> Any:
        sums = F.Convolution(x, weight, **{**self._kwargs, "no_bias": True})
        return F.broadcast_add(sums, F.reshape(bias, shape=(1, -1, 1, 1)))


class _Pixels:
    """Mean over the batch and the pixels of x (N, channels, rows, columns), shape (1, channels, 1, 1)."""

    def __init__(self, F: Any, x: Any) -> None:
        self._F, self._x = F, x

    def mean(self, x: Any) -> Any:
        return self._F.mean(x, axis=(0, 2, 3), keepdims=True)

    def expand(self, values: Any) -> Any:
        """Values of the channels as something that broadcasts against x."""
        return values

    def count(self) -> Any:
        """Values a channel, N * rows * columns, shape (1,)."""
        return self._F.sum(self._F.ones_like(self._F.slice_axis(self._x, axis=1, begin=0, end=1)))


class _Rows:
    """Mean over the rows of a matrix x (N, channels), shape (1, channels).

    Sums and broadcasts are products with a column of ones: MXNet's reductions along the first axis, which the gradients
    of broadcasting are too, take three times as long.
    """

    def __init__(self, F: Any, x: Any) -> None:
        self._F, self._ones = F, F.ones_like(F.slice_axis(x, axis=1, begin=0, end=1))

    def mean(self, x: Any) -> Any:
        return self._F.broadcast_div(self._F.dot(self._ones, x, transpose_a=True), self.count())

    def expand(self, values: Any) -> Any:
        """Values of the channels as a matrix like x."""
        return self._F.dot(self._ones, values)

    def count(self) -> Any:
        """Rows, shape (1,)."""
        return self._F.sum(self._ones)


class BatchNorm(gluon.HybridBlock):
    """Batch normalisation that gives its batch statistics to whoever keeps the moving averages.

    Forward, over the batch (and the pixels of a convolution's output): y = (x - mean) * scale + beta, where `scale` is
    gamma and what a subclass makes of the variance, mean((x - mean)^2). Gradient: of that formula, through mean and
    variance. In evaluation mean and spread are moving averages, m <- (1 - alpha) m + alpha * batch value, of the spread
    itself, not of the variance, and without bias correction.

    Input and output: float32 (N, channels) or (N, channels, rows, columns). In training the block returns
    (y, mean, spread), the latter two of `channels` elements; in evaluation y.
    """

    spread = ""  # what is averaged beside the mean: the parameter's name in evaluation is "running_<spread>"

    def __init__(self, channels: int, spatial: bool, epsilon: float, training: bool, prefix: str) -> None:
        super().__init__(prefix=prefix)
        self._spatial, self._epsilon, self._training = spatial, epsilon, training
        shape = (1, channels, 1, 1) if spatial else (1, channels)
        with self.name_scope():
            self.gamma = self.params.get("gamma", shape=shape, init="ones")
            self.beta = self.params.get("beta", shape=shape, init="zeros")
            if not training:
                self.running_mean = self.params.get("running_mean", shape=shape, init="zeros", grad_req="null")
                name = f"running_{self.spread}"
                self.running_spread = self.params.get(name, shape=shape, init="ones", grad_req="null")

    def spread_of(self, F: Any, variance: Any) -> Any:
        """The spread, from the biased variance of the batch."""
        raise NotImplementedError

    def scale(self, F: Any, gamma: Any, spread: Any) -> Any:
        """What the centred input is multiplied by."""
        raise NotImplementedError

    def averaged(self, F: Any, spread: Any, batch: _Pixels | _Rows) -> Any:
        """What goes into the moving average: the spread itself."""
        return spread

    def hybrid_forward(
        self, F: Any, x: Any, gamma: Any, beta: Any, running_mean: Any = None, running_spread: Any = None
    ) -> Any:
        if self._training:
            return self.normalize(F, x, gamma, beta, _Pixels(F, x) if self._spatial else _Rows(F, x))
        centred = F.broadcast_sub(x, running_mean)
        return F.broadcast_add(F.broadcast_mul(centred, self.scale(F, gamma, running_spread)), beta)

    def normalize(self, F: Any, x: Any, gamma: Any, beta: Any, batch: _Pixels | _Rows) -> tuple[Any, Any, Any]:
        """Output, mean and spread in training."""
        mean = batch.mean(x)
        centred = F.broadcast_sub(x, batch.expand(mean))
        variance = batch.mean(F.square(centred))
        spread = self.spread_of(F, variance)
        scaled = F.broadcast_mul(centred, batch.expand(self.scale(F, gamma, spread)))
        return F.broadcast_add(scaled, batch.expand(beta)), mean, self.averaged(F, spread, batch)


class BinaryConnectBatchNorm(BatchNorm):
    """scale = gamma / (std + epsilon): epsilon is added to the standard deviation, and std is averaged without it.

    A channel of zero variance has gradient NaN, as in the original. Source: BinaryConnect, batch_norm.py.
    """

    spread = "std"

    def spread_of(self, F: Any, variance: Any) -> Any:
        """std = sqrt(variance)."""
        return F.sqrt(variance)

    def scale(self, F: Any, gamma: Any, spread: Any) -> Any:
        """Gamma / (std + epsilon)."""
        return gamma / (spread + self._epsilon)


class LasagneBatchNorm(BatchNorm):
    """scale = gamma * inv_std, inv_std = 1 / sqrt(variance + epsilon), and inv_std is averaged.

    Source: lasagne/layers/normalization.py, BatchNormLayer, of January 2016, which BinaryNet uses.
    """

    spread = "inv_std"

    def spread_of(self, F: Any, variance: Any) -> Any:
        """inv_std = 1 / sqrt(variance + epsilon)."""
        return 1 / F.sqrt(variance + self._epsilon)

    def scale(self, F: Any, gamma: Any, spread: Any) -> Any:
        """Gamma * inv_std."""
        return gamma * spread


class TorchBatchNorm(BatchNorm):
    """scale = gamma / sqrt(variance + epsilon), and the unbiased variance is averaged, n / (n - 1) times the batch's.

    The "plain" batch normalisation at the output of BinaryNet's Torch7 networks.
    Source: torch/nn, BatchNormalization.lua and lib/THNN/generic/BatchNormalization.c.
    """

    spread = "var"

    def spread_of(self, F: Any, variance: Any) -> Any:
        """The variance."""
        return variance

    def scale(self, F: Any, gamma: Any, spread: Any) -> Any:
        """Gamma / sqrt(variance + epsilon)."""
        return gamma / F.sqrt(spread + self._epsilon)

    def averaged(self, F: Any, spread: Any, batch: _Pixels | _Rows) -> Any:
        """The unbiased variance."""
        count = batch.count()
        return F.broadcast_mul(spread, count / (count - 1))


class ShiftBatchNorm(BatchNorm):
    """Shift-based batch normalisation: all that an input is multiplied by is a power of two.

    Forward, with c = x - mean: v = mean(c * AP2(c)), inv_std = 1 / sqrt(v + epsilon), s = AP2(inv_std),
    y = AP2(gamma) * s * c + beta. The unrounded inv_std is averaged; in evaluation s = AP2(average).

    Gradient, with g that of y: dx = AP2(gamma) * s * (g - mean(g) - s^2 * AP2(c) * mean(AP2(c) * g)),
    dgamma = sum(AP2(s * c) * g), dbeta = sum(g). It is not that of the forward formula, but the one of a plain batch
    normalisation with every factor rounded.

    Source: itayhubara/BinaryNet, BatchNormalizationShiftPow2.lua and SpatialBatchNormalizationShiftPow2.lua;
    arXiv 1602.02830, shift based batch normalization.
    """

    spread = "inv_std"

    def scale(self, F: Any, gamma: Any, spread: Any) -> Any:
        """AP2(gamma) * AP2(inv_std)."""
        return ap2(gamma) * ap2(spread)

    def normalize(self, F: Any, x: Any, gamma: Any, beta: Any, batch: _Pixels | _Rows) -> tuple[Any, Any, Any]:
        """Output, mean and spread in training.

        Rounded values and the mean are constants to autograd. The gradient that passes them by comes in through terms
        whose value is 0: dgamma and the part of dx with AP2(c) through `slope`, that with mean(g) through `mean`.
        """
        mean = batch.mean(x)
        centred = F.broadcast_sub(x, batch.expand(F.BlockGrad(mean)))
        rounded = F.BlockGrad(ap2(centred))
        variance = batch.mean(rounded * centred)
        inv_std = 1 / F.sqrt(variance + self._epsilon)
        shift = F.BlockGrad(ap2(inv_std))
        factor = F.BlockGrad(ap2(gamma)) * shift
        slope = _nothing(F, shift * gamma - factor * F.square(shift) * variance)
        offset = beta - factor * _nothing(F, mean)
        scaled = F.broadcast_mul(centred, batch.expand(factor)) + F.broadcast_mul(rounded, batch.expand(slope))
        return F.broadcast_add(scaled, batch.expand(offset)), mean, inv_std


BATCH_NORMS: dict[str, type[BatchNorm]] = {
    "binaryconnect": BinaryConnectBatchNorm,
    "lasagne": LasagneBatchNorm,
    "torch": TorchBatchNorm,
    "shift": ShiftBatchNorm,
}


def _nothing(F: Any, x: Any) -> Any:
    """0, with gradient 1."""
    return x - F.BlockGrad(x)


def relu(F: Any, x: Any) -> Any:
    """max(0, x), gradient 1 where x > 0, else 0; `fused`, which trains, has 1/2 at 0, as Theano's abs form."""
    return F.relu(x)


def binary_sigmoid(F: Any, x: Any) -> Any:
    """round(clip((x + 1) / 2, 0, 1)): 1 where x >= 0, else 0; gradient 1/2 where |x| <= 1, else 0.

    Rounding is half away from zero, and (x + 1) / 2 is a float32, so -2.98e-8 <= x < 0 gives 1 too, as originally.
    Source: binary_net.py, binary_sigmoid_unit(), hard_sigmoid() and Round3.
    """
    return F.contrib.round_ste(F.clip((x + 1) / 2, 0, 1))


def binary_tanh(F: Any, x: Any) -> Any:
    """2 * binary_sigmoid(x) - 1: +1 where x >= 0, else -1; gradient 1 where |x| <= 1, else 0.

    Source: binary_net.py, binary_tanh_unit(); arXiv 1602.02830, section 1.3.
    """
    return 2 * binary_sigmoid(F, x) - 1


def stochastic_sign(F: Any, x: Any, thresholds: Any = None) -> Any:
    """+1 with probability clip((x + 1) / 2, 0, 1), else -1; gradient 1 where |x| <= 1, else 0.

    Forward in training: sign(clip(x, -1, 1) - T), T uniform in (-1, 1), which is sign((hardtanh(x) + 1) / 2 - U) with
    U uniform in (0, 1). In evaluation, without `thresholds`: sign(x), where sign(0) = 0 as Torch has it. The gradient
    is that of the hardtanh, straight through the sign.
    Source: itayhubara/BinaryNet, BinarizedNeurons.lua behind nn.HardTanh; arXiv 1602.02830, equation 2.
    """
    if thresholds is None:
        return F.sign(x)
    return F.contrib.sign_ste(F.clip(x, -1, 1) - thresholds)


ACTIVATIONS = {
    "relu": relu,
    "binary_tanh": binary_tanh,
    "binary_sigmoid": binary_sigmoid,
    "stochastic_sign": stochastic_sign,
}
