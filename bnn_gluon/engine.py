"""The MXNet Gluon engine. Importing this module is light; `open` imports mxnet once the number of threads is set."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.architecture import Conv, LayerShape, MaxPool, layer_shapes, parse_architecture
from benchmarks.errors import EngineError
from benchmarks.machine import cpu_model, usable_cores

if TYPE_CHECKING:
    import mxnet as mx

    from benchmarks.recipe import ModelSettings

# The GPU builds of MXNet 1.9.1 (mxnet-cu112, -cu116, -cu117) hold machine code for these and no PTX to compile for
# others.
GPU_CAPABILITIES = "5.0, 6.0, 7.0, 8.0 and 8.6 (Maxwell to Ada)"


def open(
    model: ModelSettings, input_shape: tuple[int, ...], seed: int, device: str = "cpu", threads: int | None = None
) -> GluonEngine:
    """Open the engine: see `benchmarks.engine.open_engine`."""
    if device != "cpu":
        raise EngineError(
            "device 'gpu': the installed mxnet has no GPU code, and its GPU builds run only on NVIDIA GPUs of compute"
            f" capability {GPU_CAPABILITIES}, not on Hopper or Blackwell; use --device cpu"
        )
    threads = threads or usable_cores()
    _set_threads(threads)
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


class GluonEngine:
    """One network with its training rule on the CPU: see `benchmarks.engine.Engine`.

    The training network's weights are the binary ones; the real-valued weights and Adam's moments are NumPy arrays, and
    the update writes the next step's binary weights straight into the network's memory. Evaluation has a network of its
    own, because MXNet may rearrange the weights of a network that it evaluates.
    """

    def __init__(self, model: ModelSettings, input_shape: tuple[int, ...], seed: int, threads: int) -> None:
        import mxnet

        from bnn_gluon import network, optimizers, quantize

        self._mx, self._optimizers, self._quantize = mxnet, optimizers, quantize
        self._model, self._threads = model, threads
        self._limit = np.float32(model.weight_limit)
        self._key = (np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF))
        shapes = layer_shapes(parse_architecture(model.architecture), input_shape)
        self._classes = np.arange(shapes[-1].output_shape[0])
        training = network.Network(shapes, model, training=True)
        evaluation = network.Network(shapes, model, training=False)
        self._loss, self._evaluate = network.TrainingLoss(training), evaluation
        for block in (self._loss, self._evaluate):
            block.initialize(mxnet.init.Zero())
            block.hybridize(static_alloc=True, static_shape=True)
        self._training_parameters = _named_parameters(training)
        self._evaluation_parameters = _named_parameters(evaluation)
        self._lr_scales = _lr_scales(shapes, model)
        self._weights = self._initial_weights(seed)
        self._running = {
            name: np.full(_size(parameter), float(name.endswith("running_std")), np.float32)
            for name, parameter in self._evaluation_parameters.items()
            if ".running_" in name
        }
        self._adam_mean = self._zeros_like_trained()
        self._adam_square = self._zeros_like_trained()
        self._step = 0  # updates done
        for name, parameter in self._training_parameters.items():
            if name.endswith(".gamma"):
                parameter.set_data(mxnet.nd.ones(parameter.shape))
        self._binarize()

    def _initial_weights(self, seed: int) -> dict[str, np.ndarray]:
        """W ~ uniform(-H, H), whatever the layer's size; binary_connect.py: lasagne.init.Uniform((-H, H))."""
        generator = np.random.Generator(np.random.PCG64(seed))
        return {
            name: generator.uniform(-self._limit, self._limit, _size(self._training_parameters[name])).astype(
                np.float32
            )
            for name in self._lr_scales
        }

    def _zeros_like_trained(self) -> dict[str, np.ndarray]:
        return {name: np.zeros(_size(parameter), np.float32) for name, parameter in self._training_parameters.items()}

    # -- parameters and state ------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        values = {name: parameter.data().asnumpy() for name, parameter in self._training_parameters.items()}
        values |= {name: value.copy() for name, value in (self._weights | self._running).items()}
        return {
            name: values[name].reshape(_public_shape(name, parameter))
            for name, parameter in self._evaluation_parameters.items()
        }

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        if set(parameters) != set(self._evaluation_parameters):
            raise ValueError(f"parameters: expected {sorted(self._evaluation_parameters)}, found {sorted(parameters)}")
        for name, parameter in self._evaluation_parameters.items():
            if np.shape(parameters[name]) != _public_shape(name, parameter):
                raise ValueError(
                    f"{name}: expected shape {_public_shape(name, parameter)}, found {np.shape(parameters[name])}"
                )
        for name, value in parameters.items():
            own = self._weights.get(name, self._running.get(name))
            if own is not None:
                own[:] = np.asarray(value, np.float32).reshape(-1)
            else:
                self._set(self._training_parameters[name], value)
        self._binarize()

    def state(self) -> dict[str, np.ndarray]:
        state = {f"parameters/{name}": value for name, value in self.parameters().items()}
        state |= {f"adam_mean/{name}": value.copy() for name, value in self._adam_mean.items()}
        state |= {f"adam_square/{name}": value.copy() for name, value in self._adam_square.items()}
        state["step"] = np.array(self._step, np.int64)
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._step = int(state["step"])
        for name in self._training_parameters:
            self._adam_mean[name][:] = np.reshape(state[f"adam_mean/{name}"], -1)
            self._adam_square[name][:] = np.reshape(state[f"adam_square/{name}"], -1)
        self.load_parameters({name: state[f"parameters/{name}"] for name in self._evaluation_parameters})

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
            "determinism": {"bit_exact_resume": True, "max_pool_gradient": "first of tied maxima"},
        }

    # -- training ------------------------------------------------------------------------------------------------------

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, lr: float, uniforms: Mapping[str, np.ndarray] | None = None
    ) -> float:
        if uniforms is not None:
            self._binarize(uniforms)
        nd = self._mx.nd
        with self._mx.autograd.record():
            loss, *statistics = self._loss(
                nd.array(images, dtype="float32"), nd.array(self._targets(labels), dtype="float32")
            )
        loss.backward()
        nd.waitall()  # from here on NumPy reads the gradients and writes the weights
        self._update_running_statistics(statistics)
        self._update_parameters(lr)
        return float(loss.asscalar())

    def gradients(self) -> dict[str, np.ndarray]:
        return {
            name: parameter.grad().asnumpy().reshape(_public_shape(name, parameter))
            for name, parameter in self._training_parameters.items()
        }

    def train_epoch(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        batch_size: int,
        lr: float,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> np.ndarray:
        batches = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
        losses = np.empty(len(batches), np.float32)
        for number, batch in enumerate(batches):
            losses[number] = self.train_step(images[batch], labels[batch], lr)
            if on_batch is not None:
                on_batch(number + 1, float(losses[number]))
        return losses

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        """Labels (N,) as +1 for the class and -1 for the others, float32 (N, classes)."""
        return np.where(np.asarray(labels)[:, None] == self._classes, np.float32(1), np.float32(-1))

    def _update_running_statistics(self, statistics: list[Any]) -> None:
        """running <- (1 - alpha) running + alpha * batch value, for mean and std of each batch normalisation."""
        alpha = np.float32(self._model.batch_norm_alpha)
        for name, batch in zip(self._running, statistics, strict=True):
            self._running[name] = (np.float32(1) - alpha) * self._running[name] + alpha * batch.asnumpy().reshape(-1)

    def _update_parameters(self, lr: float) -> None:
        self._step += 1
        step_size = self._optimizers.adam_step_size(lr, self._step)
        for name, parameter in self._training_parameters.items():
            gradient, moments = _memory(parameter.grad()), (self._adam_mean[name], self._adam_square[name])
            if name not in self._weights:
                self._optimizers.adam(_memory(parameter.data()), gradient, *moments, step_size)
                continue
            update = (self._weights[name], gradient, *moments, step_size * self._lr_scales[name], self._limit)
            binary = _memory(parameter.data())
            if self._model.weights == "stochastic":
                self._optimizers.adam_clip_binarize_stochastic(*update, *self._draw(name), binary)
            else:
                self._optimizers.adam_clip_binarize_deterministic(*update, binary)

    # -- binary weights ------------------------------------------------------------------------------------------------

    def _draw(self, name: str) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
        """Which random draw gives the coming step's binary weights: tensor number, step, the seed's two halves."""
        tensor = list(self._weights).index(name)
        return np.uint32(tensor), np.uint32(self._step + 1), *self._key

    def _binarize(self, uniforms: Mapping[str, np.ndarray] | None = None) -> None:
        """Set the training network's weights for the coming step, from `uniforms` if given."""
        self._mx.nd.waitall()
        for name, weights in self._weights.items():
            binary = _memory(self._training_parameters[name].data())
            if self._model.weights == "deterministic":
                self._quantize.binarize_deterministic(weights, self._limit, binary)
            elif uniforms is None:
                self._quantize.binarize_stochastic(weights, self._limit, *self._draw(name), binary)
            else:
                drawn = np.ascontiguousarray(uniforms[name], np.float32).reshape(-1)
                self._quantize.compare_with_uniforms(weights, self._limit, drawn, binary)

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        parameters = self.parameters()
        if self._model.evaluation_weights == "binary":
            for name, weights in self._weights.items():
                self._quantize.binarize_deterministic(weights, self._limit, parameters[name].reshape(-1))
        for name, value in parameters.items():
            self._set(self._evaluation_parameters[name], value)
        batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
        return np.concatenate(
            [self._evaluate(self._mx.nd.array(batch, dtype="float32")).asnumpy() for batch in batches]
        )

    def _set(self, parameter: Any, value: np.ndarray) -> None:
        parameter.set_data(self._mx.nd.array(np.reshape(value, parameter.shape), dtype="float32"))


def _named_parameters(network: Any) -> dict[str, Any]:
    """Gluon's parameters by the house's names: "dense1_weight" is "dense1.weight"."""
    return {name.replace("_", ".", 1): parameter for name, parameter in network.collect_params().items()}


def _size(parameter: Any) -> int:
    return int(np.prod(parameter.shape))


def _public_shape(name: str, parameter: Any) -> tuple[int, ...]:
    """Weights as Gluon has them, (out, in) or (out, in, rows, columns); all else (channels,)."""
    return tuple(parameter.shape) if name.endswith(".weight") else (_size(parameter),)


def _memory(array: mx.nd.NDArray) -> np.ndarray:
    """A flat, writable NumPy view of an NDArray's memory, float32.

    MXNet does not know of what is written there, so nothing that reads or writes the array may be pending. The address
    is asked for each time: MXNet may move an array, or hand a gradient out in another layout, which asking undoes.
    """
    from mxnet.base import _LIB, check_call

    pointer = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), shape=(array.size,))


def _lr_scales(shapes: list[LayerShape], model: ModelSettings) -> dict[str, np.float32]:
    """Learning-rate scale of each weight by name, in network order: 1 / Glorot's initialisation limit.

    Source: binary_connect.py, W_LR_scale = float32(1 / sqrt(1.5 / (fan_in + fan_out))).
    """
    scales = {}
    counts = {"conv": 0, "dense": 0}
    for shape in shapes:
        if isinstance(shape.layer, MaxPool):
            continue
        kind = "conv" if isinstance(shape.layer, Conv) else "dense"
        counts[kind] += 1
        scale = 1.0 if model.lr_scale == "none" else 1 / np.sqrt(1.5 / (shape.fan_in + shape.fan_out))
        scales[f"{kind}{counts[kind]}.weight"] = np.float32(scale)
    return scales
