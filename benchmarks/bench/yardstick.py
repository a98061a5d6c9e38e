"""What the plain networks can train, yardsticks of an engine's speed that are made of its framework's own layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from benchmarks.errors import EngineError

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# The values of settings that a plain network follows; None stands for any.
Known = dict[str, tuple[str, ...] | None]
# Settings that any of them follows, or that have no part in a training step.
_ANY: Known = dict.fromkeys(
    (
        *("architecture", "evaluation_weights", "weight_limit", "lr_scale"),
        *("batch_norm_alpha", "batch_norm_epsilon", "max_pool_gradient"),
    )
)


# Engine name -> what the plain network in its framework knows.
_KNOWN: dict[str, Known] = {
    "gluon": _ANY
    | {
        "activation": ("relu",),
        "weights": ("deterministic", "stochastic"),
        "batch_norm": ("binaryconnect", "lasagne", "torch"),
        "loss": ("squared_hinge",),
        "optimizer": ("adam",),
    },
    "torch": _ANY
    | {
        "activation": ("relu", "binary_tanh"),
        "weights": ("deterministic", "stochastic", "real"),
        "batch_norm": ("binaryconnect", "lasagne", "shift", "torch"),
        "loss": ("squared_hinge",),
        "optimizer": ("adam", "sgd"),
        "dropout_input": None,
        "dropout_hidden": None,
    },
}


def check_known(engine: str, model: ModelSettings) -> None:
    """Raise EngineError for a recipe that an engine's plain network would not train as it is; imports no framework.

    Settings at their defaults need not be known.
    """
    for name, value in msgspec.to_builtins(model).items():  # settings at their default are left out
        values = _KNOWN[engine].get(name, ())
        if values is not None and value not in values:
            raise EngineError(f"--baseline: the plain network does not know model.{name}={value}")
    if engine == "gluon" and not isinstance(model.weight_limit, float):
        raise EngineError("--baseline: the plain network has one weight limit for all layers")
