"""The base of `trainer.GluonEngine` and `zoo.ZooEngine`: parameters by name, the update, epochs, the optimizer's state.

Import this module only once the number of threads is set: see `bnn_gluon.engine.open`.
"""

from __future__ import annotations

import importlib.metadata
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import mxnet
import numpy as np

from benchmarks.engine import epoch_batches
from benchmarks.engine.layers import check_parameters
from benchmarks.engine.updates import Penalty, rule_of, update_of
from benchmarks.machine import environment
from benchmarks.machine.facts import Gpu, cpu_model, nvidia_gpus
from benchmarks.machine.waiting import waiting
from bnn_gluon.kernels import choice
from bnn_gluon.memory import view
from bnn_gluon.update import NO_LIMIT, UPDATES, add_penalty

if TYPE_CHECKING:
    from benchmarks.engine.augmentation import Crops
    from benchmarks.recipe import ModelSettings

_UNSCALED = np.float32(1)


class UpdateSettings(NamedTuple):
    """What distinguishes parameters in an update, by name; functions of `benchmarks.engine.updates` make them."""

    penalties: Mapping[str, Penalty]
    lr_scales: Mapping[str, np.float32]
    clip_limits: Mapping[str, np.float32]
    frozen: Collection[str]
    least_gammas: Mapping[str, np.float32]


class BaseEngine(ABC):
    """A network with its training rule: see `benchmarks.engine.Engine`."""

    def __init__(
        self,
        model: ModelSettings,
        threads: int,
        gpu: Any | None,
        shapes: Mapping[str, tuple[int, ...]],
        differentiated: Mapping[str, Any],
        real: dict[str, np.ndarray],
        settings: UpdateSettings,
    ) -> None:
        """Without values: to be followed by `load_parameters`.

        Args:
            model: network and training rule.
            threads: already set.
            gpu: MXNet's context of the GPU that it uses, if it uses one.
            shapes: of all parameters, by name, in order.
            differentiated: Gluon's parameters with gradients, in the memory of the host, by name.
            real: real-valued weights of those of them that hold quantized ones, float32 (n,), by name.
            settings: of the update.
        """
        self._model, self._threads, self._gpu, self._shapes = model, threads, gpu, dict(shapes)
        self._waiting = waiting(threads)
        self._chosen_kernels = [] if choice.compiled() else [f"{choice.VARIABLE}={choice.chosen()}"]
        self._differentiated, self._real, self._settings = differentiated, real, settings
        self._rule, self._update = rule_of(model), update_of(model, UPDATES)
        self._moments = {
            name: [np.zeros(math.prod(shapes[name]), np.float32) for _ in self._rule.moments] for name in differentiated
        }
        self._step = 0  # updates done
        self._epoch_batch_size: int | None = None  # in an epoch; the last batch may be smaller

    # -- parameters and state ------------------------------------------------------------------------------------------

    @abstractmethod
    def parameters(self) -> dict[str, np.ndarray]: ...

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        check_parameters(parameters, self._shapes)
        self._set_parameters(parameters)

    @abstractmethod
    def _set_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Set all parameters; names and shapes are right."""

    def state(self) -> dict[str, np.ndarray]:
        state = {f"parameters/{name}": value for name, value in self.parameters().items()}
        state |= {key: value.copy() for key, value in self._named_moments().items()}
        state["step"] = np.array(self._step, np.int64)
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._step = int(state["step"])
        for key, value in self._named_moments().items():
            value[:] = np.reshape(state[key], -1)
        self.load_parameters({name: state[f"parameters/{name}"] for name in self._shapes})

    def _named_moments(self) -> dict[str, np.ndarray]:
        """The optimizer's moments as {"adam_mean/dense1.weight": float32 (n,), ...}."""
        return {
            f"{self._model.optimizer}_{moment}/{name}": value
            for name, values in self._moments.items()
            for moment, value in zip(self._rule.moments, values, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        features = mxnet.runtime.Features()
        gpu = None if self._gpu is None else (nvidia_gpus() or [Gpu("unknown", "unknown", "unknown")])[0]
        return {
            "name": "gluon",
            "device": "cpu" if gpu is None else "gpu",
            "device_name": cpu_model() if gpu is None else gpu.name,
            "threads": self._threads,
            "precision": "float32",
            "versions": {"mxnet": mxnet.__version__} | {n: importlib.metadata.version(n) for n in ("numpy", "numba")},
            "features": sorted([*(name for name in features if features.is_enabled(name)), *self._chosen_kernels]),
            "driver": None if gpu is None else gpu.driver,
            "determinism": {
                "bit_exact_resume": True if gpu is None else "on the same GPU and driver",
                **environment.bit_factors(),
            },
        }

    # -- training ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def train_step(
        self, images: np.ndarray, labels: np.ndarray, lr: float, uniforms: Mapping[str, np.ndarray] | None = None
    ) -> float: ...

    @abstractmethod
    def _begin_epoch(self) -> None:
        """What is done before the first step of an epoch."""

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: parameter.grad().asnumpy() for name, parameter in self._differentiated.items()}

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
        losses: list[float] = []
        self._begin_epoch()
        self._epoch_batch_size = batch_size
        try:
            for batch in epoch_batches(images, labels, order, batch_size, crops, keep_remainder):
                self._waiting.adapt()
                losses.append(float(np.float32(self.train_step(*batch, lr))))
                if on_batch is not None:
                    on_batch(len(losses), losses[-1])
        finally:
            self._epoch_batch_size = None
        return np.array(losses, np.float32)

    def _update_parameters(self, lr: float) -> None:
        """Update number `_step`, by the gradients that the network holds."""
        self._step += 1
        sizes = self._rule.sizes(lr, self._step)
        for name, parameter in self._differentiated.items():
            if name not in self._settings.frozen:
                self._update_parameter(name, view(parameter.data()), view(parameter.grad()), *sizes)

    def _update_parameter(
        self, name: str, used: np.ndarray, gradient: np.ndarray, step_size: np.float32, *sizes: np.float32
    ) -> None:
        value, settings = self._real.get(name, used), self._settings
        if name in settings.penalties:
            gradient = gradient.copy()  # `gradients` tells that of the loss alone
            add_penalty(gradient, value, used, *map(np.float32, settings.penalties[name]))
        limit = settings.clip_limits.get(name, NO_LIMIT)
        scaled = step_size * settings.lr_scales.get(name, _UNSCALED)
        self._update(value, gradient, *self._moments[name], limit, scaled, *sizes)
        if name in settings.least_gammas:
            np.maximum(value, settings.least_gammas[name], out=value)

    # -- evaluation ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray: ...
