"""NumPy views of the memory of MXNet's arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from mxnet.base import _LIB, check_call


def view(array: Any) -> np.ndarray:
    """A flat, writable NumPy view of an NDArray's memory, float32.

    MXNet does not know of what is written there, so nothing that reads or writes the array may be pending. The address
    is asked for each time: MXNet may move an array, or hand one out in another layout, which asking undoes.
    """
    pointer = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), shape=(array.size,))
