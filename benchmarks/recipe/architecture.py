"""The papers' notation for networks, parsed into layers: "2x128C3-MP2-2x256C3-MP2-2x1024FC-10FC".

`<n>C<k>` is a convolution with n filters of k x k pixels, padded so that the image keeps its size, `<n>C<k>v` one
without padding ("valid"); `MP<k>` a max pooling of k x k windows, stride k, `MP<k>s<s>p<p>` one of stride s with p
pixels around the image; `AP` likewise the mean of windows, of zeros around them too; `<n>FC` a fully connected layer of
n units; `<r>x` in front repeats a layer r times. At the end is a fully connected layer, or a mean of whole images.
The notation is that of arXiv 1511.00363 section 3.3 and arXiv 1602.02830 section 2; v, s, p and AP are ours.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(
    r"(?:(?P<repeat>[1-9]\d*)x)?(?:(?P<filters>[1-9]\d*)C(?P<kernel>[1-9]\d*)(?P<valid>v)?"
    r"|(?P<kind>[MA])P(?P<pool>[1-9]\d*)(?:s(?P<stride>[1-9]\d*)p(?P<around>\d+))?|(?P<units>[1-9]\d*)FC)"
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
class Pool:
    """The maximum, or the mean, of windows of `size` x `size` pixels.

    Attributes:
        size: of the windows.
        apart: how far the next one is, None: as far as it is wide.
        padding: pixels around the image: no maximum, and zeros that enter a mean.
        mean: whether it is the mean.
    """

    size: int
    apart: int | None = None
    padding: int = 0
    mean: bool = False

    @property
    def stride(self) -> int:
        """How far the next window is."""
        return self.apart or self.size

    @property
    def tiles(self) -> bool:
        """Whether it is a maximum of windows that are side by side, within the image."""
        return not self.mean and self.stride == self.size and not self.padding

    def output(self, side: int) -> int:
        """How many windows there are along a side of so many pixels."""
        return (side + 2 * self.padding - self.size) // self.stride + 1


@dataclass(frozen=True)
class Dense:
    """A fully connected layer of `units` outputs."""

    units: int


Layer = Conv | Pool | Dense


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
        if isinstance(self.layer, Pool):
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
                f"{part!r} is none of '<n>C<k>', '<n>C<k>v', 'MP<k>', 'AP<k>', 'MP<k>s<s>p<p>', '<n>FC' (with '<r>x' in"
                " front to repeat)"
            )
        if len(layers) + int(match["repeat"] or 1) > _MAX_LAYERS:
            raise ValueError(f"{part!r} makes more than {_MAX_LAYERS} layers")
        layers += [_layer(match)] * int(match["repeat"] or 1)
    if any(isinstance(layer, Pool) and not isinstance(before, Conv) for before, layer in pairwise([None, *layers])):
        raise ValueError("a pooling follows no convolution")
    first_dense = next((i for i, layer in enumerate(layers) if isinstance(layer, Dense)), len(layers))
    if not all(isinstance(layer, Dense) for layer in layers[first_dense:]):
        raise ValueError("a convolution follows a fully connected layer")
    last = layers[-1] if layers else None
    if not (isinstance(last, Dense) or (isinstance(last, Pool) and last.mean)):
        raise ValueError("the last layer must be fully connected, one unit a class, or a mean of images, one a class")
    return tuple(layers)


def _layer(match: re.Match[str]) -> Layer:
    if match["filters"]:
        return Conv(int(match["filters"]), int(match["kernel"]), match["valid"] is not None)
    if match["pool"]:
        size, stride, padding = int(match["pool"]), match["stride"], int(match["around"] or 0)
        if 2 * padding > size:
            raise ValueError(
                f"{match[0]!r} has windows outside of the image: expected at most {size // 2} pixels around"
            )
        return Pool(size, None if stride in (None, match["pool"]) else int(stride), padding, match["kind"] == "A")
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
        elif isinstance(layer, Pool):
            output = (shape[0], *map(layer.output, shape[1:]))
            if min(output) < 1:
                kind = "mean" if layer.mean else "max"
                raise ValueError(f"{kind} pooling of {layer.size} finds only {shape[1]}x{shape[2]} pixels")
        else:
            output = (layer.units,)
        shapes.append(LayerShape(layer, shape, output))
        shape = output
    return shapes
