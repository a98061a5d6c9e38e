"""The MXNet Gluon engine. Importing this module is light; `open` imports mxnet once the number of threads is set."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.architecture import Conv, LayerShape, MaxPool, layer_shapes, parse_architecture
from benchmarks.engine import BINARYNET_SETTINGS, check_settings, epoch_batches
from benchmarks.errors import EngineError
from benchmarks.machine import cpu_model, usable_cores
from bnn_gluon.ap2 import ap2

if TYPE_CHECKING:
    from benchmarks.augmentation import Crops
    from benchmarks.recipe import ModelSettings

# The GPU builds of MXNet 1.9.1 (mxnet-cu112, -cu116, -cu117) hold machine code for these and no PTX to compile for
# others.
GPU_CAPABILITIES = "5.0, 6.0, 7.0, 8.0 and 8.6 (Maxwell to Ada)"

# Numbers of the first layer's dropout mask and thresholds among the random draws; weights count from 0.
_FIRST_MASK, _FIRST_THRESHOLDS = 1 << 16, 1 << 17


def open(
    model: ModelSettings, input_shape: tuple[int, ...], seed: int, device: str = "cpu", threads: int | None = None
) -> GluonEngine:
    """Open the engine: see `benchmarks.engine.open_engine`."""
    if device != "cpu":
        raise EngineError(
            "device 'gpu': the installed mxnet has no GPU code, and its GPU builds run only on NVIDIA GPUs of compute"
            f" capability {GPU_CAPABILITIES}, not on Hopper or Blackwell; use --device cpu"
        )
    check_settings("gluon", model, BINARYNET_SETTINGS)
    threads = threads or usable_cores()
    try:
        _set_threads(threads)
        import mxnet  # noqa: F401 - only now that the number of threads is set
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise EngineError(f"mxnet cannot be loaded ({error}): `python cli.py doctor` says what is missing") from error
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

    The network's weights are the binary ones; the real-valued weights and the optimiser's moments are NumPy arrays, and
    the next step's binary weights are written straight into the network's memory. An evaluation borrows the network: it
    writes the weights that it wants and afterwards those of the coming step, which can be drawn again.
    """

    def __init__(self, model: ModelSettings, input_shape: tuple[int, ...], seed: int, threads: int) -> None:
        import mxnet

        from bnn_gluon import memory, network, optimizers, quantize

        self._mx, self._quantize, self._view = mxnet, quantize, memory.view
        self._model, self._threads = model, threads
        self._rule = optimizers.RULES[model.optimizer]
        self._key = (np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF))
        shapes = layer_shapes(parse_architecture(model.architecture), input_shape)
        linear = [shape for shape in shapes if not isinstance(shape.layer, MaxPool)]
        self._drawn = _drawn(linear, model)
        self._draws = [np.empty(0, np.float32) for _ in self._drawn]
        self._classes = np.arange(shapes[-1].output_shape[0])
        names = [name.removesuffix(".weight") for name in _by_weight_name(linear)]
        self._network = network.Network(shapes, names, model)
        self._parameters, self._running = self._network.parameters, self._network.running
        self._lr_scales, self._limits = _lr_scales(linear, model), _limits(linear, model)
        self._moments = {
            name: [np.zeros(math.prod(parameter.shape), np.float32) for _ in self._rule.moments]
            for name, parameter in self._parameters.items()
        }
        self._step = 0  # updates done
        self._initialize(linear, seed)

    def _initialize(self, linear: list[LayerShape], seed: int) -> None:
        """Weights uniform, within +-H if they are binarised, else as Glorot says; gamma = 1, biases and beta = 0.

        With initialization "torch" biases are uniform within +-1 / sqrt(fan_in), and so is gamma of a "torch" batch
        normalisation within 0 and 1.
        Source: binary_connect.py, lasagne.init.Uniform((-H, H)) if binary, else Lasagne's default, GlorotUniform();
        itayhubara/BinaryNet, reset() of BinaryLinear.lua and cudnnBinarySpatialConvolution.lua, and of
        BatchNormalization.lua of torch/nn.
        """
        generator = np.random.Generator(np.random.PCG64(seed))
        self._weights: dict[str, np.ndarray] = {}  # real-valued, of the layers that are binarised
        values: dict[str, np.ndarray] = {}
        for number, (name, shape) in enumerate(_by_weight_name(linear).items(), 1):
            limit = self._limits.get(name, np.float32(_glorot_limit(shape)))
            weights = generator.uniform(-limit, limit, shape.weights).astype(np.float32)
            (values if self._model.weights == "real" else self._weights)[name] = weights
            channels, gamma = shape.output_shape[0], f"bn{number}.gamma"
            values[gamma] = np.ones(channels)
            if self._model.initialization == "torch":
                spread = 1 / math.sqrt(shape.fan_in)
                values[name.replace("weight", "bias")] = generator.uniform(-spread, spread, channels)
                if f"bn{number}.running_var" in self._running:
                    values[gamma] = generator.uniform(0, 1, channels)
        for name, value in values.items():
            self._set(name, value)
        self._binarize()

    # -- parameters and state ------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        values = {name: parameter.data().asnumpy() for name, parameter in self._parameters.items()}
        values |= {name: value.reshape(self._parameters[name].shape).copy() for name, value in self._weights.items()}
        values |= {name: value.copy() for name, value in self._running.items()}
        return {name: values[name] for name in self._network.names}

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        if set(parameters) != set(self._network.names):
            raise ValueError(f"parameters: expected {sorted(self._network.names)}, found {sorted(parameters)}")
        for name in self._network.names:
            shape = self._running[name].shape if name in self._running else self._parameters[name].shape
            if np.shape(parameters[name]) != shape:
                raise ValueError(f"{name}: expected shape {shape}, found {np.shape(parameters[name])}")
        for name, value in parameters.items():
            own = self._weights.get(name, self._running.get(name))
            if own is not None:
                own[:] = np.asarray(value, np.float32).reshape(-1)
            else:
                self._set(name, value)
        self._binarize()

    def state(self) -> dict[str, np.ndarray]:
        state = {f"parameters/{name}": value for name, value in self.parameters().items()}
        state |= {key: value.copy() for key, value in self._named_moments().items()}
        state["step"] = np.array(self._step, np.int64)
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._step = int(state["step"])
        for key, value in self._named_moments().items():
            value[:] = np.reshape(state[key], -1)
        self.load_parameters({name: state[f"parameters/{name}"] for name in self._network.names})

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
            self._binarize(uniforms)
        loss = self._network.step(images, self._targets(labels), self._draw_inputs(len(images)))
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
        for batch in epoch_batches(images, labels, order, batch_size, crops, keep_remainder):
            losses.append(float(np.float32(self.train_step(*batch, lr))))
            if on_batch is not None:
                on_batch(len(losses), losses[-1])
        return np.array(losses, np.float32)

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        """Labels (N,) as +1 for the class and -1 for the others, float32 (N, classes)."""
        return np.where(np.asarray(labels)[:, None] == self._classes, np.float32(1), np.float32(-1))

    def _update_parameters(self, lr: float) -> None:
        self._step += 1
        step_size = self._rule.step_size(lr, self._step)
        for name, parameter in self._parameters.items():
            value = self._weights[name] if name in self._weights else self._view(parameter.data())
            scaled = step_size * self._lr_scales.get(name, np.float32(1))
            limit = self._limits.get(name, np.float32(np.inf))
            self._rule.update(value, self._view(parameter.grad()), self._moments[name], scaled, limit)
        self._binarize()

    # -- random draws and binary weights -------------------------------------------------------------------------------

    def _draw(self, tensor: int) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
        """Which random draw it is, for the coming step: tensor number, step, and the seed's two halves."""
        return np.uint32(tensor), np.uint32(self._step + 1), *self._key

    def _draw_inputs(self, batch: int) -> list[np.ndarray]:
        """The network's random inputs of the coming step, float32 (batch * values an image,); made over by the next."""
        if any(len(values) != batch * size for values, (_, _, size) in zip(self._draws, self._drawn, strict=True)):
            self._draws = [np.empty(batch * size, np.float32) for _, _, size in self._drawn]
        for values, (draw, tensor, _) in zip(self._draws, self._drawn, strict=True):
            draw(*self._draw(tensor), values)
        return self._draws

    def _binarize(self, uniforms: Mapping[str, np.ndarray] | None = None) -> None:
        """Set the training network's weights for the coming step, from `uniforms` if given."""
        self._mx.nd.waitall()
        for tensor, (name, weights) in enumerate(self._weights.items()):
            binary, limit = self._view(self._parameters[name].data()), self._limits[name]
            if self._model.weights == "deterministic":
                self._quantize.binarize_deterministic(weights, limit, binary)
            elif uniforms is None:
                self._quantize.binarize_stochastic(weights, limit, *self._draw(tensor), binary)
            else:
                drawn = np.ascontiguousarray(uniforms[name], np.float32).reshape(-1)
                self._quantize.compare_with_uniforms(weights, limit, drawn, binary)

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        try:
            self._write_evaluation_weights()
            return np.concatenate([self._network.scores(batch) for batch in batches])
        finally:
            self._binarize()

    def _write_evaluation_weights(self) -> None:
        for name, weights in self._weights.items():
            values = self._view(self._parameters[name].data())
            if self._model.evaluation_weights == "binary":
                self._quantize.binarize_deterministic(weights, self._limits[name], values)
            else:
                values[:] = weights

    def _set(self, name: str, value: np.ndarray) -> None:
        parameter = self._parameters[name]
        parameter.set_data(self._mx.nd.array(np.reshape(value, parameter.shape), dtype="float32"))


def _by_weight_name(linear: list[LayerShape]) -> dict[str, LayerShape]:
    """Linear layers by the name of their weights, in network order: "conv1.weight", ..., "dense1.weight"."""
    named: dict[str, LayerShape] = {}
    for shape in linear:
        kind = "conv" if isinstance(shape.layer, Conv) else "dense"
        named[f"{kind}{sum(name.startswith(kind) for name in named) + 1}.weight"] = shape
    return named


def _glorot_limit(shape: LayerShape) -> float:
    """sqrt(6 / (fan_in + fan_out)): the limit of Glorot and Bengio's uniform initialisation (AISTATS 2010)."""
    return math.sqrt(6 / (shape.fan_in + shape.fan_out))


def _drawn(linear: list[LayerShape], model: ModelSettings) -> list[tuple[Callable[..., None], int, int]]:
    """What is drawn for each step besides weights, in network order: by which function, tensor number and values an
    image."""
    from bnn_gluon import network, quantize

    drawn: list[tuple[Callable[..., None], int, int]] = []
    for position, (shape, rate) in enumerate(zip(linear, network.dropout_rates(len(linear), model), strict=True)):
        if position and network.draws_thresholds(model):  # of the activation in front of this layer
            drawn.append((quantize.draw_thresholds, _FIRST_THRESHOLDS + position - 1, math.prod(shape.input_shape)))
        if rate:
            mask = functools.partial(quantize.draw_dropout_mask, np.float32(rate))
            drawn.append((mask, _FIRST_MASK + position, math.prod(shape.input_shape)))
    return drawn


def _lr_scales(linear: list[LayerShape], model: ModelSettings) -> dict[str, np.float32]:
    """Learning-rate scale of each parameter that has one other than 1, by name.

    "glorot": of weights, float32(1 / sqrt(1.5 / (fan_in + fan_out))), twice the inverse of Glorot's limit.
    "torch_glorot": of weights and their biases, and of gamma 1 / sqrt(1.5 / n) for n channels.
    "torch_glorot_ap2": of weights and their biases, AP2 of that.
    Source: binary_connect.py, W_LR_scale; itayhubara/BinaryNet, Models/BinaryNet_MNIST_Model.lua for the second,
    BinaryNet_Cifar10_Model.lua and BinaryNet_SVHN_Model.lua for the third.
    """
    scales: dict[str, np.float32] = {}
    if model.lr_scale == "none":
        return scales
    for number, (name, shape) in enumerate(_by_weight_name(linear).items(), 1):
        glorot = np.float32(1 / np.sqrt(1.5 / (shape.fan_in + shape.fan_out)))
        scales[name] = ap2(glorot) if model.lr_scale == "torch_glorot_ap2" else glorot
        if model.lr_scale != "glorot":
            scales[name.replace("weight", "bias")] = scales[name]
        if model.lr_scale == "torch_glorot":
            scales[f"bn{number}.gamma"] = np.float32(1 / np.sqrt(1.5 / shape.output_shape[0]))
    return scales


def _limits(linear: list[LayerShape], model: ModelSettings) -> dict[str, np.float32]:
    """Limit H of each parameter that is clipped to +-H, by name: of binarised weights, or of all of their layer.

    "half_glorot" is float32(sqrt(6 / (fan_in + fan_out)) / 2), of binary_connect.py at BinaryConnect@0e27148.
    """
    limits: dict[str, np.float32] = {}
    if model.weights == "real":
        return limits
    for number, (name, shape) in enumerate(_by_weight_name(linear).items(), 1):
        half_glorot = model.weight_limit == "half_glorot"
        limits[name] = np.float32(_glorot_limit(shape) / 2 if half_glorot else model.weight_limit)
        if model.clipped == "all":
            others = (name.replace("weight", "bias"), f"bn{number}.gamma", f"bn{number}.beta")
            limits |= dict.fromkeys(others, limits[name])
    return limits
