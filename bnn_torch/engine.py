"""The PyTorch engine. Importing this module is light; `open` imports torch once the number of threads is set."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.engine import PRECISIONS, epoch_batches
from benchmarks.errors import EngineError
from benchmarks.machine import cpu_model, nvidia_gpus, usable_cores
from benchmarks.networks import NETWORKS
from benchmarks.parameters import check_parameters, initial_values

if TYPE_CHECKING:
    from benchmarks.augmentation import Crops
    from benchmarks.recipe import ModelSettings


def open(
    model: ModelSettings,
    input_shape: tuple[int, ...],
    seed: int,
    device: str = "cpu",
    threads: int | None = None,
    precision: str = "float32",
    compile: str = "auto",
) -> TorchEngine:
    """Open the engine: see `benchmarks.engine.open_engine`."""
    if model.architecture in NETWORKS:
        raise EngineError(f"{model.architecture} is a network of GluonCV's, for MXNet: expected --engine gluon")
    threads = threads or usable_cores()
    if "torch" not in sys.modules:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        # Without it cuBLAS may choose how it sums by what else runs on the GPU. Read when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        import torch
    except (ImportError, OSError) as error:
        raise EngineError(f"torch cannot be loaded ({error}): `python cli.py doctor` says what is missing") from error
    torch.set_num_threads(threads)
    _check_device(torch, device, precision)
    engine = TorchEngine(model, input_shape, seed, device, threads, precision, compile)
    if engine.note is not None:
        print(f"note: {engine.note}", file=sys.stderr)
    return engine


def _check_device(torch: Any, device: str, precision: str) -> None:
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}: expected {', '.join(PRECISIONS)}")
    if device == "cpu":
        if precision == "tf32":
            raise EngineError("precision 'tf32' is one of GPUs: expected float32 or bf16 on the CPU")
        return
    if not torch.cuda.is_available():
        built = f"was built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a CPU build"
        found = ", ".join(f"{gpu.name}, driver {gpu.driver}" for gpu in nvidia_gpus()) or "no NVIDIA GPU"
        raise EngineError(
            f"device 'gpu': torch {torch.__version__} cannot use one; it {built}, nvidia-smi shows {found};"
            " docs/gpu.md says what to install, or use --device cpu"
        )
    capability = torch.cuda.get_device_capability()
    if precision != "float32" and capability < (8, 0):
        raise EngineError(
            f"precision {precision!r} needs a GPU of compute capability 8.0 or later, this one has"
            f" {capability[0]}.{capability[1]}: use --precision float32"
        )


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
        compile: Any,
    ) -> None:
        import torch

        from bnn_torch import compiler, resident
        from bnn_torch.network import Network
        from bnn_torch.training import Training

        self._torch, self._resident_module = torch, resident
        self._model, self._threads, self._precision = model, threads, precision
        self._gpu = device == "gpu"
        self._device = torch.device("cuda" if self._gpu else "cpu")
        self._compiled, self.note = compiler.decide(compile, self._device.type)
        key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._network = Network(model, input_shape, key, dtype, self._gpu)
        self._training = Training(self._network, model, key, self._device)
        self._step, self._evaluate = self._training.step, self._network.evaluate
        if self._compiled:
            self._step, self._evaluate = compiler.compiled(self._step), compiler.compiled(self._evaluate)
        # Of a GPU only, as what follows.
        self._arrays = resident.Arrays(self._device, lambda: resident.free_bytes(self._device))
        self._epochs: resident.Epochs | None = None
        self._variables = self._training.new_variables(dtype)
        # Scores of an image depend on the others of its batch.
        self._by_batch = model.evaluation_statistics == "batch" or any(
            layer.activation == "ternary" for layer in self._network.layers
        )
        self._piece: tuple[Any, Any] | None = None
        self._done = 0  # updates, as the device's own counter has them
        self._gradients: dict[str, np.ndarray] = {}
        self.load_parameters(initial_values(self._network.layers, model, seed))

    # -- parameters and state ------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        weights = self._named(self._variables.weights, self._variables.affine)
        running = _by_name(self._variables.running, self._network.running)
        return {name: (weights | running)[name] for layer in self._network.layers for name in layer.parameters}

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        expected = {name: shape for layer in self._network.layers for name, shape in layer.parameters.items()}
        check_parameters(parameters, expected)
        self._set(parameters, self._variables.weights, self._variables.affine)
        self._variables.running.copy_(self._flat(parameters, self._network.running))
        self._training.quantise(self._variables)

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

    def _named(self, weights: list[Any], affine: Any) -> dict[str, np.ndarray]:
        """Tensors of all layers' weights, in chunks, and of all else, by parameter name; copies."""
        from bnn_torch.quantize import from_chunks

        layers = self._network.layers
        named = {
            layer.weight: from_chunks(w, layer.weight_shape).cpu().numpy().copy()
            for layer, w in zip(layers, weights, strict=True)
        }
        return named | _by_name(affine, self._network.affine)

    def _set(self, values: Mapping[str, np.ndarray], weights: list[Any], affine: Any) -> None:
        """The inverse of `_named`, into the tensors."""
        from bnn_torch.quantize import in_chunks

        for layer, tensor in zip(self._network.layers, weights, strict=True):
            tensor.copy_(in_chunks(self._torch.from_numpy(np.array(values[layer.weight], np.float32))))
        affine.copy_(self._flat(values, self._network.affine))

    def _flat(self, values: Mapping[str, np.ndarray], names: Mapping[str, int]) -> Any:
        parts = [np.asarray(values[name], np.float32) for name in names]
        return self._torch.from_numpy(np.concatenate([np.empty(0, np.float32), *parts]))

    def describe(self) -> dict[str, object]:
        torch = self._torch
        packages = ["torch", "numpy", *(["triton"] if self._gpu and self._compiled else [])]
        versions = {name: importlib.metadata.version(name) for name in packages}
        features = [f"CPU {torch.backends.cpu.get_cpu_capability()}"]
        determinism: dict[str, bool | str] = {"bit_exact_resume": True}
        device_name, driver = cpu_model(), None
        if self._gpu:
            versions |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
            major, minor = torch.cuda.get_device_capability()
            features = ["CUDA", "CUDA graph", f"compute capability {major}.{minor}"]
            device_name = torch.cuda.get_device_name()
            driver = next((gpu.driver for gpu in nvidia_gpus() if gpu.name == device_name), None)
            determinism = {
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
            self._training.quantise(self._variables, uniforms)
        result = self._train(images, labels, lr, len(images))
        weights = [gradient.to(self._torch.float32).cpu().numpy().copy() for gradient in result.weights]
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
        if self._gpu:  # the graph takes whole batches; what is left is a batch of another shape
            whole = len(order) // batch_size * batch_size
            replayed = self._train_on_gpu(images, labels, order[:whole], batch_size, lr, on_batch, crops)
            losses, order, crops = replayed.tolist(), order[whole:], None if crops is None else crops[whole:]
        for batch in epoch_batches(images, labels, order, batch_size, crops, keep_remainder):
            losses.append(float(self._train(*batch, lr, batch_size).loss))
            if on_batch is not None:
                on_batch(len(losses), losses[-1])
        return np.array(losses, np.float32)

    def _train(self, images: np.ndarray, labels: np.ndarray, lr: float, batch_size: int) -> Any:
        """One step on arrays of the host, in an epoch of this batch size."""
        to_device, torch = self._resident_module.on_host, self._torch
        self._done += 1
        sizes = torch.tensor(self._training.rule.sizes(lr, self._done), dtype=torch.float32, device=self._device)
        with self._computing(self._precision == "tf32"):
            return self._step(
                self._variables,
                to_device(images, torch.float32).to(self._device),
                to_device(labels, torch.int64).to(self._device),
                sizes,
                self._loss_divisor(batch_size),
            )

    def _loss_divisor(self, batch_size: int) -> int:
        return batch_size if self._model.loss_divisor == "batch_size" else 1

    def _train_on_gpu(
        self,
        images: Any,
        labels: np.ndarray,
        order: np.ndarray,
        batch_size: int,
        lr: float,
        on_batch: Callable[[int, float], None] | None,
        crops: Crops | None,
    ) -> np.ndarray:
        """Whole batches."""
        torch = self._torch
        resident, there = self._arrays.get(images, torch.float32), self._arrays.get(labels, torch.int64)
        if resident is not None and there is not None:
            return self._replay(resident, there, order, batch_size, lr, on_batch, crops)
        rows = self._resident_module.piece_batches(images, batch_size) * batch_size
        if self._piece is None or self._piece[0].shape != (rows, *images.shape[1:]):
            self._piece = (
                torch.empty((rows, *images.shape[1:]), device=self._device),
                torch.empty(rows, dtype=torch.int64, device=self._device),
            )
        piece, piece_labels = self._piece  # the same for every piece and epoch: the graph reads it
        losses = [np.empty(0, np.float32)]
        for start in range(0, len(order), rows):
            part, before = order[start : start + rows], start // batch_size
            piece[: len(part)].copy_(self._resident_module.on_host(images[part], torch.float32))
            piece_labels[: len(part)].copy_(self._resident_module.on_host(labels[part], torch.int64))
            report = None if on_batch is None else _later(on_batch, before)
            changes = None if crops is None else crops[start : start + rows]
            losses.append(self._replay(piece, piece_labels, np.arange(len(part)), batch_size, lr, report, changes))
        return np.concatenate(losses)

    def _replay(
        self,
        images: Any,
        labels: Any,
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
            self._epochs = self._resident_module.Epochs(
                functools.partial(self._step_on_device, batch_size),
                self._resident_module.Batches(images, labels, batch_size, batches, sizes.shape[1], crops),
            )
        self._done += batches
        with self._computing(self._precision == "tf32"):
            losses: np.ndarray = self._epochs.run(order, sizes, crops, on_batch)
        return losses

    def _step_on_device(self, batch_size: int, images: Any, labels: Any, sizes: Any) -> Any:
        """One step in an epoch of this batch size; its loss."""
        return self._step(self._variables, images, labels, sizes, self._loss_divisor(batch_size)).loss

    @contextlib.contextmanager
    def _computing(self, tf32: bool) -> Iterator[None]:
        """No autograd; and what is global in PyTorch, as this engine wants it."""
        torch = self._torch
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of names that newer versions would have for these two
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            yield

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        torch, count = self._torch, len(images)
        batch_size = min(batch_size, count)
        there = self._arrays.get(images, torch.float32) if self._gpu else None
        found: list[Any] = []
        batch: Any
        with self._computing(self._precision != "float32"):
            for number, start in enumerate(range(0, count, batch_size), 1):
                if number == 1 or self._model.evaluation_weights == "stochastic":
                    weights = self._training.evaluation_weights(self._variables, number)
                batch = there[start : start + batch_size] if there is not None else images[start : start + batch_size]
                if there is None:
                    batch = self._resident_module.on_host(batch, torch.float32).to(self._device)
                if len(batch) < batch_size and not self._by_batch:  # filled up: one shape to compile, and the same sums
                    batch = torch.cat([batch, batch.new_zeros((batch_size - len(batch), *batch.shape[1:]))])
                found.append(self._evaluate(weights, self._variables.affine, self._variables.running, batch))
            scores: np.ndarray = torch.cat(found)[:count].cpu().numpy()
        return scores


def _by_name(flat: Any, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Parts of a flat tensor by parameter name; copies."""
    from bnn_torch.network import named_parts

    return {name: part.numpy().copy() for name, part in named_parts(flat.cpu(), sizes).items()}


def _later(on_batch: Callable[[int, float], None], before: int) -> Callable[[int, float], None]:
    """`on_batch` for a piece of an epoch that had so many batches before."""
    return lambda done, loss: on_batch(before + done, loss)
