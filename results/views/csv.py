"""The results table for programs: results/table.csv. The same rows give the same bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from results.escape import for_csv
from results.files import write_atomically
from results.registry import Problem
from results.views.cells import percent_text
from results.views.rows import Row


def to_csv(table: Sequence[Row]) -> str:
    """The table for programs: bare numbers, one column a fact, empty where there is none."""
    columns = {
        "benchmark": [row.benchmark for row in table],
        "paper": [row.paper for row in table],
        "data": [row.data for row in table],
        "target": [_number(row.target, row.decimals) for row in table],
        "target_kind": [row.target_kind if row.target is not None else "" for row in table],
        "runs": [row.runs for row in table],
        "diverged": [row.diverged for row in table],
        "test_error": [_number(row.test_error, row.decimals + 1) for row in table],
        "seed_deviation": [_number(row.seed_deviation, row.decimals + 1) for row in table],
        "binomial_error": [_number(row.binomial_error, row.decimals + 1) for row in table],
        "verdict": [row.verdict for row in table],
        "engine": [row.engine for row in table],
        "date": [row.date for row in table],
        "train_error": [_number(row.train_error, row.decimals + 1) for row in table],
        "precision": [row.precision for row in table],
        "repetitions": [row.repetitions for row in table],
        "notes": [row.notes for row in table],
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for line in zip(*columns.values(), strict=True):
        writer.writerow([for_csv(cell) if isinstance(cell, str) else cell for cell in line])
    return text.getvalue()


def write_csv(table: Sequence[Row], path: Path) -> None:
    """Write `path` (results/table.csv); a file that would not change is not touched."""
    text = to_csv(table).encode()
    if not path.exists() or path.read_bytes() != text:
        write_atomically(path, text)


def check_csv(table: Sequence[Row], path: Path) -> list[Problem]:
    """Whether `path` (results/table.csv) is this table; for when all records are valid."""
    if not path.exists():
        return [Problem(path, "content", "missing; `python cli.py table --write` makes it")] if table else []
    if path.read_bytes() != to_csv(table).encode():
        return [Problem(path, "content", "does not follow from the records; `python cli.py table --write` mends it")]
    return []


def _number(percent: float | None, decimals: int) -> str:
    return "" if percent is None else percent_text(percent, decimals)
