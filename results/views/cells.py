"""A row of the results table as people read it: its headings and its cells, for the terminal, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from results.escape import for_terminal
from results.views.rows import Row

NOTE = (
    "Errors in percent of the test set, at the epoch of the lowest validation error, or the last where the authors "
    "take that, or the best on the test images, which the verdict then says; of several runs the mean. SD seeds: the "
    "standard deviation over the runs. Binomial SE: what other test images would change, no part of a verdict "
    "(docs/verdicts.md). (mem): target not checked against its source; (2nd): target from a secondary source."
)
HEADINGS = {
    "benchmark": "Benchmark",
    "paper": "Paper",
    "data": "Data",
    "target": "Target (%)",
    "test_error": "Test error (%)",
    "seed_deviation": "SD seeds",
    "binomial_error": "Binomial SE",
    "runs": "Runs",
    "verdict": "Verdict",
    "engine": "Engine",
    "date": "Last run",
}
# Of the columns that the table does not have: what they say stands beside something else there.
OTHER_HEADINGS = {
    "target_kind": "Target known by",
    "decimals": "Decimals",
    "diverged": "Diverged",
    "train_error": "Training error (%)",
    "precision": "Precision",
    "repetitions": "Repetitions",
    "notes": "Notes",
}
NUMBERS = (
    "target", "decimals", "test_error", "train_error", "seed_deviation", "binomial_error", "runs", "diverged",
    "repetitions",
)  # fmt: skip


def cells_of(row: Row, columns: Sequence[str] = tuple(HEADINGS)) -> dict[str, str]:
    """A row as people read it, by column, in printable characters.

    A deviation, a note and the like stand beside the number or word that they belong to, if they have no column.
    """
    values = {column: str(getattr(row, column)) for column in columns}
    decimals = dict.fromkeys(("test_error", "train_error", "seed_deviation", "binomial_error"), row.decimals + 1)
    decimals["target"] = row.decimals
    values |= {name: percent_text(getattr(row, name), decimals[name]) for name in columns if name in decimals}
    beside = {
        column: "".join(text for other, text in texts if other not in columns) for column, texts in _beside(row).items()
    }
    return {column: for_terminal((value or "-") + beside.get(column, "")) for column, value in values.items()}


def _beside(row: Row) -> dict[str, list[tuple[str, str]]]:
    """What stands beside a column's value where another column, which has it, is not shown: (that column, text)."""
    deviation, train = (percent_text(error, row.decimals + 1) for error in (row.seed_deviation, row.train_error))
    has_kind = row.target is not None and row.target_kind != "read"
    return {
        "target": [("target_kind", f" ({row.target_kind})" if has_kind else "")],
        "test_error": [
            ("seed_deviation", "" if row.seed_deviation is None else f" \N{PLUS-MINUS SIGN} {deviation}"),
            ("train_error", "" if row.train_error is None else f", training {train}"),
        ],
        "runs": [("diverged", f" (+{row.diverged} diverged)" if row.diverged else "")],
        "verdict": [("notes", f"; {row.notes}" if row.notes else "")],
        "engine": [("precision", f", {row.precision}" if row.precision not in ("", "float32") else "")],
    }


def percent_text(percent: float | None, decimals: int) -> str:
    """A percentage with so many decimals, "-" for None."""
    return "-" if percent is None else f"{percent:.{decimals}f}"
