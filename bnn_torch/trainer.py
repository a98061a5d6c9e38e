"""The Engine class on PyTorch.

Import this module only once the number of threads is set: see `bnn_torch.engine.open`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.engine import epoch_batches
from benchmarks.engine.initial import initial_values
from benchmarks.engine.layers import check_parameters
from benchmarks.machine import environment
from benchmarks.machine.facts import cpu_model, nvidia_gpus
from benchmarks.machine.mps import PIPES
from benchmarks.machine.waiting import waiting
from bnn_torch.device import compiler, resident
from bnn_torch.network import Network, named_parts
from bnn_torch.quantize import from_chunks, in_chunks
from bnn_torch.step import Training

if TYPE_CHECKING:
    from benchmarks.engine.augmentation import Crops
    from benchmarks.recipe import ModelSettings
    from bnn_torch.network import Pass


class TorchEngine:
    """One network with its training rule: see `benchmarks.engine.Engine`.

    Attributes:
        note: what the user should know of how it computes, if anything.
    """

    def __init__(
        self,
        model: ModelSettings,
        input_shape: tuple[int, ...],
        seed: int,
        device: str,
        threads: int,
        precision: str,
        compile: compiler.Compile,
    ) -> None:
        self._model, self._threads, self._precision = model, threads, precision
        self._gpu, self._waiting = device == "gpu", waiting(threads)
        self._device = torch.device("cuda" if self._gpu else "cpu")
        self._compiled, self.note = compiler.decide(compile, self._device.type)
        key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        # As cuDNN's fast kernels want it, and what is compiled for CPUs: docs/performance.md.
        channels_last = self._gpu or self._compiled
        self._network = Network(model, input_shape, key, dtype, channels_last=channels_last)
        self._training = Training(self._network, model, key, self._device)
        self._step, self._evaluate = self._training.step, self._network.evaluate
        if self._compiled:
            self._step, self._evaluate = compiler.compiled(self._step), compiler.compiled(self._evaluate)
        # These two are used on a GPU only.
        self._arrays = resident.Arrays(self._device, lambda: resident.free_bytes(self._device))
        self._epochs: resident.Epochs | None = None
        self._variables = self._training.new_variables(dtype)
        # Scores of an image depend on the others of its batch.
        self._by_batch = model.evaluation_statistics == "batch" or any(
            layer.activation == "ternary" for layer in self._network.layers
        )
        self._piece: tuple[Tensor, Tensor] | None = None
        self._done = 0  # updates, as the device's own counter has them
        self._gradients: dict[str, np.ndarray] = {}
        self.load_parameters(initial_values(self._network.layers, model, seed))

    # -- parameters and state ------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        weights = self._named(self._variables.weights, self._variables.affine)
        kept = {
            layer.scale: self._training.scales_of(self._variables, number).cpu().numpy().copy()
            for number, layer in enumerate(self._network.layers)
            if layer.scaled
        }
        named = weights | kept | _by_name(self._variables.running, self._network.running)
        return {name: named[name] for layer in self._network.layers for name in layer.parameters}

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        expected = {name: shape for layer in self._network.layers for name, shape in layer.parameters.items()}
        check_parameters(parameters, expected)
        self._set(parameters, self._variables.weights, self._variables.affine)
        self._variables.running.copy_(self._flat(parameters, self._network.running))
        for number, layer in enumerate(self._network.layers):
            if layer.scaled:
                scales = torch.from_numpy(np.array(parameters[layer.scale], np.float32))
                self._training.scales_of(self._variables, number).copy_(scales)
        self._training.quantize(self._variables)

    def state(self) -> dict[str, np.ndarray]:
        state = {f"parameters/{name}": value for name, value in self.parameters().items()}
        for number, moment in enumerate(self._training.rule.moments):
            *weights, affine = self._variables.moments(number)
            named = self._named(weights, affine)
            state |= {f"{self._model.optimizer}_{moment}/{name}": value for name, value in named.items()}
        state["step"] = np.array(self._done, np.int64)
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._done = int(state["step"])
        self._variables.step.fill_(self._done)
        for number, moment in enumerate(self._training.rule.moments):
            prefix = f"{self._model.optimizer}_{moment}/"
            values = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            *weights, affine = self._variables.moments(number)
            self._set(values, weights, affine)
        prefix = "parameters/"
        self.load_parameters({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})

    def _named(self, weights: list[Tensor], affine: Tensor) -> dict[str, np.ndarray]:
        """Tensors of all layers' weights, in chunks, and of all else, by parameter name; copies."""
        layers = self._network.layers
        named = {
            layer.weight: from_chunks(w, layer.weight_shape).cpu().numpy().copy()
            for layer, w in zip(layers, weights, strict=True)
        }
        return named | _by_name(affine, self._network.affine)

    def _set(self, values: Mapping[str, np.ndarray], weights: list[Tensor], affine: Tensor) -> None:
        """The inverse of `_named`, into the tensors."""
        for layer, tensor in zip(self._network.layers, weights, strict=True):
            tensor.copy_(in_chunks(torch.from_numpy(np.array(values[layer.weight], np.float32))))
        affine.copy_(self._flat(values, self._network.affine))

    def _flat(self, values: Mapping[str, np.ndarray], names: Mapping[str, int]) -> Tensor:
        parts = [np.asarray(values[name], np.float32) for name in names]
        return torch.from_numpy(np.concatenate([np.empty(0, np.float32), *parts]))

    def describe(self) -> dict[str, object]:
        packages = ["numpy", *(["triton"] if self._gpu and self._compiled else [])]
        # torch's own word has the build, 2.11.0+cu130, where its package may have 2.11.0 alone.
        versions = {"torch": str(torch.__version__)} | {name: importlib.metadata.version(name) for name in packages}
        features = [f"CPU {torch.backends.cpu.get_cpu_capability()}"]
        determinism = {"bit_exact_resume": True} | environment.bit_factors()
        if self._compiled and not self._gpu:
            determinism["c++ compiler"] = compiler.cpp_compiler()
        device_name, driver = cpu_model(), None
        if self._gpu:
            versions |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
            major, minor = torch.cuda.get_device_capability()
            features = ["CUDA", "CUDA graph", f"compute capability {major}.{minor}"]
            features += ["MPS"] if PIPES in os.environ else []  # beside other runs: its speed is not one alone
            device_name = torch.cuda.get_device_name()
            driver = next((gpu.driver for gpu in nvidia_gpus() if gpu.name == device_name), None)
            determinism |= {
                "bit_exact_resume": "on the same GPU and driver, with these versions",
                "cudnn_deterministic": True,
                "cudnn_benchmark": False,
            }
        return {
            "name": "torch",
            "device": "gpu" if self._gpu else "cpu",
            "device_name": device_name,
            "threads": self._threads,
            "precision": self._precision,
            "versions": versions,
            "features": sorted([*features, "torch.compile" if self._compiled else "eager"]),
            "driver": driver,
            "determinism": {**determinism, "max_pool_gradient": f"{self._model.max_pool_gradient} of tied maxima"},
        }

    # -- training ------------------------------------------------------------------------------------------------------

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, lr: float, uniforms: Mapping[str, np.ndarray] | None = None
    ) -> float:
        if uniforms is not None:
            self._training.quantize(self._variables, uniforms)
        result = self._train(images, labels, lr, len(images))
        weights = [gradient.to(torch.float32).cpu().numpy().copy() for gradient in result.weights]
        names = [layer.weight for layer in self._network.layers]
        self._gradients = dict(zip(names, weights, strict=True)) | _by_name(result.affine, self._network.affine)
        return float(result.loss)

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: value.copy() for name, value in self._gradients.items()}

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
        self._training.begin_epoch(self._variables)
        if self._gpu:  # the graph takes whole batches; what is left is a batch of another shape
            whole = len(order) // batch_size * batch_size
            changes, crops = (None, None) if crops is None else (crops[:whole], crops[whole:])
            replayed = self._train_on_gpu(images, labels, order[:whole], batch_size, lr, on_batch, changes)
            losses, order = replayed.tolist(), order[whole:]
        for batch in epoch_batches(images, labels, order, batch_size, crops, keep_remainder):
            self._waiting.adapt()
            losses.append(float(self._train(*batch, lr, batch_size).loss))
            if on_batch is not None:
                on_batch(len(losses), losses[-1])
        return np.array(losses, np.float32)

    def _train(self, images: np.ndarray, labels: np.ndarray, lr: float, batch_size: int) -> Pass:
        """One step on arrays of the host, in an epoch of this batch size."""
        self._done += 1
        sizes = torch.tensor(self._training.rule.sizes(lr, self._done), dtype=torch.float32, device=self._device)
        with computing(self._precision == "tf32"):
            return self._step(
                self._variables,
                self._sent(images, torch.float32),
                self._sent(labels, torch.int64),
                sizes,
                self._loss_divisor(batch_size),
            )

    def _sent(self, array: np.ndarray, dtype: torch.dtype) -> Tensor:
        """An array of the host on the device."""
        return resident.on_host(array, dtype).to(self._device)

    def _loss_divisor(self, batch_size: int) -> int:
        return batch_size if self._model.loss_divisor == "batch_size" else 1

    def _train_on_gpu(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        batch_size: int,
        lr: float,
        on_batch: Callable[[int, float], None] | None,
        crops: Crops | None,
    ) -> np.ndarray:
        """Whole batches."""
        there, labels_there = self._arrays.get(images, torch.float32), self._arrays.get(labels, torch.int64)
        if there is not None and labels_there is not None:
            return self._replay(there, labels_there, order, batch_size, lr, on_batch, crops)
        rows = resident.piece_batches(images, batch_size) * batch_size
        if self._piece is None or self._piece[0].shape != (rows, *images.shape[1:]):
            self._piece = (
                torch.empty((rows, *images.shape[1:]), device=self._device),
                torch.empty(rows, dtype=torch.int64, device=self._device),
            )
        piece, piece_labels = self._piece  # the same for every piece and epoch: the graph reads it
        losses = [np.empty(0, np.float32)]
        for start in range(0, len(order), rows):
            part, before = order[start : start + rows], start // batch_size
            piece[: len(part)].copy_(resident.on_host(images[part], torch.float32))
            piece_labels[: len(part)].copy_(resident.on_host(labels[part], torch.int64))
            report = None if on_batch is None else _later(on_batch, before)
            changes = None if crops is None else crops[start : start + rows]
            losses.append(self._replay(piece, piece_labels, np.arange(len(part)), batch_size, lr, report, changes))
        return np.concatenate(losses)

    def _replay(
        self,
        images: Tensor,
        labels: Tensor,
        order: np.ndarray,
        batch_size: int,
        lr: float,
        on_batch: Callable[[int, float], None] | None,
        crops: Crops | None,
    ) -> np.ndarray:
        batches, rule = len(order) // batch_size, self._training.rule
        if batches == 0:
            return np.empty(0, np.float32)
        sizes = np.array([rule.sizes(lr, self._done + n) for n in range(1, batches + 1)], np.float32)
        if self._epochs is None or not self._epochs.batches.serves(images, labels, batch_size, batches, crops):
            self._epochs = None  # and its memory, before another takes some
            self._epochs = resident.Epochs(
                functools.partial(self._step_on_device, batch_size),
                resident.Batches(images, labels, batch_size, batches, sizes.shape[1], crops),
            )
        self._done += batches
        with computing(self._precision == "tf32"):
            losses: np.ndarray = self._epochs.run(order, sizes, crops, on_batch)
        return losses

    def _step_on_device(self, batch_size: int, images: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
        """One step in an epoch of this batch size; its loss."""
        return self._step(self._variables, images, labels, sizes, self._loss_divisor(batch_size)).loss

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        count = len(images)
        batch_size = min(batch_size, count)
        there = self._arrays.get(images, torch.float32) if self._gpu else None
        found: list[Tensor] = []
        with computing(self._precision != "float32"):
            for number, start in enumerate(range(0, count, batch_size), 1):
                self._waiting.adapt()
                if number == 1 or self._model.evaluation_weights == "stochastic":
                    weights = self._training.evaluation_weights(self._variables, number)
                part = slice(start, start + batch_size)
                batch = self._sent(images[part], torch.float32) if there is None else there[part]
                if len(batch) < batch_size and not self._by_batch:  # filled up: one shape to compile, and the same sums
                    batch = torch.cat([batch, batch.new_zeros((batch_size - len(batch), *batch.shape[1:]))])
                kept = self._variables.scales, self._variables.affine, self._variables.running
                found.append(self._evaluate(weights, *kept, batch))
            scores: np.ndarray = torch.cat(found)[:count].cpu().numpy()
        return scores


@contextlib.contextmanager
def computing(tf32: bool) -> Iterator[None]:
    """No autograd; and what is global in PyTorch, as this engine wants it."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of names that newer versions would have for these two
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        yield


def _by_name(flat: Tensor, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Parts of a flat tensor by parameter name; copies."""
    return {name: part.numpy().copy() for name, part in named_parts(flat.cpu(), sizes).items()}


def _later(on_batch: Callable[[int, float], None], before: int) -> Callable[[int, float], None]:
    """`on_batch` for a piece of an epoch that had so many batches before."""
    return lambda done, loss: on_batch(before + done, loss)
