"""The MXNet Gluon engine. Importing this module is light; `open` imports mxnet once the number of threads is set."""

from __future__ import annotations

import importlib.metadata
import math
import os
import sys
from builtins import open as open_file
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import parameters as parameter_rules
from benchmarks.engine import Engine, epoch_batches
from benchmarks.errors import EngineError
from benchmarks.machine import cpu_model, usable_cores
from benchmarks.networks import NETWORKS

if TYPE_CHECKING:
    from benchmarks.augmentation import Crops
    from benchmarks.parameters import Mask, Thresholds
    from benchmarks.recipe import ModelSettings
    from bnn_gluon.network import Drawn
    from bnn_gluon.quantize import Draw

# The GPU builds of MXNet 1.9.1 (mxnet-cu112, -cu116, -cu117) hold machine code for these and no PTX to compile for
# others.
GPU_CAPABILITIES = "5.0, 6.0, 7.0, 8.0 and 8.6 (Maxwell to Ada)"


def open(
    model: ModelSettings, input_shape: tuple[int, ...], seed: int, device: str = "cpu", threads: int | None = None
) -> Engine:
    """Open the engine: see `benchmarks.engine.open_engine`."""
    if device != "cpu":
        raise EngineError(
            "device 'gpu': the installed mxnet has no GPU code, and its GPU builds run only on NVIDIA GPUs of compute"
            f" capability {GPU_CAPABILITIES}, not on Hopper or Blackwell; use --device cpu"
        )
    threads = threads or usable_cores()
    try:
        _set_threads(threads)
        _import_mxnet()
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise EngineError(f"mxnet cannot be loaded ({error}): `python cli.py doctor` says what is missing") from error
    if model.architecture in NETWORKS:
        from bnn_gluon.zoo import ZooEngine

        return ZooEngine(model, input_shape, seed, threads)
    return GluonEngine(model, input_shape, seed, threads)


def _set_threads(threads: int) -> None:
    """Fix the number of threads. MXNet reads it once, when it is imported; numba shares its OpenMP pool."""
    already = os.environ.get("OMP_NUM_THREADS")
    if "mxnet" in sys.modules and already != str(threads):
        raise EngineError(f"mxnet already runs with {already} threads in this process: cannot change them to {threads}")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("NUMBA_THREADING_LAYER", "omp")
    os.environ.setdefault("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "0")
    import numba

    if threads > numba.config.NUMBA_NUM_THREADS:
        raise EngineError(
            f"threads={threads}: expected at most {numba.config.NUMBA_NUM_THREADS}, the cores of this machine"
        )
    numba.set_num_threads(threads)


def _import_mxnet() -> None:
    """Import mxnet so that it computes in the thread that asks.

    By default a thread of its own computes, whose OpenMP threads then spin for the cores with those of numba: a step of
    binaryconnect-mnist took 1.2 times as long. MXNet announces any other engine on the standard error stream.
    """
    os.environ["MXNET_ENGINE_TYPE"] = "NaiveEngine"
    with open_file(os.devnull, "wb") as nowhere:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            import mxnet  # only now that the number of threads is set

            mxnet.nd.waitall()  # starts it
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class GluonEngine:
    """One network with its training rule on the CPU: see `benchmarks.engine.Engine`.

    The network's weights are the binary ones; the real-valued weights and the optimiser's moments are NumPy arrays, and
    the next step's binary weights are written straight into the network's memory. An evaluation borrows the network: it
    writes the weights that it wants and afterwards those of the coming step, which can be drawn again.
    """

    def __init__(self, model: ModelSettings, input_shape: tuple[int, ...], seed: int, threads: int) -> None:
        import mxnet

        from bnn_gluon import losses, memory, network, optimizers, quantize

        self._mx, self._quantize, self._view = mxnet, quantize, memory.view
        self._loss_and_gradient, self._add_penalty = losses.loss_and_gradient, optimizers.add_penalty
        self._drawn_of = network.Drawn
        self._model, self._threads = model, threads
        self._rule = optimizers.rule_of(model)
        self._key = (np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF))
        self._layers = parameter_rules.layers_of(model, input_shape)
        self._draws, self._draw_buffers = parameter_rules.draws_of(self._layers, model), dict[int, np.ndarray]()
        self._network = network.Network(self._layers, model)
        self._parameters, self._running = self._network.parameters, self._network.running
        self._names = [name for layer in self._layers for name in layer.parameters]
        self._lr_scales, self._penalties = parameter_rules.lr_scales(self._layers, model), self._penalties_by_name()
        self._limits, self._clipped = (
            f(self._layers, model) for f in (parameter_rules.weight_limits, parameter_rules.clip_limits)
        )
        self._frozen = parameter_rules.frozen(self._layers)
        self._moments = {
            name: [np.zeros(math.prod(parameter.shape), np.float32) for _ in self._rule.moments]
            for name, parameter in self._parameters.items()
        }
        # Real-valued weights of the layers that are quantised; the network holds what they are quantised to.
        self._weights = {
            layer.weight: np.empty(math.prod(layer.weight_shape), np.float32)
            for layer in self._layers
            if layer.quantised
        }
        self._step = 0  # updates done
        self._epoch_batch_size: int | None = None  # in an epoch; the last batch may be smaller
        self.load_parameters(parameter_rules.initial_values(self._layers, model, seed))

    def _penalties_by_name(self) -> dict[str, tuple[np.float32, np.float32]]:
        found = parameter_rules.penalties(self._layers, self._model)
        return {name: (np.float32(penalty.decay), np.float32(penalty.quantised)) for name, penalty in found.items()}

    # -- parameters and state ------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        values = {name: parameter.data().asnumpy() for name, parameter in self._parameters.items()}
        values |= {name: value.reshape(self._parameters[name].shape).copy() for name, value in self._weights.items()}
        values |= {name: value.copy() for name, value in self._running.items()}
        return {name: values[name] for name in self._names}

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        if set(parameters) != set(self._names):
            raise ValueError(f"parameters: expected {sorted(self._names)}, found {sorted(parameters)}")
        for name in self._names:
            shape = self._running[name].shape if name in self._running else self._parameters[name].shape
            if np.shape(parameters[name]) != shape:
                raise ValueError(f"{name}: expected shape {shape}, found {np.shape(parameters[name])}")
        for name, value in parameters.items():
            own = self._weights.get(name, self._running.get(name))
            if own is not None:
                own[:] = np.asarray(value, np.float32).reshape(-1)
            else:
                self._set(name, value)
        self._quantise()

    def state(self) -> dict[str, np.ndarray]:
        state = {f"parameters/{name}": value for name, value in self.parameters().items()}
        state |= {key: value.copy() for key, value in self._named_moments().items()}
        state["step"] = np.array(self._step, np.int64)
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._step = int(state["step"])
        for key, value in self._named_moments().items():
            value[:] = np.reshape(state[key], -1)
        self.load_parameters({name: state[f"parameters/{name}"] for name in self._names})

    def _named_moments(self) -> dict[str, np.ndarray]:
        """The optimiser's moments as {"adam_mean/dense1.weight": float32 (n,), ...}."""
        return {
            f"{self._model.optimizer}_{moment}/{name}": value
            for name, values in self._moments.items()
            for moment, value in zip(self._rule.moments, values, strict=True)
        }

    def describe(self) -> dict[str, object]:
        features = self._mx.runtime.Features()
        return {
            "name": "gluon",
            "device": "cpu",
            "device_name": cpu_model(),
            "threads": self._threads,
            "precision": "float32",
            "versions": {name: importlib.metadata.version(name) for name in ("mxnet", "numpy", "numba")},
            "features": sorted(name for name in features if features.is_enabled(name)),
            "driver": None,
            "determinism": {
                "bit_exact_resume": True,
                "max_pool_gradient": f"{self._model.max_pool_gradient} of tied maxima",
            },
        }

    # -- training ------------------------------------------------------------------------------------------------------

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, lr: float, uniforms: Mapping[str, np.ndarray] | None = None
    ) -> float:
        if uniforms is not None:
            self._quantise(uniforms)
        divisor = self._epoch_batch_size or len(images)

        def loss_and_gradient(scores: np.ndarray) -> tuple[float, np.ndarray]:
            divided = divisor if self._model.loss_divisor == "batch_size" else 1
            return self._loss_and_gradient(self._model.loss, scores, labels, divided)

        loss = self._network.step(images, loss_and_gradient, self._drawn(len(images)))
        self._update_parameters(lr)
        return loss

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: parameter.grad().asnumpy() for name, parameter in self._parameters.items()}

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
        losses = []
        self._epoch_batch_size = batch_size
        try:
            for batch in epoch_batches(images, labels, order, batch_size, crops, keep_remainder):
                losses.append(float(np.float32(self.train_step(*batch, lr))))
                if on_batch is not None:
                    on_batch(len(losses), losses[-1])
        finally:
            self._epoch_batch_size = None
        return np.array(losses, np.float32)

    def _update_parameters(self, lr: float) -> None:
        self._step += 1
        step_size = self._rule.step_size(lr, self._step)
        for name, parameter in self._parameters.items():
            if name not in self._frozen:
                self._update_parameter(name, self._view(parameter.data()), self._view(parameter.grad()), step_size)
        self._quantise()

    def _update_parameter(self, name: str, used: np.ndarray, gradient: np.ndarray, step_size: np.float32) -> None:
        value = self._weights.get(name, used)
        if name in self._penalties:
            gradient = gradient.copy()  # `gradients` tells that of the loss alone
            self._add_penalty(gradient, value, used, *self._penalties[name])
        scaled = step_size * self._lr_scales.get(name, np.float32(1))
        limit = self._clipped.get(name, np.float32(np.inf))
        self._rule.update(value, gradient, self._moments[name], scaled, limit, self._step)

    # -- random draws and quantised weights ----------------------------------------------------------------------------

    def _draw(self, tensor: int, step: int) -> Draw:
        """Which random draw it is: tensor number, step, and the seed's two halves."""
        return np.uint32(tensor), np.uint32(step), *self._key

    def _drawn(self, batch: int) -> list[Drawn]:
        """What is drawn for the coming step, layer by layer; made over by the next."""
        drawn: dict[int, np.ndarray] = {}  # by tensor: layers may share a mask

        def values_of(draw: Mask | Thresholds | None) -> np.ndarray | None:
            if draw is None:
                return None
            if draw.tensor not in drawn:
                drawn[draw.tensor] = self._draw_values(draw, batch)
            return drawn[draw.tensor]

        return [self._drawn_of(*map(values_of, draws)) for draws in self._draws]

    def _draw_values(self, draw: Mask | Thresholds, batch: int) -> np.ndarray:
        size = batch * math.prod(draw.shape)
        values = self._draw_buffers.get(draw.tensor)
        if values is None or values.size != size:
            values = self._draw_buffers[draw.tensor] = np.empty(size, np.float32)
        numbers = self._draw(draw.tensor, self._step + 1)
        if isinstance(draw, parameter_rules.Mask):
            self._quantize.draw_dropout_mask(draw.keep, draw.scale, *numbers, values)
        else:
            self._quantize.draw_thresholds(*numbers, values)
        return values

    def _quantise(self, uniforms: Mapping[str, np.ndarray] | None = None) -> None:
        """Set the weights that the coming step uses, drawn with `uniforms` if given."""
        self._mx.nd.waitall()
        zero_weight = self._model.zero_weight
        for tensor, layer in enumerate(self._layers):
            if not layer.quantised:
                continue
            weights, used = self._weights[layer.weight], self._view(self._parameters[layer.weight].data())
            limit = self._limits[layer.weight]
            if uniforms is not None and layer.weights == "stochastic":
                drawn = np.ascontiguousarray(uniforms[layer.weight], np.float32).reshape(-1)
                self._quantize.compare_with_uniforms(weights, limit, drawn, used)
            else:
                draw = self._draw(tensor, self._step + 1)
                self._quantize.quantise(layer.weights, zero_weight, weights, limit, draw, used)

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        scores = []
        try:
            for number, start in enumerate(range(0, len(images), batch_size), 1):
                if number == 1 or self._model.evaluation_weights == "stochastic":
                    self._write_evaluation_weights(number)
                scores.append(self._network.scores(images[start : start + batch_size]))
        finally:
            self._quantise()
        return np.concatenate(scores)

    def _write_evaluation_weights(self, batch_number: int) -> None:
        """Set the weights that the evaluation of a batch, from 1, uses."""
        self._mx.nd.waitall()
        for position, layer in enumerate(self._layers):
            if not layer.quantised:
                continue
            weights, used = self._weights[layer.weight], self._view(self._parameters[layer.weight].data())
            if self._model.evaluation_weights == "real":
                used[:] = weights
                continue
            word = layer.weights
            if word == "stochastic" and self._model.evaluation_weights == "binary":
                word = "deterministic"
            draw = self._draw(parameter_rules.EVALUATION_WEIGHTS + position, batch_number)
            limit = self._limits[layer.weight]
            self._quantize.quantise(word, self._model.zero_weight, weights, limit, draw, used)

    def _set(self, name: str, value: np.ndarray) -> None:
        parameter = self._parameters[name]
        parameter.set_data(self._mx.nd.array(np.reshape(value, parameter.shape), dtype="float32"))
