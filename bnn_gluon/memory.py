"""NumPy views of the memory of MXNet's arrays, and arrays that are used again."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from mxnet import nd
from mxnet.base import _LIB, check_call


def view(array: Any) -> np.ndarray:
    """A flat, writable NumPy view of an NDArray's memory, float32.

    MXNet does not notice what is written there, so nothing that reads or writes the array may be pending. The address
    is asked for each time: MXNet may move an array, or hand one out in another layout, which asking undoes.
    """
    pointer = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), shape=(array.size,))


def buffer(owner: object, name: str, shape: tuple[int, ...], *, gradient: bool = True) -> Any:
    """The NDArray `owner.name`, with a gradient or without, made anew when the shape changes."""
    kept = getattr(owner, name, None)
    if kept is None or kept.shape != shape:
        kept = nd.empty(shape)
        if gradient:
            kept.attach_grad()
        setattr(owner, name, kept)
    return kept
