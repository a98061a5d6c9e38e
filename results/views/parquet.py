"""The results table as Parquet, for data frames: typed columns, numbers unrounded.

It needs pyarrow, which is an extra: no other view does, and it is as large as an engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_type_hints

from results.views.rows import Row


def to_parquet(table: Sequence[Row], columns: Sequence[str] = Row._fields) -> bytes:
    """The table as a Parquet file: whole numbers as int64, others as double, null where there is nothing to say.

    Raises:
        ImportError: pyarrow is not installed; the message says what installs it.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        # A version that works beside the NumPy that requirements.txt pins: the newest (26) refuses it.
        install = "`python -m pip install pyarrow==23.0.1`"
        raise ImportError(f"Parquet needs pyarrow ({error}): {install} installs it") from None
    kinds = {str: pyarrow.string(), int: pyarrow.int64()}
    types = {name: kinds.get(hint, pyarrow.float64()) for name, hint in get_type_hints(Row).items()}
    values = {column: pyarrow.array([getattr(row, column) for row in table], types[column]) for column in columns}
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(values), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
