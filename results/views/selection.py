"""Which rows of the results table somebody asks for, and in which order."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_type_hints

from results.views.rows import Row

NUMERIC = frozenset(name for name, hint in get_type_hints(Row).items() if hint is not str)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
CONTAINS = "~"
OPERATORS = (*COMPARISONS, CONTAINS)  # those of two characters first, for whoever looks for one in a text


class Filter(NamedTuple):
    """What the rows must be, by one column: compared by `comparison`, one of OPERATORS, with `value`.

    Text is compared letter by letter (dates are in the order of time), and `~` finds a part of it, in capital or small
    letters. A number that a row lacks is different from all, neither less nor more; "" stands for it after = and !=.
    """

    column: str
    comparison: str
    value: str

    def check(self) -> None:
        """Raise ValueError where the value is none that this column can be compared with."""
        if self.column not in NUMERIC:
            return
        if self.comparison == CONTAINS:
            raise ValueError(f"{self.column} is a number: expected one of {' '.join(COMPARISONS)} after it")
        if not (self.value == "" and self.comparison in ("=", "!=")) and not _is_number(self.value):
            raise ValueError(f"{self.column} is a number: expected one after {self.comparison}")

    def fits(self, row: Row) -> bool:
        """Whether a row is wanted."""
        found = getattr(row, self.column)
        if self.comparison == CONTAINS:
            return self.value.lower() in found.lower()
        if self.column not in NUMERIC:
            return COMPARISONS[self.comparison](found, self.value)
        wanted = float(self.value) if self.value else None
        if found is None or wanted is None:
            return self.comparison in ("=", "!=") and COMPARISONS[self.comparison](found, wanted)
        # A mean of errors is rarely the very number that its digits say.
        return COMPARISONS[self.comparison](wanted if math.isclose(found, wanted, rel_tol=1e-9) else found, wanted)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def sort_rows(table: Iterable[Row], column: str, *, descending: bool = False) -> list[Row]:
    """The rows in the order of a column, those that have nothing there last; equal ones stay in their order."""
    rows = list(table)
    having = [row for row in rows if getattr(row, column) not in (None, "")]
    lacking = [row for row in rows if getattr(row, column) in (None, "")]
    return sorted(having, key=lambda row: getattr(row, column), reverse=descending) + lacking
