"""The results table for programs: results/table.csv. The same rows give the same bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from results.errors import RegistryError, field_and_message
from results.escape import for_csv
from results.files import write_atomically
from results.lines import content
from results.registry import Problem
from results.views.cells import percent_text
from results.views.rows import Row

# Of results/table.csv. A program that needs no number of decimals to show has no use for `decimals`.
COLUMNS = tuple(column for column in Row._fields if column != "decimals")


def to_csv(table: Sequence[Row], columns: Sequence[str] = COLUMNS) -> str:
    """The table for programs: bare numbers, one column a fact, empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in table:
        cells = _cells(row)
        writer.writerow([cells[column] for column in columns])
    return text.getvalue()


def _cells(row: Row) -> dict[str, str | int]:
    """A cell for each field of a row."""
    decimals = row.decimals + 1
    cells = {name: for_csv(value) if isinstance(value, str) else value for name, value in row._asdict().items()}
    return cells | {
        "target": _number(row.target, row.decimals),
        "target_kind": cells["target_kind"] if row.target is not None else "",
        "test_error": _number(row.test_error, decimals),
        "seed_deviation": _number(row.seed_deviation, decimals),
        "binomial_error": _number(row.binomial_error, decimals),
        "train_error": _number(row.train_error, decimals),
    }


def write_csv(table: Sequence[Row], path: Path) -> None:
    """Write `path` (results/table.csv); a file that would not change is not touched.

    Raises RegistryError if it is no file, or cannot be read or written.
    """
    text = to_csv(table).encode()
    if content(path) != text:
        write_atomically(path, text)


def check_csv(table: Sequence[Row], path: Path) -> list[Problem]:
    """Whether `path` (results/table.csv) is this table; for when all records are valid."""
    if not path.exists():
        return [Problem(path, "content", "missing; `python cli.py table --write` makes it")] if table else []
    try:
        is_table = content(path) == to_csv(table).encode()
    except RegistryError as error:
        return [Problem(path, *field_and_message(error, path))]
    if not is_table:
        return [Problem(path, "content", "does not follow from the records; `python cli.py table --write` mends it")]
    return []


def _number(percent: float | None, decimals: int) -> str:
    return "" if percent is None else percent_text(percent, decimals)
