"""A row of the results table as people read it: its headings and its cells, for the terminal and for Markdown."""

from __future__ import annotations

from results.escape import for_terminal
from results.views.rows import Row

NOTE = (
    "Errors in percent of the test set, at the epoch of the lowest validation error, or the last where the authors "
    "take that; of several runs the mean. SD seeds: the standard deviation over the runs. Binomial SE: what other test "
    "images would change, no part of a verdict (docs/verdicts.md). (mem): target not checked against its source; "
    "(2nd): target from a secondary source."
)
HEADINGS = {
    "benchmark": "Benchmark",
    "paper": "Paper",
    "data": "Data",
    "target": "Target (%)",
    "measured": "Test error (%)",
    "seed_deviation": "SD seeds",
    "binomial_error": "Binomial SE",
    "runs": "Runs",
    "verdict": "Verdict",
    "engine": "Engine",
    "date": "Last run",
}
NUMBERS = ("target", "measured", "seed_deviation", "binomial_error", "runs")


def cells_of(row: Row) -> dict[str, str]:
    """A row as people read it, by column of HEADINGS, in printable characters."""
    mark = f" ({row.target_kind})" if row.target is not None and row.target_kind != "read" else ""
    train = "" if row.train_error is None else f", training {percent_text(row.train_error, row.decimals + 1)}"
    cells = {
        "benchmark": row.benchmark,
        "paper": row.paper,
        "data": row.data,
        "target": percent_text(row.target, row.decimals) + mark,
        "measured": percent_text(row.test_error, row.decimals + 1) + train,
        "seed_deviation": percent_text(row.seed_deviation, row.decimals + 1),
        "binomial_error": percent_text(row.binomial_error, row.decimals + 1),
        "runs": f"{row.runs} (+{row.diverged} diverged)" if row.diverged else str(row.runs),
        "verdict": row.verdict + (f"; {row.notes}" if row.notes else ""),
        "engine": (row.engine or "-") + (f", {row.precision}" if row.precision not in ("", "float32") else ""),
        "date": row.date or "-",
    }
    return {column: for_terminal(cell) for column, cell in cells.items()}


def percent_text(percent: float | None, decimals: int) -> str:
    """A percentage with so many decimals, "-" for None."""
    return "-" if percent is None else f"{percent:.{decimals}f}"
