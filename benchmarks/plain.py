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
ANY: Known = dict.fromkeys(
    (
        *("architecture", "evaluation_weights", "weight_limit", "lr_scale"),
        *("batch_norm_alpha", "batch_norm_epsilon", "max_pool_gradient"),
    )
)


def check_known(model: ModelSettings, known: Known) -> None:
    """Raise EngineError for a recipe that a plain network would not train as it is; defaults need not be known."""
    for name, value in msgspec.to_builtins(model).items():  # settings at their default are left out
        values = known.get(name, ())
        if values is not None and value not in values:
            raise EngineError(f"--baseline: the plain network does not know model.{name}={value}")
