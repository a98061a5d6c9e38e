"""The PyTorch engine. Importing this module is light; `open` imports torch once the number of threads is set."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.engine import PRECISIONS
from benchmarks.errors import EngineError
from benchmarks.machine import environment
from benchmarks.machine.facts import multiplies_bf16, nvidia_gpus, usable_cores
from benchmarks.machine.openmp import check_threads
from benchmarks.recipe.networks import NETWORKS
from bnn_torch.memory import keep_freed_memory

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings
    from bnn_torch.device.compiler import Compile
    from bnn_torch.trainer import TorchEngine


def open(
    model: ModelSettings,
    input_shape: tuple[int, ...],
    seed: int,
    device: str = "cpu",
    threads: int | None = None,
    precision: str = "float32",
    compile: Compile = "auto",
) -> TorchEngine:
    """Open the engine: see `benchmarks.engine.open_engine`."""
    if model.architecture in NETWORKS:
        raise EngineError(f"{model.architecture} is a network of GluonCV's, for MXNet: expected --engine gluon")
    threads = threads or usable_cores()
    _check_device(import_torch(threads), device, precision)
    keep_freed_memory()
    _check_products(device, precision)
    from bnn_torch.trainer import TorchEngine

    engine = TorchEngine(model, input_shape, seed, device, threads, precision, compile)
    if engine.note is not None:
        print(f"note: {engine.note}", file=sys.stderr)
    if (device, precision) == ("cpu", "bf16") and not multiplies_bf16():
        print("note: this CPU has no instructions for bf16: it is many times slower than float32", file=sys.stderr)
    return engine


def import_torch(threads: int) -> Any:
    """The module torch, which computes with so many threads.

    Raises:
        EngineError: it cannot be loaded.
    """
    environment.clear_before("torch")
    if "torch" not in sys.modules:
        environment.put("OMP_NUM_THREADS", str(threads))
        # Without it cuBLAS may choose how it sums by what else runs on the GPU. Read when CUDA starts.
        environment.put("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        import torch
    except (ImportError, OSError) as error:
        raise EngineError(f"torch cannot be loaded ({error}): `python cli.py doctor` says what is missing") from error
    torch.set_num_threads(threads)
    check_threads(threads)
    return torch


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


@functools.cache
def _check_products(device: str, precision: str) -> None:
    """Once a process: see `benchmarks.machine.self_test`."""
    import torch
    from torch.nn.functional import conv2d, linear

    from benchmarks.machine.self_test import Products, check_products
    from bnn_torch.kernels.convolution import convolution_gradients
    from bnn_torch.trainer import computing

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    place = torch.device("cuda" if device == "gpu" else "cpu")

    def tensors(*operands: Any) -> Any:
        return (torch.from_numpy(operand).to(place, dtype) for operand in operands)

    def products(*results: Any) -> Products:
        return Products(*(result.float().cpu().numpy() for result in results))

    def dense(*operands: Any) -> Products:
        x, w, g = tensors(*operands)
        return products(linear(x, w), g @ w, g.t() @ x)

    def convolution(*operands: Any) -> Products:
        x, w, g = tensors(*operands)
        return products(conv2d(x, w), *convolution_gradients(g, x, w, 0, of_input=True))

    with computing(tf32=precision == "tf32"):
        check_products("torch", dense, convolution, precision)
