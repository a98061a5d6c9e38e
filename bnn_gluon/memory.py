"""NumPy views of the memory of MXNet's arrays, and arrays that are used again."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from mxnet import nd
from mxnet.base import _LIB, check_call


def shaped_view(array: Any) -> np.ndarray:
    """A writable NumPy view of an NDArray's memory, float32, of its shape.

    MXNet does not notice what is written there, so nothing that reads or writes the array may be pending. The address
    is asked for each time: MXNet may move an array, or hand one out in another layout, which asking undoes.
    """
    pointer, shape = ctypes.c_void_p(), array.shape
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    assert pointer.value is not None
    # A step of a small network looks at a hundred arrays: np.ctypeslib.as_array would take four times as long.
    memory = (ctypes.c_float * math.prod(shape)).from_address(pointer.value)
    return np.ndarray(shape, np.float32, memory)


def view(array: Any) -> np.ndarray:
    """`shaped_view`, flat."""
    return shaped_view(array).reshape(-1)


def buffer(owner: object, name: str, shape: tuple[int, ...], *, gradient: bool = True) -> Any:
    """The NDArray `owner.name`, with a gradient or without, made anew when the shape changes."""
    kept = getattr(owner, name, None)
    if kept is None or kept.shape != shape:
        kept = nd.empty(shape)
        if gradient:
            kept.attach_grad()
        setattr(owner, name, kept)
    return kept
