"""The results table as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from results.escape import for_json
from results.views.rows import Row


def to_json(table: Sequence[Row], columns: Sequence[str] = Row._fields) -> str:
    """The table as a JSON list of objects, numbers unrounded."""
    objects = [{column: getattr(row, column) for column in columns} for row in table]
    text = json.dumps(objects, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{for_json(text)}\n"
