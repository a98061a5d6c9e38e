"""The results table for a terminal: in a rich table, or in aligned columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from results.views.cells import HEADINGS, NUMBERS, cells_of
from results.views.rows import Row

if TYPE_CHECKING:
    from rich.table import Table


def to_rich(table: Sequence[Row]) -> Table:
    """The table for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    view = Table(box=SIMPLE_HEAD)
    for column, heading in HEADINGS.items():
        view.add_column(heading, justify="right" if column in NUMBERS else "left", no_wrap=column == "benchmark")
    for row in table:
        view.add_row(*map(Text, cells_of(row).values()))
    return view


def to_columns(table: Sequence[Row]) -> str:
    """The table in aligned columns, its lines as long as they need: made faster than `to_rich`, which wraps."""
    cells = [tuple(HEADINGS.values()), *(tuple(cells_of(row).values()) for row in table)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    align = [str.rjust if column in NUMBERS else str.ljust for column in HEADINGS]
    lines = ["  ".join(a(cell, n) for a, cell, n in zip(align, line, widths, strict=True)).rstrip() for line in cells]
    lines.insert(1, "-" * max(map(len, lines)))
    return "".join(f"{line}\n" for line in lines)
