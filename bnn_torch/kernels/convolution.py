"""The gradients of a convolution of stride 1, padded with zeros.

They are PyTorch's, but for two of float32 weights. On the CPU oneDNN's has about half the speed of a product of
matrices, and its two other products of a convolution nearly all of it (docs/performance.md): so it is made of products.
On a GPU that of a layer with one input channel is wrong by up to a thousandth of the largest element, with TF32 off too
(H100, cuDNN of PyTorch 2.11, 5 x 5; with 32 channels it is right to 2e-6): so it is made of products as well.

Memory, some images at a time, so that the unfolded input stays in the cache; channels last, contiguous::

    padded   (images, height + 2 padding, width + 2 padding, channels)
    unfolded (images, rows, columns, k, k * channels)    a view of `padded` with overlaps, copied out:
             = matrix (images * rows * columns, k * k * channels)
    g        (images, rows, columns, filters) = matrix (images * rows * columns, filters)
    total    (k * k * channels, filters) += unfolded^T g
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_BYTES = 8 * 2**20  # of unfolded input at a time: it stays in the cache, and products are large enough


def convolution_gradients(
    g: Tensor, x: Tensor, weight: Tensor, padding: int, *, of_input: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of the input, if it is asked for, and of the weights, from that of the output.

    Args:
        g: (N, filters, rows, columns), of the dtype of all others and of the gradients.
        x: (N, channels, rows - 2 padding + kernel - 1, columns - 2 padding + kernel - 1).
        weight: (filters, channels, kernel, kernel).
    """
    by_products = g.dtype == torch.float32 and (g.device.type == "cpu" or x.shape[1] == 1)
    of_x = of_weight = None
    if of_input or not by_products:
        sides, wanted = [padding] * 2, [of_input, not by_products, False]
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            g, x, weight, None, [1, 1], sides, [1, 1], False, [0, 0], 1, wanted
        )
    return of_x, conv_weight_gradient(g, x, weight.shape[2], padding) if by_products else of_weight


@torch.library.custom_op("bnn_torch::conv_weight_gradient", mutates_args=())
def conv_weight_gradient(g: Tensor, x: Tensor, kernel: int, padding: int) -> Tensor:
    """The gradient of the weights by products of matrices.

    The input is unfolded, some images at a time, so that each row has what the weights meet at one pixel of the output:
    its product with the gradient of these pixels is the images' part of the sum.

    Args:
        g, x: see `convolution_gradients`; float32, of any layout, channels last being the fastest.

    Returns:
        float32 (filters, channels, kernel, kernel), channels last.
    """
    g, x = g.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
    (n, rows, columns, filters), (_, height, width, channels) = g.shape, x.shape
    inputs = kernel * kernel * channels
    images = min(n, max(1, BLOCK_BYTES // (4 * rows * columns * inputs)))
    padded = x.new_zeros((images, height + 2 * padding, width + 2 * padding, channels))
    inside = padded[:, padding : padding + height, padding : padding + width]
    of_image, of_row, of_pixel, _ = padded.stride()
    # A row of a window lies in one piece: `kernel` pixels with all their channels.
    windows = padded.as_strided(
        (images, rows, columns, kernel, kernel * channels), (of_image, of_row, of_pixel, of_row, 1)
    )
    unfolded = torch.empty_like(windows, memory_format=torch.contiguous_format)
    total = x.new_zeros((inputs, filters))
    for start in range(0, n, images):
        part = g[start : start + images].reshape(-1, filters)
        count = min(images, n - start)
        inside[:count].copy_(x[start : start + count])
        unfolded[:count].copy_(windows[:count])
        total.addmm_(unfolded[:count].view(-1, inputs).t(), part)
    return total.t().contiguous().view(filters, kernel, kernel, channels).permute(0, 3, 1, 2)


@conv_weight_gradient.register_fake
def _(g: Tensor, x: Tensor, kernel: int, padding: int) -> Tensor:
    return g.new_empty((g.shape[1], kernel, kernel, x.shape[1])).permute(0, 3, 1, 2)
