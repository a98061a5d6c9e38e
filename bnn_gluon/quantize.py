"""Binary and ternary weights, dropout masks, thresholds of stochastic activations, and the random numbers of all of
them.

Random numbers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a
counter-based generator: a draw is a function of (seed, tensor, step, index in the tensor) alone. So it does not depend
on the number of threads, there is no generator state to save, and any step can be drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numba
import numpy as np

from benchmarks.engine.updates import EPSILON
from bnn_gluon import filters
from bnn_gluon.activations import PIECE, mean_absolute, sum_four
from bnn_gluon.kernels import parallel

CHUNK = 4096  # weights a thread handles at a time: their uniforms (16 KiB) stay in the first-level cache
_LANE = CHUNK // 4  # a Philox block yields four words; word k of block j is uniform k * _LANE + j of its chunk

_U32 = np.uint32
_MULTIPLIER_0, _MULTIPLIER_1 = _U32(0xD2511F53), _U32(0xCD9E8D57)
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
# The key schedule, k + r * Weyl, as constants: numba then turns the ten rounds into vector code.
_K0 = tuple(_U32(r * _WEYL_0 & 0xFFFFFFFF) for r in range(10))
_K1 = tuple(_U32(r * _WEYL_1 & 0xFFFFFFFF) for r in range(10))
_HIGH_WORD = np.uint64(32)
_TO_24_BITS = _U32(8)
_UNIT = np.float32(2.0**-24)
_ONE = np.float32(1)
_EPSILON = np.float32(EPSILON)
_MIDDLE = np.float32(1 - 2.0**-24)  # half an interval of 2 / 2^24 above -1


@numba.njit(inline="always")
def _round(c0, c1, c2, c3, k0, k1):
    p0 = np.uint64(_MULTIPLIER_0) * np.uint64(c0)
    p1 = np.uint64(_MULTIPLIER_1) * np.uint64(c2)
    return np.uint32(p1 >> _HIGH_WORD) ^ c1 ^ k0, np.uint32(p1), np.uint32(p0 >> _HIGH_WORD) ^ c3 ^ k1, np.uint32(p0)


@numba.njit(inline="always")
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Ten rounds of Philox4x32 on counter (c0, c1, c2, c3) with key (k0, k1), all uint32; returns four uint32 words."""
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[1]), np.uint32(k1 + _K1[1]))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[2]), np.uint32(k1 + _K1[2]))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[3]), np.uint32(k1 + _K1[3]))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[4]), np.uint32(k1 + _K1[4]))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[5]), np.uint32(k1 + _K1[5]))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[6]), np.uint32(k1 + _K1[6]))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[7]), np.uint32(k1 + _K1[7]))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[8]), np.uint32(k1 + _K1[8]))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, np.uint32(k0 + _K0[9]), np.uint32(k1 + _K1[9]))
    return c0, c1, c2, c3


@numba.njit(inline="always")
def _unit(word):
    """The upper 24 bits of a word as a float32 in [0, 1)."""
    return np.float32(np.int32(word >> _TO_24_BITS)) * _UNIT


@numba.njit(error_model="numpy")
def fill_uniform_chunk(uniform, chunk, tensor, step, k0, k1):
    """Uniforms in [0, 1) of weights [chunk * CHUNK, (chunk + 1) * CHUNK) into `uniform`, float32 (CHUNK,)."""
    lane0, lane1 = uniform[:_LANE], uniform[_LANE : 2 * _LANE]
    lane2, lane3 = uniform[2 * _LANE : 3 * _LANE], uniform[3 * _LANE :]
    for j in range(_LANE):
        w0, w1, w2, w3 = philox4x32(np.uint32(chunk * _LANE + j), np.uint32(0), step, tensor, k0, k1)
        lane0[j], lane1[j], lane2[j], lane3[j] = _unit(w0), _unit(w1), _unit(w2), _unit(w3)


Draw = tuple[np.uint32, np.uint32, np.uint32, np.uint32]  # which draw it is: tensor, step, k0, k1


class Rule(NamedTuple):
    """What a quantizer may need to know beside the weights: see `quantize`."""

    limit: np.float32
    zero_weight: str
    draw: Draw


def quantize(
    kind: str, zero_weight: str, weights: np.ndarray, limit: np.float32, draw: Draw, quantized: np.ndarray
) -> None:
    """Set `quantized`, float32 (n,), to what the forward pass uses of real-valued weights, a scale left out.

    Args:
        kind: a key of QUANTIZERS: see `benchmarks.recipe.settings.ModelSettings.weights`.
        zero_weight: "plus" or "minus", what a deterministic weight is at 0.
        weights: float32 (n,).
        limit: H.
        draw: which random draw it is, if stochastic.
    """
    QUANTIZERS[kind](weights, Rule(limit, zero_weight, draw), quantized)


@numba.njit(inline="always")
def probability_of_plus(weight, limit):
    """clip((W / H + 1) / 2, 0, 1): binary_connect.py, hard_sigmoid()."""
    return min(max((weight / limit + np.float32(1)) * np.float32(0.5), np.float32(0)), np.float32(1))


@parallel.loop
def binarize_deterministic(part, weights, limit, binary):
    """binary = H if W >= 0 else -H.

    The original rounds (W / H + 1) / 2 half away from zero in float32, so W = 0, and a W down to -2.98e-8 H, gives +H.
    Source: binary_connect.py, binarization(); T.round of Theano 0.8.

    Args:
        weights: float32 (n,), real-valued.
        limit: H, float32.
        binary: float32 (n,), receives the result.
    """
    for i in parallel.share(part, weights.size):
        binary[i] = limit if probability_of_plus(weights[i], limit) >= np.float32(0.5) else -limit


@parallel.loop
def binarize_zero_to_minus(part, weights, limit, binary):
    """binary = H if W > 0 else -H: the original rounds half to even, so W = 0, and a W up to 5.96e-8 H, gives -H.

    Source: RWTH-IDS/efficient-binary-neural-networks, binary_modules.py, binarize(). Arguments as
    `binarize_deterministic`.
    """
    for i in parallel.share(part, weights.size):
        binary[i] = limit if probability_of_plus(weights[i], limit) > np.float32(0.5) else -limit


def loss_aware_scale(weights: np.ndarray, square: np.ndarray) -> float:
    """sum(d |W|) / sum(d), d = sqrt(v) + 1e-8; in pieces of fixed size, as `mean_absolute`.

    Source: houlu369/Loss-aware-Binarization@8a5bede, FNN/lab.py:47-52; arXiv 1611.01600, proposition 3.1. The v of the
    code, FNN/mnist.py:147-154, has the values of Adam's second moment, which is taken here.

    Args:
        weights: float32 (n,), real-valued.
        square: v, float32 (n,): Adam's moving average of the squared gradient, not corrected for its start at 0.
    """
    weighted, total = np.empty((2, -(-weights.size // PIECE)))
    _sum_curvatures(weights, square, weighted, total)
    return float(np.add.accumulate(weighted)[-1] / np.add.accumulate(total)[-1])  # one after the other


@parallel.loop
def _sum_curvatures(part, weights, square, weighted, total):
    curvatures, products = np.empty(4 * PIECE, np.float32), np.empty(4 * PIECE, np.float32)
    for four in parallel.share(part, (total.size + 3) // 4):
        start, stop = four * 4 * PIECE, min((four + 1) * 4 * PIECE, weights.size)
        w, v, d, product = weights[start:stop], square[start:stop], curvatures[: stop - start], products[: stop - start]
        for i in range(w.size):
            d[i] = np.sqrt(v[i]) + _EPSILON
        for i in range(w.size):
            product[i] = d[i] * w[i]
        sum_four(product, weighted[4 * four : 4 * four + 4])
        sum_four(d, total[4 * four : 4 * four + 4])


def ternarize(weights: np.ndarray, limit: np.float32, ternary: np.ndarray) -> None:
    """ternary = H if W > t, -H if W < -t, else 0; t = .7 mean|W|. Arguments as `binarize_deterministic`.

    Source: RWTH-IDS/efficient-binary-neural-networks, binary_modules.py, ternary weights ("twn"), after arXiv
    1605.04711.
    """
    _compare_with_threshold(weights, np.float32(0.7 * mean_absolute(weights)), limit, ternary)


def round_to_int2(weights: np.ndarray, limit: np.float32, rounded: np.ndarray) -> None:
    """rounded = H clip(round(W / H), -1, 1), halves to even. Arguments as `binarize_deterministic`.

    Source: brevitas, core/quant/int_base.py, IntQuant, with two bits, signed and in narrow range.
    """
    _compare_with_threshold(weights, limit / np.float32(2), limit, rounded)


@parallel.loop
def _compare_with_threshold(part, weights, threshold, limit, ternary):
    for i in parallel.share(part, weights.size):
        inside = limit if weights[i] > threshold else np.float32(0)
        ternary[i] = -limit if weights[i] < -threshold else inside


@numba.njit(error_model="numpy")
def compare_with_uniforms(weights, limit, uniforms, binary):
    """binary = H if u < clip((W / H + 1) / 2, 0, 1) else -H, for uniforms u in [0, 1): arrays float32 (n,)."""
    if limit == _ONE:  # a third of the time were divisions
        for i in range(weights.size):
            binary[i] = _ONE if uniforms[i] < probability_of_plus(weights[i], _ONE) else -_ONE
    else:
        for i in range(weights.size):
            binary[i] = limit if uniforms[i] < probability_of_plus(weights[i], limit) else -limit


@parallel.loop
def binarize_stochastic(part, weights, limit, tensor, step, k0, k1, binary):
    """binary = H with probability clip((W / H + 1) / 2, 0, 1), else -H (arXiv 1511.00363, equation 2).

    Args:
        weights: float32 (n,), real-valued.
        limit: H, float32.
        tensor, step: uint32, which tensor and which training step (from 1) the draw is for.
        k0, k1: uint32, the two halves of the seed.
        binary: float32 (n,), receives the result.
    """
    uniforms = np.empty(CHUNK, np.float32)
    for chunk in parallel.share(part, (weights.size + CHUNK - 1) // CHUNK):
        start, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, weights.size)
        fill_uniform_chunk(uniforms, chunk, tensor, step, k0, k1)
        compare_with_uniforms(weights[start:stop], limit, uniforms, binary[start:stop])


def _real(weights: np.ndarray, rule: Rule, quantized: np.ndarray) -> None:
    quantized[:] = weights


def _deterministic(weights: np.ndarray, rule: Rule, quantized: np.ndarray) -> None:
    binarize = binarize_deterministic if rule.zero_weight == "plus" else binarize_zero_to_minus
    binarize(weights, rule.limit, quantized)


def _sign(weights: np.ndarray, rule: Rule, quantized: np.ndarray) -> None:
    """-1 and +1, which the products of a layer with a scale are made with."""
    _deterministic(weights, rule, quantized)
    if rule.limit != 1:
        quantized /= rule.limit


# By the words of `ModelSettings.weights`: functions that set their last argument; arrays are float32 (n,).
QUANTIZERS: dict[str, Callable[[np.ndarray, Rule, np.ndarray], None]] = {
    "real": _real,
    "deterministic": _deterministic,
    "stochastic": lambda weights, rule, quantized: binarize_stochastic(weights, rule.limit, *rule.draw, quantized),
    "ternary": lambda weights, rule, quantized: ternarize(weights, rule.limit, quantized),
    "layer_scaled": _sign,
    "loss_aware": _sign,
    "filter_scaled": _sign,
    "int2": lambda weights, rule, quantized: round_to_int2(weights, rule.limit, quantized),
}
# By the words of layers that have a scale, what their signs are multiplied by, one number or one a filter: functions of
# weights float32 (n,), by name of the optimizer's moments of them, and of the number of scales.
SCALES: dict[str, Callable[[np.ndarray, Mapping[str, np.ndarray], int], float | np.ndarray]] = {
    "layer_scaled": lambda weights, moments, scales: mean_absolute(weights),
    "loss_aware": lambda weights, moments, scales: loss_aware_scale(weights, moments["square"]),
    "filter_scaled": lambda weights, moments, scales: filters.mean_absolute(weights, scales),
}


@parallel.loop
def draw_dropout_mask(part, keep, scale, tensor, step, k0, k1, mask):
    """mask = `scale` with probability `keep`, else 0: both float32, see `benchmarks.engine.draws.keep_and_scale`.

    Args:
        tensor, step, k0, k1: uint32, as `binarize_stochastic`.
        mask: float32 (n,), receives the result.
    """
    uniforms = np.empty(CHUNK, np.float32)
    for chunk in parallel.share(part, (mask.size + CHUNK - 1) // CHUNK):
        start, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, mask.size)
        fill_uniform_chunk(uniforms, chunk, tensor, step, k0, k1)
        values = mask[start:stop]
        for j in range(values.size):
            values[j] = scale if uniforms[j] < keep else np.float32(0)


@parallel.loop
def draw_thresholds(part, tensor, step, k0, k1, thresholds):
    """thresholds = odd multiples of 2^-24 in (-1, 1), uniform: of `fused.STOCHASTIC_SIGN`.

    They are the middles of 2^24 equal intervals, so an activation of -1 is never above, one of +1 always, and none is
    equal to 0.

    Args:
        tensor, step, k0, k1: uint32, as `binarize_stochastic`.
        thresholds: float32 (n,), receives the result.
    """
    uniforms = np.empty(CHUNK, np.float32)
    for chunk in parallel.share(part, (thresholds.size + CHUNK - 1) // CHUNK):
        start, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, thresholds.size)
        fill_uniform_chunk(uniforms, chunk, tensor, step, k0, k1)
        values = thresholds[start:stop]
        for j in range(values.size):
            values[j] = np.float32(2) * uniforms[j] - _MIDDLE
