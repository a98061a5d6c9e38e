"""Environment variables that could change a number: taken out before a framework is loaded, or kept in the record.

Math libraries read their settings when they are loaded. Some of these change which instructions compute, in which
precision, or on how many threads, and nothing in the result says so: `DNNL_MAX_CPU_ISA` changes bits,
`DNNL_DEFAULT_FPMATH_MODE` rounds products to bfloat16, and with `OMP_THREAD_LIMIT` below the number of threads that
MXNet was given, its products are wrong. A run is defined by its recipe and its options alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, MutableMapping

from benchmarks.errors import EngineError
from benchmarks.machine.facts import instruction_sets

# Settings of the libraries that compute. Each prefix is of one of them: OpenMP (GNU's and LLVM's), oneDNN, MKL, MXNet
# and its parts, OpenBLAS, numba, NumPy, PyTorch and its compiler, CUDA's libraries.
_PREFIXES = (
    *("OMP_", "GOMP_", "KMP_", "LIBOMP_", "DNNL_", "ONEDNN_", "MKLDNN_", "MKL_", "MXNET_", "NNVM_", "DMLC_"),
    *("OPENBLAS_", "GOTO_", "BLIS_", "NUMBA_", "NPY_", "NUMPY_"),
    *("TORCH_", "PYTORCH_", "TORCHINDUCTOR_", "TORCHDYNAMO_", "ATEN_", "TRITON_"),
    *("CUBLAS_", "CUBLASLT_", "CUDNN_", "NVIDIA_TF32_", "CUDA_LAUNCH_", "CUDA_FORCE_"),
)
# Among those, what only says where files are kept, how a thread waits for another, or that a process may load two
# OpenMP runtimes instead of ending (threadpoolctl, which other packages import, sets it; each runtime is tested).
_HARMLESS = {
    "KMP_DUPLICATE_LIB_OK",
    *("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_DISPLAY_ENV", "OMP_DISPLAY_AFFINITY", "OMP_STACKSIZE"),
    *("MXNET_HOME", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "PYTORCH_CUDA_ALLOC_CONF"),
}
# What a library that is loaded sets itself: torch's compiler says so where the assembler is that Triton is to use.
_SET_BY_LIBRARIES = {"TRITON_PTXAS_PATH"}
# What can change bits and cannot be taken out: read when the process starts, or, as the first two, what makes old
# OpenBLAS builds compute rightly on processors that are younger than they are. Recorded as it was at the start: OpenCV,
# which MXNet loads, adds to LD_LIBRARY_PATH.
_RECORDED = {
    *("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "GLIBC_TUNABLES", "PYTHONPATH", "LD_PRELOAD", "LD_AUDIT"),
    *("LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "DYLD_LIBRARY_PATH"),
}
# Lists of paths name folders of users: that they are set is what a record tells.
_PATHS = {name for name in _RECORDED if name.startswith(("LD_", "DYLD_", "PYTHON"))}
_at_start = {name: os.environ[name] for name in sorted(_RECORDED) if os.environ.get(name)}

# What this program has set itself: in this process, and, as JSON in the environment, in the one that started it.
_OWN_SETTINGS = "BNN_OWN_SETTINGS"
_ours: dict[str, str] = {}
_taken: dict[str, str] = {}  # what `clear` has taken out, with the values that it had


def clear(environment: MutableMapping[str, str] | None = None) -> dict[str, str]:
    """Take out of the process's environment what could change a number; what was taken out, now.

    To be called before a library that computes is loaded. What this program has set by `put` stays. What it has set in
    the process that started this one goes too, but `taken_out` does not tell it: an engine sets it anew.
    """
    environment = os.environ if environment is None else environment
    found = {
        name: value
        for name, value in environment.items()
        if name.startswith(_PREFIXES) and name not in _HARMLESS | _RECORDED and _ours.get(name) != value
    }
    for name in found:
        del environment[name]
    inherited = _set_by_parent(environment)
    _taken.update((name, value) for name, value in found.items() if inherited.get(name) != value)
    return found


def _set_by_parent(environment: Mapping[str, str]) -> dict[str, str]:
    """What the environment says that the program has set in the process that started this one."""
    with contextlib.suppress(ValueError, TypeError):
        return dict(json.loads(environment.get(_OWN_SETTINGS, "{}")))
    return {}


def clear_before(package: str) -> None:
    """Do what `clear` does, before a framework is loaded.

    Raises:
        EngineError: it is loaded already, and may have read what should have been taken out.
    """
    loaded = package in sys.modules
    for name in _SET_BY_LIBRARIES & os.environ.keys() if loaded else ():
        put(name, os.environ[name])
    found = clear()
    found.pop("OMP_NUM_THREADS", None)  # an engine sets the number of threads itself
    if loaded and found:
        raise EngineError(
            f"{package} was loaded while {', '.join(sorted(found))} was set, which can change its numbers: unset it and"
            " start again"
        )


def put(name: str, value: str) -> None:
    """Set a variable for the libraries of this process: `clear` leaves it."""
    os.environ[name] = _ours[name] = value
    os.environ[_OWN_SETTINGS] = json.dumps(_ours)


@contextlib.contextmanager
def without_additions() -> Iterator[None]:
    """Take back what a library that is loaded meanwhile adds to what is recorded, as OpenCV does: it is read when a
    process starts, so it says nothing of this one, and processes that this one starts are to begin as it did."""
    before = {name: os.environ.get(name) for name in _RECORDED}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def taken_out() -> list[str]:
    """What `clear` has taken out of this process's environment, as NAME=VALUE, sorted."""
    return [f"{name}={value}" for name, value in sorted(_taken.items())]


def bit_factors() -> dict[str, bool | str]:
    """What, besides versions and threads, the last bits of a result depend on, as an engine's description has it."""
    optimized = {"PYTHONOPTIMIZE": str(sys.flags.optimize)} if sys.flags.optimize else {}  # also by `python -O`
    there = _at_start | optimized
    variables = {f"environment {name}": "set" if name in _PATHS else value for name, value in there.items()}
    # The C library brings exp, log and tanh, in a version for each set of instructions.
    return {"instructions": instruction_sets(), "libc": " ".join(platform.libc_ver()).strip(), **variables}
