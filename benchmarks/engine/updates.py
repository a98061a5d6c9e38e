"""The published update rules as far as no engine matters, and what an update does to each parameter.

A rule says which arrays are kept beside a parameter and which step size the learning rate becomes; the update itself is
in an engine's update.py. The recipe says which parameters are frozen, clipped and penalized, and how the learning rate
of each is scaled.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.engine.layers import Layer, weight_limits
from benchmarks.recipe.architecture import Dense

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# Of all forms of Adam: the defaults of lasagne.updates.adam, torch.optim.Adam and adaMax_binary_clip_shift.lua.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
# Subtracted in double precision, as Lasagne does: in float32, 1 - .999 is 1.3e-5 larger.
REST1, REST2 = 1 - BETA1, 1 - BETA2
SHIFT_EPSILON = 2.0**-27  # adaMax_binary_clip_shift.lua


def ap2(x: Any) -> Any:
    """AP2(x) = sign(x) * 2^round(log2|x|), and 0 for 0, of float32, a number or an array.

    As the engines' `kernels/ap2.py`, which says why: between 2^k and 2^(k+1) the power changes at 2^(k + 1/2).
    Source: arXiv 1602.02830, section 1.4.
    """
    scaled = x * np.float32(1.5 / math.sqrt(2))
    wide = scaled * np.float32(2**23 + 1)
    return wide - (wide - scaled)


class Rule(NamedTuple):
    """An update rule.

    Attributes:
        name: what engines know its update by.
        moments: names of the arrays that are kept beside each parameter, of its shape; they start at zero.
        sizes: of a learning rate and the number of the update, from 1: the step size, which its direction is multiplied
            by, and what else depends on that number.
    """

    name: str
    moments: tuple[str, ...]
    sizes: Callable[[float, int], tuple[np.float32, ...]]


def _lr(lr: float, step: int) -> tuple[np.float32, ...]:
    return (np.float32(lr),)


def _adam(lr: float, step: int) -> tuple[np.float32, ...]:
    """a_t = lr sqrt(1 - beta2^t) / (1 - beta1^t)."""
    return (np.float32(lr * math.sqrt(1 - BETA2**step) / (1 - BETA1**step)),)


def _torch_adam(lr: float, step: int) -> tuple[np.float32, ...]:
    """a_t = lr / (1 - beta1^t), and c_t = 1 / sqrt(1 - beta2^t)."""
    return np.float32(lr / (1 - BETA1**step)), np.float32(1 / math.sqrt(1 - BETA2**step))


def _keras_adam(lr: float, step: int) -> tuple[np.float32, ...]:
    """Ten epsilons are one beside a tenth of the root: a_t / 10 and c_t = 1 / 10, with a_t of "adam"."""
    return np.float32(_adam(lr, step)[0] / 10), np.float32(0.1)


def _shift_adamax(lr: float, step: int) -> tuple[np.float32, ...]:
    """a_t = AP2(lr / (1 - beta1^t))."""
    return (ap2(np.float32(lr / (1 - BETA1**step))),)


RULES = {
    rule.name: rule
    for rule in (
        # theta <- theta - lr g. Source: lasagne/updates.py, sgd().
        Rule("sgd", (), _lr),
        # v <- momentum v + g; theta <- theta - lr v, or with Nesterov's momentum theta - lr (g + momentum v).
        # Source: PyTorch's torch.optim.SGD, of which RWTH-IDS/efficient-binary-neural-networks, main.py, takes it.
        Rule("momentum", ("velocity",), _lr),
        # m and s are moving averages of g and g^2; theta <- theta - a_t m / (sqrt(s) + epsilon). Lasagne's form, where
        # epsilon is not bias-corrected ("epsilon hat" of arXiv 1412.6980, section 2).
        # Source: lasagne/updates.py, adam(); binary_connect.py, clipping_scaling(), as Theano compiles it:
        # p - s * step, not the literal p + s * ((p - step) - p), which loses small steps.
        Rule("adam", ("mean", "square"), _adam),
        # theta <- theta - a_t m / (c_t sqrt(s) + epsilon): Adam as published, where epsilon is added to the
        # bias-corrected root (arXiv 1412.6980, algorithm 1). Source: PyTorch's torch.optim.Adam.
        Rule("torch_adam", ("mean", "square"), _torch_adam),
        # theta <- theta - a_t m / (sqrt(s) + 10 epsilon): that of "adam", computed as "torch_adam". Source: tf.keras,
        # optimizers.Adam, whose epsilon is 1e-7.
        Rule("keras_adam", ("mean", "square"), _keras_adam),
        # v <- AP2(max(beta2 v, |g|)) + 2^-27; theta <- theta - a_t m / v: AdaMax whose divisions are shifts. The next
        # step starts from this v, so it never decays, as .999 * 2^k rounds back to 2^k: it is the largest |g| so far,
        # rounded. Source: itayhubara/BinaryNet, adaMax_binary_clip_shift.lua; arXiv 1602.02830, shift based AdaMax.
        Rule("shift_adamax", ("mean", "maximum"), _shift_adamax),
    )
}


def rule_of(model: ModelSettings) -> Rule:
    """The update rule of a recipe."""
    return RULES["momentum" if model.momentum else model.optimizer]


def update_of(model: ModelSettings, updates: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The update of a recipe among those of an engine, by names of rules; "momentum" takes momentum and nesterov first.

    Those are float and bool.
    """
    update = updates[rule_of(model).name]
    return functools.partial(update, model.momentum, model.nesterov) if model.momentum else update


def lr_scales(layers: list[Layer], model: ModelSettings) -> dict[str, np.float32]:
    """Learning-rate scale of each parameter that has one other than 1, by name; layers that are not real have some.

    "glorot": of weights, float32(1 / sqrt(1.5 / (fan_in + fan_out))), twice the inverse of Glorot's limit.
    "torch_glorot": of weights and their biases, and of gamma 1 / sqrt(1.5 / n) for n channels.
    "torch_glorot_ap2": of weights and their biases, AP2 of that.
    Source: binary_connect.py, W_LR_scale; itayhubara/BinaryNet, Models/BinaryNet_MNIST_Model.lua for the second,
    BinaryNet_Cifar10_Model.lua and BinaryNet_SVHN_Model.lua for the third.
    """
    scales: dict[str, np.float32] = {}
    if model.lr_scale == "none":
        return scales
    for layer in (layer for layer in layers if layer.quantized):
        glorot = np.float32(1 / np.sqrt(1.5 / (layer.shape.fan_in + layer.shape.fan_out)))
        scales[layer.weight] = ap2(glorot) if model.lr_scale == "torch_glorot_ap2" else glorot
        if model.lr_scale != "glorot":
            scales[layer.bias] = scales[layer.weight]
        if model.lr_scale == "torch_glorot":
            scales[f"{layer.norm}.gamma"] = np.float32(1 / np.sqrt(1.5 / layer.channels))
    return scales


def clip_limits(layers: list[Layer], model: ModelSettings) -> dict[str, np.float32]:
    """H of each parameter that is clipped to +-H after an update, by name; weights that are centered first are not
    among them."""
    limits, untouched = weight_limits(layers, model), frozen(layers)
    found: dict[str, np.float32] = {}
    for layer in (layer for layer in layers if layer.quantized):
        trained = [name for name in layer.differentiated if name not in untouched]
        names = trained if model.clipped == "all" else [name for name in trained if name == layer.weight]
        names = [name for name in names if name != layer.weight or model.weight_centering == "none"]
        found |= dict.fromkeys(names, limits[layer.weight])
    return found


def least_gammas(layers: list[Layer], model: ModelSettings) -> dict[str, np.float32]:
    """What each gamma is raised to after an update if it is less, by name."""
    names = [name for layer in layers for name in layer.differentiated if name.endswith(".gamma")]
    return dict.fromkeys(names, np.float32(model.least_gamma)) if model.least_gamma else {}


def frozen(layers: list[Layer]) -> set[str]:
    """Names of the parameters that are not updated."""
    return {name for layer in layers if not layer.trained for name in (layer.weight, layer.bias)}


class Penalty(NamedTuple):
    """What is added to a parameter's gradient: `decay` times the parameter, `quantized` times its quantized weights."""

    decay: float
    quantized: float


def penalties(layers: list[Layer], model: ModelSettings) -> dict[str, Penalty]:
    """The penalty of each parameter that has one, by name: see `ModelSettings`, "Update"."""
    found: dict[str, Penalty] = {}
    for layer in layers:
        for name in layer.differentiated:
            decay, quantized = model.weight_decay, 0.0
            if name == layer.weight:
                decay += 2 * model.l2_dense if isinstance(layer.shape.layer, Dense) else 0.0
                quantized -= 2 * model.binary_regularization if layer.quantized else 0.0
            if decay or quantized:
                found[name] = Penalty(decay, quantized)
    return found
