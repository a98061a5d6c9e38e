"""Records of older schemas, read as if they were of today's: pure functions, one a step, of the record's JSON object.

A file is never rewritten. tests/results/schemas/ has a record of every past schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from results.errors import RegistryError
from results.record.canonical import leaves, to_builtins
from results.record.schema import SCHEMA, Record

# What wrote the records of schema 1, which did not say so.
_HARNESS_OF_1 = "0.1.0"


def to_current(content: Mapping[str, Any]) -> dict[str, Any]:
    """The object as one of today's schema.

    Raises:
        RegistryError: a field that a step needs is missing or of another type.
    """
    current = dict(content)
    for version in range(content["schema"], SCHEMA):
        try:
            current = _STEPS[version](current) | {"schema": version + 1}
        except (KeyError, TypeError, IndexError) as error:
            field = str(error.args[0]) if isinstance(error, KeyError) else "content"
            raise RegistryError(f"{field}: missing or of the wrong type for schema {version}", field) from None
    return current


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 stored what can be derived, left defaults out of the settings, and described the last sitting alone."""
    kept = {k: v for k, v in content.items() if k not in ("engine", "seeds", "restarts", "results", "verdict")}
    unknown = {"code_sha256": None, "engine": None, "machine": None}
    sittings = [sitting | unknown for sitting in content["sittings"]]
    sittings[-1] |= {"engine": content["engine"]}
    times = {name: content["times"][name] for name in ("train_seconds", "evaluate_seconds")}
    return kept | {
        "harness": _HARNESS_OF_1,
        "recipe": content["recipe"] | {"version": 1, "defaults": []},
        "sittings": sittings,
        "seed": content["seeds"]["run"],
        "times": times,
    }


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def dropped_problems(content: Mapping[str, Any], record: Record) -> Iterator[tuple[str, str]]:
    """What an older schema stored and today's derives, where the two differ; its verdict is not asked for."""
    if content["schema"] == 1:
        derived = {"results": to_builtins(record.results), "restarts": record.restarts, "seeds": record.seeds}
        stored, expected = (dict(leaves({field: of.get(field) for field in derived})) for of in (content, derived))
        for field in [*stored, *(field for field in expected if field not in stored)]:
            found, right = (repr(of[field]) if field in of else "absent" for of in (stored, expected))
            if found != right:
                yield field, f"is {found}, expected {right}"
