"""Narrower networks for short checks: all layers of a recipe's architecture, with fewer filters and units."""

from __future__ import annotations

import re
from collections.abc import Callable

Width = Callable[[int], int]


def narrowed(architecture: str, filters: Width, units: Width) -> str:
    """With `filters` of each convolution's filters and `units` of each dense layer's units; the output stays."""
    *hidden, last = re.split(r"-(?=\d+(?:FC$|C\d+-AP\d+$))", architecture)

    def narrow(match: re.Match[str]) -> str:
        width = units if match["kind"] == "FC" else filters
        return f"{width(int(match['width']))}{match['kind']}"

    return "-".join([*(re.sub(r"(?P<width>\d+)(?P<kind>C(?=\d)|FC)", narrow, part) for part in hidden), last])
