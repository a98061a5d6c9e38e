"""What the network sees of images where it quantizes them: the part in front of the first stage."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bnn_torch.linear import Given

# By the words of `ModelSettings.input_quantization`: functions of 2x - 1, float32 of any shape, for pixels x.
# Source: brevitas, core/quant/binary.py, ClampedBinaryQuant, and core/quant/int_base.py, IntQuant.
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign": lambda x: (x >= 0).to(torch.float32) * 2 - 1,
    "int2": lambda x: x.round().clamp(-1, 1),
    "int8": lambda x: (x * 128).round().clamp(-128, 127) / 128,
}


def quantize_images(kind: str, images: Tensor) -> Tensor:
    """What the network sees of images, float32 of any shape: see `ModelSettings.input_quantization`."""
    return INPUTS[kind](2 * images - 1)


class QuantizedImages:
    """The images as `ModelSettings.input_quantization` has them; they have no gradient."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def forward(self, x: Tensor, given: Given) -> tuple[Tensor, None]:
        return self.evaluate(x, given), None

    def backward(self, g: Tensor, given: Given, taped: None) -> tuple[None, dict[str, Tensor]]:
        """Never called: the first linear layer gives no gradient of the images."""
        return None, {}

    def evaluate(self, x: Tensor, given: Given) -> Tensor:
        return quantize_images(self._kind, x)
