r"""The results table in LaTeX: a file that a paper takes in with `\\\\input`."""

from __future__ import annotations

from collections.abc import Sequence

from results.escape import for_latex
from results.views.cells import HEADINGS, NUMBERS, OTHER_HEADINGS, cells_of
from results.views.rows import Row

# What fits on a page; the deviation over the seeds stands beside the mean.
COLUMNS = ("benchmark", "data", "target", "test_error", "runs", "verdict")
_COMMENT = r"""% \usepackage{booktabs}, and in the text: \begin{table} \caption{...} \input{this file} \end{table}
% Errors in percent of the test set; of several runs the mean +- the standard deviation over the seeds.
"""


def to_latex(table: Sequence[Row], columns: Sequence[str] = COLUMNS) -> str:
    """The table as a `tabular` with the rules of booktabs, in ASCII: it goes into any document."""
    headings = HEADINGS | OTHER_HEADINGS
    lines = [list(cells_of(row, columns).values()) for row in table]
    aligned = "".join("r" if column in NUMBERS else "l" for column in columns)
    head, *body = (" & ".join(map(for_latex, line)) for line in ([headings[column] for column in columns], *lines))
    rows = [r"\toprule", rf"{head} \\", r"\midrule", *(rf"{line} \\" for line in body), r"\bottomrule"]
    return _COMMENT + "\n".join([rf"\begin{{tabular}}{{{aligned}}}", *rows, r"\end{tabular}"]) + "\n"
