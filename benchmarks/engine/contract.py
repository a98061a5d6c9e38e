"""What every engine must do, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.engine.augmentation import Crops


class Engine(Protocol):
    """A network with its training rule on one device.

    Images are float32 (N, channels, rows, columns), labels int (N,). An engine may keep what it is given on its device,
    and take it from there when it is given the same object again: do not change arrays in place between calls.
    """

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by name: "dense1.weight" float32 (out, in), real-valued, "dense1.bias" (out,),
        "bn1.gamma", "bn1.beta" and the running statistics (channels,); layers are numbered from 1 in network order.
        "dense1.scale" (1,) or (out,) is the size of quantized weights, in the coming step and in evaluation, of layers
        that have one, or one a filter."""

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Set all parameters; the optimizer's state is kept.

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
        *,
        crops: Crops | None = None,
        keep_remainder: bool = False,
    ) -> np.ndarray:
        """Train on images[order], changed by `crops`, as `train_step` batch by batch, but faster.

        Images that do not fill a last batch are dropped, or make a smaller one with `keep_remainder`. Returns the loss
        of every batch, float32 (batches,). `on_batch(done, loss)` tells how many
        batches are done and the loss of the last of them: after each batch on a CPU; on a GPU, which is not stopped to
        be asked, now and then and after the last.
        """

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Network outputs in evaluation mode, float32 (N, classes)."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a bit-exact continuation needs, as named arrays; copies."""

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`."""

    def describe(self) -> dict[str, object]:
        """What computes, as `results.record.Engine` has it."""


def epoch_batches(
    images: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    batch_size: int,
    crops: Crops | None = None,
    keep_remainder: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of each batch of an epoch, made as they are asked for: see `Engine.train_epoch`."""
    end = len(order) if keep_remainder else len(order) // batch_size * batch_size
    for start in range(0, end, batch_size):
        part = slice(start, min(start + batch_size, end))
        batch = images[order[part]]
        yield batch if crops is None else crops[part].apply(batch), labels[order[part]]
