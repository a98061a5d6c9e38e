"""Convolutions on the CPU in which the weights or the input are -H and +H, from tables of signed sums: see `tables`.

With binary weights, the output and the gradient of the input, which is the convolution of the output's gradient with
the weights turned around; with a binary input, the gradient of the weights. What is put into tables is of a single
pixel, so that all taps of the kernel use the same tables, and nothing is copied for each tap.

Memory, float32, C-contiguous; a line is 16 floats side by side::

    of binary weights: 16 lanes are bands of rows of images, as many bands an image as fill the lanes of a batch best
        x        (N, channels, rows, columns)     -> lines (columns, channels, 16) of one row, with zeros up to whole
                                                     groups of channels
        weights  (filters, channels, k, k)        -> codes (chunks, k, k, filters, groups), each row of taps reversed,
                                                     so that neighboring sums have neighboring codes
        product  (N, filters, height, width)      <- ring of k rows (k, width, filters, 16)
        A thread has blocks of 16 lanes.

    of a binary input: 16 lanes are filters
        gradient (N, filters, height, width)      -> lines (width, N, 16) of one row, with zeros up to whole groups
        x        (N, channels, rows, columns)     -> codes (chunks, rows, columns, channels, groups)
        gradient of weights (filters, channels, k, k) <- sums (k, k, channels, 16)
        A thread has blocks of 16 filters.

What is added to what, and in which order, does not depend on the threads.
"""

from __future__ import annotations

import numba
import numpy as np

from benchmarks.recipe.architecture import Conv, LayerShape
from bnn_gluon.kernels import parallel
from bnn_gluon.kernels.convolution_codes import (
    Codes,
    codes_of_bits,
    codes_of_input,
    codes_of_turned_weights,
    codes_of_weights,
)
from bnn_gluon.kernels.fetching import fetch
from bnn_gluon.kernels.squares import give_rows, take_rows
from bnn_gluon.kernels.tables import (
    GROUPS,
    LANES,
    ROWS,
    TABLES,
    add_chunk,
    build_tables,
    first_of_line,
    groups_of,
    scale_of,
)

_LEAST_KERNEL = 3  # a table of one pixel is used once for each tap
_LEAST_CHANNELS = 64
_LEAST_USED = 0.5  # part of lanes and threads
_AHEAD = 4  # channels: their rows lie far apart, so the processor does not fetch them by itself


def applies_to(shape: LayerShape) -> bool:
    """Whether a linear layer's products are made here, if there are enough images.

    Of 32 channels to 64 filters, 5 x 5, gradients below a pooling took as long as by `sparse_gradients`.
    """
    layer = shape.layer
    return (
        isinstance(layer, Conv)
        and layer.kernel >= _LEAST_KERNEL
        and all(count >= _LEAST_CHANNELS and count % LANES == 0 for count in (shape.input_shape[0], layer.filters))
    )


class ConvolutionTables:
    """The products of a convolution, where that pays and all weights, or all inputs, are -H and +H.

    Each function sets its last argument, or does nothing; it returns whether it was set. All arrays are float32.
    """

    def __init__(self, padding: int) -> None:
        """`padding`: with zeros, on each side."""
        self._padding = padding

    def output(self, x: np.ndarray, weights: np.ndarray, product: np.ndarray) -> bool:
        """For x (N, channels, rows, columns), weights (filters, channels, k, k), product (N, filters, rows, cols)."""
        kernel = weights.shape[-1]
        codes = codes_of_weights(weights) if pays_for_product(len(x), product.shape[2], kernel) else None
        if codes is None:
            return False
        convolution(x, codes, kernel, self._padding, product)
        return True

    def gradient_of_input(self, weights: np.ndarray, gradient: np.ndarray, of_x: np.ndarray) -> bool:
        """For weights and the gradient of the product, as above; `of_x` is shaped as x."""
        kernel = weights.shape[-1]
        codes = codes_of_turned_weights(weights) if pays_for_product(len(of_x), of_x.shape[2], kernel) else None
        if codes is None:
            return False
        convolution(gradient, codes, kernel, kernel - 1 - self._padding, of_x)
        return True

    def gradient_of_weights(
        self, x: np.ndarray, gradient: np.ndarray, of_weights: np.ndarray, bits: np.ndarray | None = None
    ) -> bool:
        """For x and the gradient of the product; `of_weights` is shaped as the weights. `bits`: of x, where the product
        was made of them."""
        if not pays_for_weights(len(x), len(of_weights)):
            return False
        codes = codes_of_input(x) if bits is None else codes_of_bits(bits, x.shape[1])
        if codes is None:
            return False
        gradient_of_weights(gradient, codes, self._padding, x, of_weights)
        return True

    def gradients_to_expect(self, x: np.ndarray, weights: np.ndarray) -> set[str]:
        """Which gradients will be set, as far as a sample of the values tells: of "x" and "weight"."""
        pays = {
            "x": pays_for_product(len(x), x.shape[2], weights.shape[-1]) and scale_of(weights) is not None,
            "weight": pays_for_weights(len(x), len(weights)) and scale_of(x) is not None,
        }
        return {name for name, found in pays.items() if found}


def pays_for_product(n: int, height: int, kernel: int) -> bool:
    """Whether `convolution`, of n images to `height` rows, is faster than MXNet's products.

    It is, but for few images, whose lanes stay empty, and for more threads than blocks of lanes. Shapes and the number
    of threads alone decide, and one and two threads alike.
    """
    bands = bands_of(n, height, kernel)
    used = n * height / (LANES * _work(n, height, kernel, bands))
    return bool(used * _balance(-(-n * bands // LANES)) >= _LEAST_USED)


def pays_for_weights(n: int, filters: int) -> bool:
    """Whether `gradient_of_weights`, of n images and so many filters, is: as `pays_for_product`."""
    return bool(n / (groups_of(n) * ROWS) * _balance(filters // LANES) >= _LEAST_USED)


def _balance(tasks: int) -> float:
    """Which part of their time threads work, if the tasks are shared out among them."""
    threads: int = max(2, numba.get_num_threads())
    return tasks / (-(-tasks // threads) * threads)


def convolution(x: np.ndarray, codes: Codes, kernel: int, padding: int, product: np.ndarray) -> None:
    """Set `product` to the convolution of x with binary weights.

    Args:
        x: float32 (N, channels, rows, columns).
        codes: of the weights; to set the gradient of an input, of the turned ones.
        kernel: its side.
        padding: with zeros, on each side; for a gradient, kernel - 1 - padding of the layer.
        product: float32 (N, filters, rows + 2 padding - kernel + 1, columns + 2 padding - kernel + 1); an even number
            of filters.
    """
    bands = bands_of(len(product), product.shape[2], kernel)
    _convolve(x, codes.values, codes.scale, kernel, padding, bands, product)


def bands_of(n: int, height: int, kernel: int) -> int:
    """Into how many bands of rows each of n images is cut, so that the fewest rows of 16 lanes are worked on.

    A band has kernel - 1 rows more to read than it gives, which counts as an eighth of the work on a row.
    """
    return min(
        (bands for bands in (1, 2, 4, 8, 16) if height % bands == 0),
        key=lambda bands: _work(n, height, kernel, bands),
    )


def _work(n: int, height: int, kernel: int, bands: int) -> float:
    return -(-n * bands // LANES) * (height // bands + (kernel - 1) / 8)


def gradient_of_weights(
    gradient: np.ndarray, codes: Codes, padding: int, x: np.ndarray, of_weights: np.ndarray
) -> None:
    """Set `of_weights`, float32 (filters, channels, k, k), for a binary input.

    Args:
        gradient: of the output, float32 (N, filters, height, width); filters are a multiple of 16.
        codes: of the input.
        padding: with zeros, on each side.
        x: the input.
        of_weights: receives the result.
    """
    _set_gradient_of_weights(gradient, codes.values, codes.scale, padding, *x.shape[2:], of_weights)


# -- compiled: arrangement ---------------------------------------------------------------------------------------------


@numba.njit(error_model="numpy")
def _fetch_to_read(values, starts, offset, count):
    """Fetch values[starts[l] + offset + r], r < count, of all lanes."""
    for lane in range(LANES):
        for r in range(0, count, LANES):
            fetch(values, starts[lane] + offset + r, 0)


@numba.njit(error_model="numpy")
def _fetch_to_write(values, starts, lanes, offset, count):
    for lane in range(lanes):
        for r in range(0, count, LANES):
            fetch(values, starts[lane] + offset + r, 1)


@numba.njit(error_model="numpy")
def _take_lanes(source, starts, inside, offset, count, target, to, pitch):
    """target[to + r * pitch + l] = source[starts[l] + offset + r], r < count, for the lanes l that are inside, or 0."""
    take_rows(source, starts, LANES, offset, count, target, to, pitch)
    for lane in range(LANES):
        if inside[lane] == 0:
            for r in range(count):
                target[to + r * pitch + lane] = np.float32(0)


# -- compiled: products ------------------------------------------------------------------------------------------------


@numba.njit(error_model="numpy")
def _give_row(ring, first, done, block, bands, kernel, scale, target, starts, shape):
    """Write a finished row of a block's bands to the product, and make its place in the ring empty."""
    n, filters, height, width = shape
    lanes = min(LANES, n * bands - block * LANES)
    for lane in range(lanes):
        image, own = (block * LANES + lane) // bands, (block * LANES + lane) % bands
        starts[lane] = (image * filters * height + own * (height // bands) + done) * width
    pixel, plane = filters * LANES, height * width
    at = first + done % kernel * width * pixel
    for f in range(filters):
        if f + _AHEAD < filters:
            _fetch_to_write(target, starts, lanes, (f + _AHEAD) * plane, width)
        give_rows(ring, at + f * LANES, pixel, width, scale, target, starts, lanes, f * plane)
    ring[at : at + width * pixel] = np.float32(0)


@parallel.loop
def _convolve(part, x, codes, scale, kernel, padding, bands, product):
    n, channels, rows, columns = x.shape
    _, filters, height, width = product.shape
    source, target = x.reshape(-1), product.reshape(-1)
    band, groups = height // bands, groups_of(channels)
    pixel, pixel_of_ring, row_of_ring = groups * ROWS * LANES, filters * LANES, width * filters * LANES
    lines = np.zeros(columns * pixel + LANES, np.float32)
    ring = np.zeros(kernel * row_of_ring + LANES, np.float32)
    tables = np.empty(TABLES, np.float32)
    line, first, table = first_of_line(lines), first_of_line(ring), first_of_line(tables)
    starts, inside = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    for block in parallel.share(part, (n * bands + LANES - 1) // LANES):
        lanes = min(LANES, n * bands - block * LANES)
        for j in range(band + kernel - 1):
            any_inside = False
            for lane in range(LANES):
                image, own = (block * LANES + lane) // bands, (block * LANES + lane) % bands
                row = own * band + j - padding
                inside[lane] = lane < lanes and row >= 0 and row < rows
                starts[lane] = (image * channels * rows + row) * columns if inside[lane] else 0
                any_inside |= inside[lane] != 0
            if any_inside:
                for c in range(channels):
                    to = line + c * LANES
                    if c + _AHEAD < channels:
                        _fetch_to_read(source, starts, (c + _AHEAD) * rows * columns, columns)
                    _take_lanes(source, starts, inside, c * rows * columns, columns, lines, to, pixel)
                low_tap, high_tap = max(0, j - band + 1), min(kernel, j + 1)
                for w in range(columns):
                    low, high = max(0, w + padding - kernel + 1), min(width, w + padding + 1)
                    tap = low - (w + padding - kernel + 1)
                    count = (high - low) * filters
                    for begin in range(0, groups, GROUPS):
                        together = min(GROUPS, groups - begin)
                        build_tables(tables, table, lines, line + w * pixel + begin * ROWS * LANES, together)
                        code = begin * kernel * kernel * filters + tap * filters * together
                        for dy in range(low_tap, high_tap):
                            at = first + (j - dy) % kernel * row_of_ring + low * pixel_of_ring
                            own = code + dy * kernel * filters * together
                            add_chunk(ring, at, codes, own, tables, table, count, together, False)
            done = j - kernel + 1
            if done >= 0:
                _give_row(ring, first, done, block, bands, kernel, scale, target, starts, product.shape)


@parallel.loop
def _set_gradient_of_weights(part, gradient, codes, scale, padding, rows, columns, of_weights):
    n, filters, height, width = gradient.shape
    _, channels, kernel, _ = of_weights.shape
    source, target = gradient.reshape(-1), of_weights.reshape(-1)
    groups, taps = groups_of(n), kernel * kernel
    pixel = groups * ROWS * LANES
    lines = np.zeros(width * pixel + LANES, np.float32)
    sums = np.empty(taps * channels * LANES + LANES, np.float32)
    tables = np.empty(TABLES, np.float32)
    line, first, table = first_of_line(lines), first_of_line(sums), first_of_line(tables)
    starts, inside = np.zeros(LANES, np.int64), np.ones(LANES, np.int64)
    for block in parallel.share(part, filters // LANES):
        sums[first : first + taps * channels * LANES] = np.float32(0)
        for y in range(height):
            for image in range(n):
                for lane in range(LANES):
                    starts[lane] = ((image * filters + block * LANES + lane) * height + y) * width
                if image + _AHEAD < n:
                    _fetch_to_read(source, starts, _AHEAD * filters * height * width, width)
                _take_lanes(source, starts, inside, 0, width, lines, line + image * LANES, pixel)
            low_tap, high_tap = max(0, padding - y), min(kernel, rows + padding - y)
            for w in range(width):
                low, high = max(0, padding - w), min(kernel, columns + padding - w)
                count = (high - low) * channels
                for begin in range(0, groups, GROUPS):
                    together = min(GROUPS, groups - begin)
                    build_tables(tables, table, lines, line + w * pixel + begin * ROWS * LANES, together)
                    for dy in range(low_tap, high_tap):
                        place = begin * rows * columns + ((y + dy - padding) * columns + w + low - padding) * together
                        at, code = first + (dy * kernel + low) * channels * LANES, place * channels
                        add_chunk(sums, at, codes, code, tables, table, count, together, False)
        for lane in range(LANES):
            starts[lane] = (block * LANES + lane) * channels * taps
        for c in range(channels):
            give_rows(sums, first + c * LANES, channels * LANES, taps, scale, target, starts, LANES, c * taps)
