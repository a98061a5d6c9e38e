"""One run's record: its schema, its text and name, and what follows from it.

`Record` is what everything else reads; records of older schemas become one when they are read.
"""

from __future__ import annotations

from results.record.bits import first_bits, pack_bits, packed_bytes, unpack_bits
from results.record.points import (
    BEST_OF_TEST,
    VALIDATION_COLUMNS,
    Counted,
    Point,
    Results,
    columns,
    count,
    counted_images,
    declared_epoch,
    error_percent,
    points,
    seeds_of,
    summarize,
)
from results.record.schema import (
    SCHEMA,
    Curve,
    Data,
    Machine,
    PublishedWeights,
    Record,
    RecordedDifference,
    RecordedEngine,
    RecordedRecipe,
    RecordedTarget,
    Sitting,
    Split,
    Times,
)
from results.record.text import comparable, content_of, from_bytes, record_id, seal, seal_problems, to_bytes

__all__ = [
    "BEST_OF_TEST",
    "SCHEMA",
    "VALIDATION_COLUMNS",
    "Counted",
    "Curve",
    "Data",
    "Machine",
    "Point",
    "PublishedWeights",
    "Record",
    "RecordedDifference",
    "RecordedEngine",
    "RecordedRecipe",
    "RecordedTarget",
    "Results",
    "Sitting",
    "Split",
    "Times",
    "columns",
    "comparable",
    "content_of",
    "count",
    "counted_images",
    "declared_epoch",
    "error_percent",
    "first_bits",
    "from_bytes",
    "pack_bits",
    "packed_bytes",
    "points",
    "record_id",
    "seal",
    "seal_problems",
    "seeds_of",
    "summarize",
    "to_bytes",
    "unpack_bits",
]  # fmt: skip
