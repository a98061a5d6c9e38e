"""What an engine is, and how one is opened: the only door through which the rest of the house reaches a framework."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from benchmarks.errors import EngineError

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.recipe import ModelSettings

# Engine name -> module with open(model, input_shape, seed, device, threads); imported only when opened.
ENGINES = {"gluon": "bnn_gluon.engine"}
DEVICES = ("cpu", "gpu")


class Engine(Protocol):
    """A network with its training rule on one device.

    Images are float32 (N, channels, rows, columns), labels int (N,).
    """

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by name: "dense1.weight" float32 (out, in), real-valued, "dense1.bias" (out,),
        "bn1.gamma", "bn1.beta" and the running statistics (channels,); layers are numbered from 1 in network order."""

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Set all parameters; the optimiser's state is kept.

        Raises:
            ValueError: a name missing or unknown, or another shape.
        """

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, lr: float, uniforms: Mapping[str, np.ndarray] | None = None
    ) -> float:
        """One minibatch, one update; returns its loss before the update.

        `uniforms` gives the uniform draws in [0, 1) of each stochastic weight instead of the engine's own, by parameter
        name.
        """

    def gradients(self) -> dict[str, np.ndarray]:
        """Gradients of the last `train_step`; those of weights are with respect to the binary weights that it used."""

    def train_epoch(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        batch_size: int,
        lr: float,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> np.ndarray:
        """Train on images[order] in batches, a last partial batch dropped: as `train_step` batch by batch, but faster.

        Returns the loss of every batch, float32 (len(order) // batch_size,). `on_batch(done, loss)` is called after
        each.
        """

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Network outputs in evaluation mode, float32 (N, classes)."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a bit-exact continuation needs, as named arrays; copies."""

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`."""

    def describe(self) -> dict[str, object]:
        """What computes, as `results.record.Engine` has it."""


def open_engine(
    name: str,
    model: ModelSettings,
    input_shape: tuple[int, ...],
    seed: int,
    device: str = "cpu",
    threads: int | None = None,
) -> Engine:
    """Open an engine with freshly initialised parameters.

    Args:
        name: one of ENGINES.
        model: network and training rule.
        input_shape: of one image, (channels, rows, columns).
        seed: of initialisation and of every random draw of training.
        device: "cpu" or "gpu".
        threads: CPU threads; the number of usable cores if None.

    Raises:
        EngineError: unknown engine, one that is not installed, or a device that it cannot use.
    """
    if name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}: expected {' or '.join(ENGINES)}")
    try:
        module = importlib.import_module(ENGINES[name])
    except ImportError as error:
        raise EngineError(
            f"engine {name!r} is not installed ({error}): run `python -m pip install -r requirements.txt`"
        ) from error
    engine: Engine = module.open(model, input_shape, seed, device, threads)
    return engine
