"""The papers' notation for networks, parsed into layers: "2x128C3-MP2-2x256C3-MP2-2x1024FC-10FC".

`<n>C<k>` is a convolution with n filters of k x k pixels, padded so that the image keeps its size, `<n>C<k>v` one
without padding ("valid"); `MP<k>` a max pooling of k x k windows, stride k; `<n>FC` a fully connected layer of n units;
`<r>x` in front repeats a layer r times.
The notation is that of arXiv 1511.00363 section 3.3 and arXiv 1602.02830 section 2; the v is ours.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(
    r"(?:(?P<repeat>[1-9]\d*)x)?(?:(?P<filters>[1-9]\d*)C(?P<kernel>[1-9]\d*)(?P<valid>v)?|MP(?P<pool>[1-9]\d*)|(?P<units>[1-9]\d*)FC)"
)
_MAX_LAYERS = 1000  # a typing slip such as "99999999x8FC" must not eat the memory


@dataclass(frozen=True)
class Conv:
    """A convolution: `filters` kernels of `kernel` x `kernel` pixels; the output is as large as the input, or, if
    `valid`, by kernel - 1 smaller: every window lies inside of the image.
    """

    filters: int
    kernel: int
    valid: bool = False

    @property
    def padding(self) -> int:
        """Pixels added on each side of the input."""
        return 0 if self.valid else self.kernel // 2


@dataclass(frozen=True)
class MaxPool:
    """Max pooling of `size` x `size` windows, stride `size`."""

    size: int


@dataclass(frozen=True)
class Dense:
    """A fully connected layer of `units` outputs."""

    units: int


Layer = Conv | MaxPool | Dense


@dataclass(frozen=True)
class LayerShape:
    """One layer with what it maps: shapes without the batch axis, (channels, rows, columns) or (units,)."""

    layer: Layer
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def fan_in(self) -> int:
        """Inputs that one output sees: 9 * channels for a 3x3 convolution."""
        if isinstance(self.layer, Conv):
            return self.layer.kernel**2 * self.input_shape[0]
        return math.prod(self.input_shape)

    @property
    def fan_out(self) -> int:
        """Outputs that one input reaches, pooling not corrected for, as in Glorot's rule of the authors' code."""
        if isinstance(self.layer, Conv):
            return self.layer.kernel**2 * self.layer.filters
        return math.prod(self.output_shape)

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        if isinstance(self.layer, MaxPool):
            return 0
        return self.fan_in * self.output_shape[0]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one forward pass over one image."""
        if isinstance(self.layer, Conv):
            return self.weights * math.prod(self.output_shape[1:])
        return self.weights


def parse_architecture(text: str) -> tuple[Layer, ...]:
    """Parse the papers' notation.

    Raises:
        ValueError: naming the part that is not understood, or an order that no network has.
    """
    layers: list[Layer] = []
    for part in text.split("-"):
        match = _TOKEN.fullmatch(part)
        if match is None:
            raise ValueError(
                f"{part!r} is none of '<n>C<k>', '<n>C<k>v', 'MP<k>', '<n>FC' (with '<r>x' in front to repeat)"
            )
        if len(layers) + int(match["repeat"] or 1) > _MAX_LAYERS:
            raise ValueError(f"{part!r} makes more than {_MAX_LAYERS} layers")
        layers += [_layer(match)] * int(match["repeat"] or 1)
    if any(isinstance(layer, MaxPool) and not isinstance(before, Conv) for before, layer in pairwise([None, *layers])):
        raise ValueError("a pooling follows no convolution")
    first_dense = next((i for i, layer in enumerate(layers) if isinstance(layer, Dense)), len(layers))
    if not all(isinstance(layer, Dense) for layer in layers[first_dense:]):
        raise ValueError("a convolution follows a fully connected layer")
    if not layers or not isinstance(layers[-1], Dense):
        raise ValueError("the last layer must be fully connected, one unit a class")
    return tuple(layers)


def _layer(match: re.Match[str]) -> Layer:
    if match["filters"]:
        return Conv(int(match["filters"]), int(match["kernel"]), match["valid"] is not None)
    if match["pool"]:
        return MaxPool(int(match["pool"]))
    return Dense(int(match["units"]))


def layer_shapes(layers: tuple[Layer, ...], input_shape: tuple[int, ...]) -> list[LayerShape]:
    """Shapes through the network for images of `input_shape` (channels, rows, columns).

    Raises:
        ValueError: if the image gets smaller than a window, or a kernel of even size is to keep the image's size.
    """
    shapes = []
    shape = input_shape
    for layer in layers:
        if isinstance(layer, Conv):
            if layer.kernel % 2 == 0 and not layer.valid:
                raise ValueError(
                    f"a {layer.kernel}x{layer.kernel} kernel cannot keep the image size: its size must be odd"
                )
            output: tuple[int, ...] = (
                layer.filters,
                *(side + 2 * layer.padding - layer.kernel + 1 for side in shape[1:]),
            )
            if min(output) < 1:
                raise ValueError(f"a {layer.kernel}x{layer.kernel} kernel finds only {shape[1]}x{shape[2]} pixels")
        elif isinstance(layer, MaxPool):
            output = (shape[0], *(side // layer.size for side in shape[1:]))
            if 0 in output:
                raise ValueError(f"max pooling of {layer.size} finds only {shape[1]}x{shape[2]} pixels")
        else:
            output = (layer.units,)
        shapes.append(LayerShape(layer, shape, output))
        shape = output
    return shapes
