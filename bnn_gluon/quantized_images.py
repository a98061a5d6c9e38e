"""What the network sees of images where it quantizes them: the part in front of the first stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from mxnet import nd

from bnn_gluon.memory import buffer, view

if TYPE_CHECKING:
    from mxnet import gluon

    from bnn_gluon.stages import Draw


def _sign(x: np.ndarray) -> None:
    # `np.where` takes seven times as long: it branches at every value.
    np.greater_equal(x, 0, out=x)
    np.multiply(x, 2, out=x)
    np.subtract(x, 1, out=x)


def _int2(x: np.ndarray) -> None:
    np.clip(np.rint(x, out=x), -1, 1, out=x)


def _int8(x: np.ndarray) -> None:
    np.multiply(x, 128, out=x)
    np.clip(np.rint(x, out=x), -128, 127, out=x)
    np.divide(x, 128, out=x)


# By the words of `ModelSettings.input_quantization`: they change 2x - 1, float32 of any shape, for pixels x.
# Source: brevitas, core/quant/binary.py, ClampedBinaryQuant, and core/quant/int_base.py, IntQuant.
INPUTS: dict[str, Callable[[np.ndarray], None]] = {"sign": _sign, "int2": _int2, "int8": _int8}


def quantize_images(kind: str, images: np.ndarray, quantized: np.ndarray) -> None:
    """Set `quantized` to what the network sees of images: see `ModelSettings.input_quantization`; float32 (n,)."""
    np.multiply(images, 2, out=quantized)
    np.subtract(quantized, 1, out=quantized)
    INPUTS[kind](quantized)


class QuantizedImages:
    """The images as `ModelSettings.input_quantization` has them; they have no gradient."""

    def __init__(self, kind: str) -> None:
        self.parameters: dict[str, gluon.Parameter] = {}
        self.running: dict[str, np.ndarray] = {}
        self._kind = kind

    def forward(self, x: Any, draw: Draw) -> Any:
        return self._quantized(x, buffer(self, "_y", x.shape, gradient=False))

    def backward(self, gradient: Any) -> None:
        """Never called: the first linear layer gives no gradient of the images."""

    def evaluate(self, x: Any) -> Any:
        return self._quantized(x, nd.empty(x.shape))

    def _quantized(self, x: Any, y: Any) -> Any:
        x.wait_to_read()
        quantize_images(self._kind, view(x), view(y))
        return y
