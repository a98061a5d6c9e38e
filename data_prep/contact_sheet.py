"""Contact sheets: the same images before and after a preprocessing, to be looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_prep.storage.files import replacing

Images = NDArray[np.float32]

_ENLARGED = 2
_GAP = 2  # pixels between two images
_MARGIN = 24  # around a sheet, with a line of text above and below
# What lies outside these percentiles of all values is shown black or white: a few pixels reach many times further.
_PERCENTILES = (0.5, 99.5)


def contact_sheet(published: Images, preprocessed: Images, name: str, path: Path) -> None:
    """Write both as square grids side by side, as PNG.

    Args:
        published: (N, channels, height, width) with one or three channels, in [0,1].
        preprocessed: the same images, with any values; stretched to be seen, all by the same amount.
        name: of the preprocessing, for the heading.

    Raises:
        StorageError: `path` cannot be written.
    """
    low, high = np.percentile(preprocessed, _PERCENTILES)
    seen = f"{low:.3g} shown black, {high:.3g} white"
    extremes = f"values {preprocessed.min():.3g} to {preprocessed.max():.3g}"
    left = _captioned(_grid(published), "as published", f"the first {len(published)} training images")
    right = _captioned(_grid((preprocessed - low) / (high - low)), name, f"{seen}; {extremes}")
    _write_beside(left, right, path)


def two_sheets(halves: Sequence[tuple[str, str, Images]], path: Path) -> None:
    """Write two square grids of images side by side, as PNG; each half has a line of text above and one below.

    Args:
        halves: text above, text below, images (N, channels, height, width) in [0,1]; N may be 0.

    Raises:
        StorageError: `path` cannot be written.
    """
    left, right = (_captioned(_grid(images), above, below) for above, below, images in halves)
    _write_beside(left, right, path)


def _write_beside(left: Image.Image, right: Image.Image, path: Path) -> None:
    sheet = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width, 0))
    with replacing(path) as stream:
        sheet.save(stream, "PNG")


def _grid(images: Images) -> Image.Image:
    """Images with values in [0,1], what is outside cut off, row by row in a square."""
    count, _, height, width = images.shape
    across = max(1, math.ceil(math.sqrt(count)))
    step = (width * _ENLARGED + _GAP, height * _ENLARGED + _GAP)
    grid = Image.new("RGB", (across * step[0], math.ceil(count / across) * step[1]), "white")
    levels = (np.clip(images, 0, 1) * 255).round().astype(np.uint8)
    pixels = np.broadcast_to(levels, (count, 3, height, width)).transpose(0, 2, 3, 1)
    for place, image in enumerate(pixels):
        enlarged = Image.fromarray(np.ascontiguousarray(image)).resize(
            (width * _ENLARGED, height * _ENLARGED), Image.Resampling.NEAREST
        )
        grid.paste(enlarged, (place % across * step[0], place // across * step[1]))
    return grid


def _captioned(grid: Image.Image, above: str, below: str) -> Image.Image:
    font = ImageFont.load_default(14)
    text = max(math.ceil(font.getlength(line)) for line in (above, below))
    size = max(grid.width, text) + 2 * _MARGIN, grid.height + 2 * _MARGIN
    sheet = Image.new("RGB", size, "white")
    sheet.paste(grid, (_MARGIN, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 4), above, "black", font)
    draw.text((_MARGIN, sheet.height - _MARGIN + 2), below, "black", font)
    return sheet
