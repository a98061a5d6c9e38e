"""Binary and ternary weights, dropout masks, thresholds of stochastic activations, and the random
numbers of all of them.

Random numbers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a
counter-based generator: a draw is a function of (seed, tensor, step, index in the tensor) alone, the very function of
bnn_gluon.quantize, so both engines make the same draws. The step is a tensor on the device: a captured CUDA graph draws
anew each time it is replayed, and there is no generator state to save.

Draws come in chunks of 4 x 1024: word k of the Philox block with counter (chunk * 1024 + j) is number k * 1024 + j of
its chunk. Weights are stored in whole chunks too, (chunks, 4, 1024) with zeros at the end, so that the four words of a
block are used where they are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.engine.updates import EPSILON
from bnn_torch import filters

WORDS, LANE = 4, 1024
CHUNK = WORDS * LANE

_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_WORD, _HALF_WORD = 0xFFFFFFFF, 0xFFFF
_UNIT = 2.0**-24
_MIDDLE = 1 - 2.0**-24  # half an interval of 2 / 2^24 above -1

Key = tuple[int, int]


def _product_of_longs(x: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low word of a product, in int64: it wraps around, but its 64 bits are right. The way for GPUs."""
    product = x * multiplier
    return (product >> 32) & _WORD, product & _WORD


def _product_of_halves(x: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """The same in int32, from products of halves. The way for CPUs, whose vector units know no product of longs."""
    low, high = x & _HALF_WORD, (x >> 16) & _HALF_WORD
    of_low, of_high = multiplier & _HALF_WORD, multiplier >> 16
    middle = high * of_low + ((low * of_low >> 16) & _HALF_WORD)
    other = low * of_high + (middle & _HALF_WORD)
    carried = high * of_high + ((middle >> 16) & _HALF_WORD) + ((other >> 16) & _HALF_WORD)
    return carried, x * _signed(multiplier)


def _signed(word: int) -> int:
    """The int32 of the same bits."""
    return (word + 2**31) % 2**32 - 2**31


def philox4x32(counter: Sequence[Tensor], key: Key) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds of Philox4x32 on a counter of four words, which broadcast; returns four words.

    A word is an int32 of its bits, or an int64 in [0, 2^32), all alike.
    """
    c0, c1, c2, c3 = counter
    halves = c0.dtype == torch.int32
    product = _product_of_halves if halves else _product_of_longs
    for number in range(_ROUNDS):
        keys = [(k + number * weyl) & _WORD for k, weyl in zip(key, (_WEYL_0, _WEYL_1), strict=True)]
        k0, k1 = map(_signed, keys) if halves else keys
        (high0, low0), (high1, low1) = product(c0, _MULTIPLIER_0), product(c2, _MULTIPLIER_1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return c0, c1, c2, c3


def uniform_lanes(chunks: int, tensor: int, step: Tensor, key: Key) -> list[Tensor]:
    """Uniforms in [0, 1) for some chunks of a tensor: number [c, j] of list element k is k * LANE + j of chunk c.

    Args:
        chunks: how many.
        tensor: number of the tensor.
        step: int64 (), the training step from 1.
        key: the two halves of the seed.

    Returns:
        Four float32 (chunks, LANE).
    """
    kind = torch.int32 if step.device.type == "cpu" else torch.int64
    # "^ 0" changes no bit, but hides from torch.compile that these are indices. It would take their products for
    # indices too, which its GPU code computes in 32 bits: it refuses the multiplier, or the product would wrap.
    number = torch.arange(chunks * LANE, dtype=kind, device=step.device).reshape(chunks, LANE) ^ 0
    step = step.to(kind)
    words = philox4x32((number, torch.zeros_like(step), step, torch.full_like(step, tensor)), key)
    return [((word >> 8) & 0xFFFFFF).to(torch.float32) * _UNIT for word in words]


def uniforms(shape: Sequence[int], tensor: int, step: Tensor, key: Key) -> Tensor:
    """Uniforms in [0, 1), float32 of `shape`, number i at index i of the flattened tensor."""
    size = math.prod(shape)
    lanes = uniform_lanes(chunks_of(size), tensor, step, key)
    return torch.stack(lanes, dim=1).reshape(-1)[:size].reshape(shape)


def chunks_of(size: int) -> int:
    """Chunks that hold so many values."""
    return -(-size // CHUNK)


def in_chunks(values: Tensor) -> Tensor:
    """Values in their flat order as (chunks, WORDS, LANE), zeros at the end."""
    missing = chunks_of(values.numel()) * CHUNK - values.numel()
    flat = values.reshape(-1)
    return (torch.nn.functional.pad(flat, (0, missing)) if missing else flat).reshape(-1, WORDS, LANE)


def from_chunks(chunks: Tensor, shape: Sequence[int]) -> Tensor:
    """A view of what `in_chunks` got, of `shape`."""
    return chunks.reshape(-1)[: math.prod(shape)].view(tuple(shape))


def probability_of_plus(weights: Tensor, limit: float) -> Tensor:
    """clip((W / H + 1) / 2, 0, 1): binary_connect.py, hard_sigmoid()."""
    return ((weights / limit + 1) * 0.5).clamp(0, 1)


def binarize_deterministic(weights: Tensor, limit: float) -> Tensor:
    """H if W >= 0 else -H, of the shape of `weights`, float32.

    The original rounds (W / H + 1) / 2 half away from zero in float32, so W = 0, and a W down to -2.98e-8 H, gives +H.
    Source: binary_connect.py, binarization(); T.round of Theano 0.8.
    """
    return _plus_or_minus(probability_of_plus(weights, limit) >= 0.5, limit)


def binarize_zero_to_minus(weights: Tensor, limit: float) -> Tensor:
    """H if W > 0 else -H; the original rounds half to even, so W = 0, and a W up to 5.96e-8 H, gives -H.

    Source: RWTH-IDS/efficient-binary-neural-networks, binary_modules.py, binarize().
    """
    return _plus_or_minus(probability_of_plus(weights, limit) > 0.5, limit)


def ternarize(weights: Tensor, limit: float, size: int) -> Tensor:
    """H if W > t, -H if W < -t, else 0; t = .7 mean|W| over the first `size` of the weights, which are all that count.

    The sum is one of double precision, so that t does not depend on its order.
    Source: RWTH-IDS/efficient-binary-neural-networks, ternary_modules.py, ternarize() with "twn"; arXiv 1605.04711.
    """
    threshold = (0.7 * weights.reshape(-1)[:size].abs().mean(dtype=torch.float64)).to(torch.float32)
    return ((weights > threshold).to(torch.float32) - (weights < -threshold).to(torch.float32)) * limit


def loss_aware_scale(weights: Tensor, square: Tensor, size: int) -> Tensor:
    """sum(d |W|) / sum(d), d = sqrt(v) + 1e-8, over the first `size`; float32 (), summed in double precision.

    Source: houlu369/Loss-aware-Binarization@8a5bede, FNN/lab.py:47-52; arXiv 1611.01600, proposition 3.1. The v of the
    code, FNN/mnist.py:147-154, has the values of Adam's second moment, which is taken here.
    """
    w, d = weights.reshape(-1)[:size], square.reshape(-1)[:size].sqrt() + EPSILON
    return ((d * w.abs()).sum(dtype=torch.float64) / d.sum(dtype=torch.float64)).to(torch.float32)


def mean_absolute(weights: Tensor, size: int) -> Tensor:
    """mean|W| over the first `size`; float32 (), summed in double precision."""
    return weights.reshape(-1)[:size].abs().mean(dtype=torch.float64).to(torch.float32)


def round_to_int2(weights: Tensor, limit: float) -> Tensor:
    """H clip(round(W / H), -1, 1), halves to even.

    Source: brevitas, core/quant/int_base.py, IntQuant, with two bits, signed and in narrow range.
    """
    return ((weights > limit / 2).to(torch.float32) - (weights < -limit / 2).to(torch.float32)) * limit


def compare_with_uniforms(weights: Tensor, limit: float, drawn: Tensor) -> Tensor:
    """H if u < clip((W / H + 1) / 2, 0, 1) else -H, for uniforms u in [0, 1)."""
    return _plus_or_minus(drawn < probability_of_plus(weights, limit), limit)


def binarize_stochastic(weights: Tensor, limit: float, tensor: int, step: Tensor, key: Key) -> Tensor:
    """H with probability clip((W / H + 1) / 2, 0, 1), else -H (arXiv 1511.00363, equation 2).

    Args:
        weights: float32 (chunks, WORDS, LANE), real-valued; the result has the same shape.
        limit: H.
        tensor, step, key: as `uniform_lanes`.
    """
    lanes = uniform_lanes(weights.shape[0], tensor, step, key)
    return torch.stack(
        [compare_with_uniforms(weights[:, word], limit, drawn) for word, drawn in enumerate(lanes)], dim=1
    )


def _plus_or_minus(plus: Tensor, limit: float) -> Tensor:
    return plus.to(torch.float32) * (2 * limit) - limit


class Quantizer(NamedTuple):
    """How a layer's weights become what products use: see `benchmarks.recipe.settings.ModelSettings.weights`.

    Attributes:
        kind: a key of QUANTIZERS.
        limit: H, of no meaning if real.
        zero_weight: "plus" or "minus": what a deterministic weight is at 0.
        size: number of weights.
        tensor, key: of random draws.
    """

    kind: str
    limit: float
    zero_weight: str
    size: int
    tensor: int
    key: Key

    def __call__(self, weights: Tensor, step: Tensor) -> Tensor:
        """Quantize weights float32 (chunks, WORDS, LANE) for a step, int64 () from 1; the result has the same shape.

        A scale is left out.
        """
        return QUANTIZERS[self.kind](weights, self, step)


def _deterministic(weights: Tensor, rule: Quantizer, step: Tensor) -> Tensor:
    binarize = binarize_deterministic if rule.zero_weight == "plus" else binarize_zero_to_minus
    return binarize(weights, rule.limit)


def _sign(weights: Tensor, rule: Quantizer, step: Tensor) -> Tensor:
    """-1 and +1, which the products of a layer with a scale are made with."""
    return _deterministic(weights, rule, step) / rule.limit


# By the words of `ModelSettings.weights`: functions of weights float32 (chunks, WORDS, LANE), of the rule and of the
# step, int64 () from 1, whose result is float32 of the same shape.
QUANTIZERS: dict[str, Callable[[Tensor, Quantizer, Tensor], Tensor]] = {
    "real": lambda weights, rule, step: weights,
    "deterministic": _deterministic,
    "stochastic": lambda weights, rule, step: binarize_stochastic(weights, rule.limit, rule.tensor, step, rule.key),
    "ternary": lambda weights, rule, step: ternarize(weights, rule.limit, rule.size),
    "layer_scaled": _sign,
    "loss_aware": _sign,
    "filter_scaled": _sign,
    "int2": lambda weights, rule, step: round_to_int2(weights, rule.limit),
}
# By the words of layers that have a scale, what their signs are multiplied by, float32 () or (filters,): functions of
# weights float32 (chunks, WORDS, LANE), of their shape and, by name, of the optimizer's moments of them.
SCALES: dict[str, Callable[[Tensor, Sequence[int], Mapping[str, Tensor]], Tensor]] = {
    "layer_scaled": lambda weights, shape, moments: mean_absolute(weights, math.prod(shape)),
    "loss_aware": lambda weights, shape, moments: loss_aware_scale(weights, moments["square"], math.prod(shape)),
    "filter_scaled": lambda weights, shape, moments: filters.mean_absolute(from_chunks(weights, shape)),
}


def dropout_mask(shape: Sequence[int], keep: float, scale: float, tensor: int, step: Tensor, key: Key) -> Tensor:
    """`scale` with probability `keep`, else 0; float32: see `benchmarks.engine.draws.keep_and_scale`."""
    return (uniforms(shape, tensor, step, key) < keep).to(torch.float32) * scale


def thresholds(shape: Sequence[int], tensor: int, step: Tensor, key: Key) -> Tensor:
    """Odd multiples of 2^-24 in (-1, 1), uniform: of a stochastic sign; float32 of `shape`.

    They are the middles of 2^24 equal intervals, so an activation of -1 is never above, one of +1 always, and none is
    equal to 0.
    """
    return 2 * uniforms(shape, tensor, step, key) - _MIDDLE
