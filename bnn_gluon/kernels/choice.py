"""Whether the layers are computed by this package's compiled loops, or by MXNet's and NumPy's operations instead.

`BNN_KERNELS=mxnet` in the environment chooses the latter: the linear layers are MXNet's alone, pooling, batch
normalization and activations are NumPy's (`in_numpy`). It may be several times slower, and rounds sums in another
order. It is an oracle for tests, and a way out where the compiled loops fail. Random draws, quantized weights and
updates stay compiled: they are plain loops of numba's.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from benchmarks.errors import EngineError

VARIABLE = "BNN_KERNELS"
COMPILED, MXNET = "compiled", "mxnet"
TABLES = "tables of signed sums"  # a feature of the engine: products with signs may come from them


def chosen() -> str:
    """COMPILED or MXNET, by the environment variable, at this moment.

    Raises:
        EngineError: another value.
    """
    value = os.environ.get(VARIABLE) or COMPILED
    if value not in (COMPILED, MXNET):
        raise EngineError(f"{VARIABLE}={value}: expected {COMPILED} (the default) or {MXNET}")
    return value


def compiled() -> bool:
    """Whether the compiled loops are chosen."""
    return chosen() == COMPILED


def pooling_loops() -> ModuleType:
    """The module `pooling`, or `in_numpy`, which has the same functions."""
    return importlib.import_module(f"bnn_gluon.kernels.{'pooling' if compiled() else 'in_numpy'}")


def fused_loops() -> ModuleType:
    """The module `fused`, or `in_numpy`, which has the same functions."""
    return importlib.import_module(f"bnn_gluon.kernels.{'fused' if compiled() else 'in_numpy'}")
