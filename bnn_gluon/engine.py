"""The MXNet Gluon engine. Importing this module is light; `open` imports mxnet once the number of threads is set."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import warnings
from builtins import open as open_file
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine import Engine
from benchmarks.errors import EngineError
from benchmarks.machine import environment
from benchmarks.machine.facts import usable_cores
from benchmarks.machine.openmp import check_threads
from benchmarks.recipe.networks import NETWORKS
from bnn_gluon.kernels import choice

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

# The GPU builds of MXNet 1.9.1 (mxnet-cu112, -cu116, -cu117) hold machine code for these and no PTX to compile for
# others.
GPU_CAPABILITIES = ("5.0", "6.0", "7.0", "8.0", "8.6")


def open(
    model: ModelSettings, input_shape: tuple[int, ...], seed: int, device: str = "cpu", threads: int | None = None
) -> Engine:
    """Open the engine: see `benchmarks.engine.open_engine`."""
    choice.chosen()
    threads = threads or usable_cores()
    environment.clear_before("mxnet")
    _refuse_settings_of_numba()
    try:
        _set_threads(threads)
        with environment.without_additions():
            _import_mxnet()
    except (ImportError, OSError, AttributeError, ValueError, Warning) as error:  # the last with `python -W error`
        raise EngineError(f"mxnet cannot be loaded ({error}): `python cli.py doctor` says what is missing") from error
    check_threads(threads)
    gpu = _gpu() if device == "gpu" else None
    _check_products(gpu)
    if model.architecture in NETWORKS:
        from bnn_gluon.zoo import ZooEngine

        return ZooEngine(model, input_shape, seed, threads, gpu)
    from bnn_gluon.trainer import GluonEngine

    return GluonEngine(model, input_shape, seed, threads, gpu)


def _gpu() -> Any:
    """MXNet's context of the GPU."""
    # Algorithms that give the same bits every time, chosen by rule and not by a stopwatch, in whole float32.
    for name, value in (
        ("MXNET_ENFORCE_DETERMINISM", "1"),
        ("MXNET_CUDNN_AUTOTUNE_DEFAULT", "0"),
        ("NVIDIA_TF32_OVERRIDE", "0"),
    ):
        environment.put(name, value)
    from bnn_gluon.device import usable_gpu

    try:
        return usable_gpu(GPU_CAPABILITIES)
    except EngineError as error:
        raise EngineError(
            f"device 'gpu': {error}; MXNet's GPU builds (docs/gpu.md) run on NVIDIA GPUs of compute capability"
            f" {', '.join(GPU_CAPABILITIES)} and later minor versions (Maxwell to Ada); use --engine torch or use"
            " --device cpu"
        ) from None


def _refuse_settings_of_numba() -> None:
    """numba takes them from a file of the present folder too, whenever it compiles. With `cpu_name` bits are others."""
    file = Path(".numba_config.yaml")
    if file.exists():
        raise EngineError(
            f"{file.absolute()} says how numba is to compile, which can change the numbers: expected none, a run is"
            f" defined by its options alone: `mv {file} numba_config.yaml`, or start in another folder"
        )


def _set_threads(threads: int) -> None:
    """Fix the number of threads. MXNet reads it once, when it is imported; numba shares its OpenMP pool."""
    already = os.environ.get("OMP_NUM_THREADS")
    if "mxnet" in sys.modules and already != str(threads):
        raise EngineError(f"mxnet already runs with {already} threads in this process: cannot change them to {threads}")
    environment.put("OMP_NUM_THREADS", str(threads))
    environment.put("NUMBA_THREADING_LAYER", "omp")
    environment.put("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "0")
    environment.put("MXNET_SUBGRAPH_VERBOSE", "0")
    import numba
    from numba.core.errors import NumbaSystemWarning

    # Where /dev/shm is read-only it has no lock for processes that start pools at once, forked: nothing here does.
    warnings.filterwarnings("ignore", category=NumbaSystemWarning)
    if threads > numba.config.NUMBA_NUM_THREADS:
        raise EngineError(
            f"threads={threads}: expected at most {numba.config.NUMBA_NUM_THREADS}, the cores of this machine"
        )
    numba.set_num_threads(threads)
    if numba.threading_layer() == "omp":
        # When it starts the pool, numba sets OpenMP's number of threads, MXNet's too, to all cores.
        ctypes.CDLL("libgomp.so.1").omp_set_num_threads(threads)


def _import_mxnet() -> None:
    """Import mxnet so that it computes in the thread that asks.

    By default a thread of its own computes, whose OpenMP threads then spin for the cores with those of numba: a step of
    binaryconnect-mnist took 1.15 times as long (docs/performance.md). MXNet announces any other engine on the standard
    error stream.
    """
    environment.put("MXNET_ENGINE_TYPE", "NaiveEngine")
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


@functools.cache
def _check_products(gpu: Any) -> None:
    """Once a process: see `benchmarks.machine.self_test`."""
    from mxnet import autograd, nd

    from benchmarks.machine.self_test import Products, check_products

    def dense(x: Any, w: Any) -> Any:
        return nd.FullyConnected(x, w, num_hidden=w.shape[0], no_bias=True)

    def convolution(x: Any, w: Any) -> Any:
        return nd.Convolution(x, w, kernel=w.shape[2:], num_filter=w.shape[0], no_bias=True)

    def multiplied_by(operation: Any) -> Any:
        def multiply(*operands: Any) -> Products:
            x, w, g = (nd.array(operand, ctx=gpu, dtype="float32") for operand in operands)
            x.attach_grad()
            w.attach_grad()
            with autograd.record():
                product = operation(x, w)
            product.backward(g)
            return Products(product.asnumpy(), x.grad.asnumpy(), w.grad.asnumpy())

        return multiply

    check_products("mxnet", multiplied_by(dense), multiplied_by(convolution))
