"""The JSON Schema of today's records, for whoever reads them with other programs: results/record.schema.json.

    python -c "from results.record.json_schema import FILE, to_text; FILE.write_text(to_text())"

What no schema can say (that errors follow from counts, that the name is the hash) `python cli.py verify` checks.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from results.record.schema import ID_DIGITS, SCHEMA, Record

FILE = Path(__file__).parents[1] / "record.schema.json"


def json_schema() -> dict[str, Any]:
    """The schema that msgspec derives from `Record`; every file has the fields that `seal` fills in."""
    content = msgspec.json.schema(Record)
    for part in content["$defs"].values():
        part["description"] = inspect.cleandoc(part["description"])
    record = content["$defs"]["Record"]
    sealed = {
        "schema": {"const": SCHEMA},
        "id": {"type": "string", "pattern": f"^[0-9a-f]{{{ID_DIGITS}}}$"},
        "checksums": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    record["properties"] |= sealed
    record["required"] = [*sealed, *record["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A record", **content}


def to_text() -> str:
    """The file's content."""
    return json.dumps(json_schema(), indent=2) + "\n"
