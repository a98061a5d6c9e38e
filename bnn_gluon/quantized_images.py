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

# By the words of `ModelSettings.input_quantization`: functions of 2x - 1, float32 of any shape, for pixels x.
# Source: brevitas, core/quant/binary.py, ClampedBinaryQuant, and core/quant/int_base.py, IntQuant.
INPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sign": lambda x: np.where(x >= 0, np.float32(1), np.float32(-1)),
    "int2": lambda x: np.clip(np.rint(x), -1, 1),
    "int8": lambda x: np.clip(np.rint(x * np.float32(128)), -128, 127) / np.float32(128),
}


def quantize_images(kind: str, images: np.ndarray, quantized: np.ndarray) -> None:
    """Set `quantized` to what the network sees of images: see `ModelSettings.input_quantization`; float32 (n,)."""
    quantized[:] = INPUTS[kind](np.float32(2) * images - np.float32(1))


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
