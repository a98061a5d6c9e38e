"""The results table for people at a terminal, as many columns as its lines have room for; or all of it, for a file."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from results.views.cells import HEADINGS, NUMBERS, cells_of
from results.views.rows import Row

GAP = "  "
# Left out, the first one first, where lines have no room; the other columns always stay.
DROPPED = ("binomial_error", "date", "seed_deviation", "engine", "runs", "data")
WRAPPED = ("verdict", "test_error")  # may take several lines, broken at spaces; narrowed in this order


class _Column(NamedTuple):
    """A column as it is printed. cells: the heading, then those of all rows."""

    name: str
    width: int
    cells: list[str]

    def lines(self, place: int) -> list[str]:
        """A cell in lines of exactly the column's width."""
        lines = textwrap.wrap(self.cells[place], self.width, break_long_words=False, break_on_hyphens=False)
        return [_aligned(self.name, line, self.width) for line in lines or [""]]


def to_columns(table: Sequence[Row]) -> str:
    """The whole table, a line a row, as long as it needs: for files and other programs."""
    columns = _columns(table)
    lines = [
        GAP.join(_aligned(column.name, column.cells[place], column.width) for column in columns).rstrip()
        for place in range(len(table) + 1)
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "".join(f"{line}\n" for line in lines)


def to_text(table: Sequence[Row], width: int) -> str:
    """The table in lines of at most `width` characters, the rows of each paper below its name.

    Nothing that is shown is cut: verdicts and errors may take several lines, and a last line names the columns that are
    left out. Lines are longer where there is no room for benchmark, target, error and verdict.
    """
    columns = _columns(table)
    papers = next(column.cells for column in columns if column.name == "paper")
    columns = [column for column in columns if column.name != "paper"]
    left_out = []
    for name in DROPPED:
        if _length(_narrowed(columns, width)) <= width:
            break
        columns = [column for column in columns if column.name != name]
        left_out.append(HEADINGS[name])
    columns = _narrowed(columns, width)
    lines = [*_row(columns, 0), "-" * _length(columns)]
    of_paper: dict[str, list[int]] = {}
    for place, paper in enumerate(papers[1:], 1):
        of_paper.setdefault(paper, []).append(place)
    for paper, places in of_paper.items():
        lines += ["", paper, *itertools.chain.from_iterable(_row(columns, place) for place in places)]
    if left_out:
        note = f"A wider terminal, or a file, also shows {', '.join(left_out)}."
        lines += ["", *textwrap.wrap(note, width)]
    return "".join(f"{line}\n" for line in lines)


def _columns(table: Sequence[Row]) -> list[_Column]:
    """All columns, each as wide as its longest cell."""
    rows = [HEADINGS, *map(cells_of, table)]
    cells = {name: [row[name] for row in rows] for name in HEADINGS}
    return [_Column(name, max(map(len, of_column)), of_column) for name, of_column in cells.items()]


def _length(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _narrowed(columns: Sequence[_Column], width: int) -> list[_Column]:
    """The columns, those of WRAPPED as narrow as lines of `width` need, down to their longest word."""
    found = {column.name: column for column in columns}
    for name in WRAPPED:
        column, excess = found[name], max(0, _length(list(found.values())) - width)
        longest_word = max(len(word) for cell in column.cells for word in cell.split())
        found[name] = column._replace(width=max(longest_word, column.width - excess))
    return list(found.values())


def _row(columns: Sequence[_Column], place: int) -> Iterator[str]:
    """The lines of a row."""
    blank = [" " * column.width for column in columns]
    for line in itertools.zip_longest(*(column.lines(place) for column in columns)):
        yield GAP.join(part or empty for part, empty in zip(line, blank, strict=True)).rstrip()


def _aligned(name: str, cell: str, width: int) -> str:
    return cell.rjust(width) if name in NUMBERS else cell.ljust(width)
