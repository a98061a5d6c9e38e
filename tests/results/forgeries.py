"""Real records with one value replaced, named and sealed again as if a run had written them."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.recipe import recipe_from_settings
from benchmarks.recipe.settings import full_settings
from results.record import Machine, Record, from_bytes, seal, to_bytes

RUNS = Path(__file__).parents[2] / "results" / "runs"
DELETED = object()
VALUES: dict[str, Any] = {
    "deleted": DELETED,
    "null": None,
    "negative": -1,
    "zero": 0,
    "one": 1,
    "2^31": 2**31,
    "2^63": 2**63,
    "10^400": 10**400,
    "1e308": 1e308,
    "a half": 0.5,
    "true": True,
    "a text": "x",
    "no text": "",
    "no list": [],
    "no object": {},
    "control characters": "\x1b[31mX\x1b[0m",
    "two lines": "a\nb|<script>",
    "a long text": "x" * 10_000,
    "digits": "0" * 64,
    "nested": json.loads("[" * 500 + "]" * 500),
    "deeply nested": "a list in a list, 5000 times",  # is written as text: Python's own encoder ends before
}
_DEEP = b"[" * 5000 + b"]" * 5000


def other(value: Any) -> Any:
    """A value of the same type, near by."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.001
    return f"{value}0" if isinstance(value, str) else value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a JSON value, and the first and last entry of every list."""
    keys = list(value) if isinstance(value, dict) else []
    if isinstance(value, list) and value:
        keys = sorted({0, len(value) - 1})
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def forgeries(record: bytes) -> Iterator[tuple[str, str, bytes, str]]:
    """Each change as (field, what it became, the file's content, its id)."""
    content = json.loads(record)
    for place in places(content):
        if place[0] in ("id", "checksums"):
            continue
        for name, value in {**VALUES, "other": other}.items():
            if value is DELETED and isinstance(place[-1], int):
                continue
            changed = replaced(content, place, value)
            if changed != content:
                data, record_id = sealed(changed)
                yield dotted(place), name, data, record_id


def replaced(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    within = changed
    for key in place[:-1]:
        within = within[key]
    if value is DELETED:
        del within[place[-1]]
    else:
        within[place[-1]] = value(within[place[-1]]) if callable(value) else value
    return changed


def dotted(place: tuple[Any, ...]) -> str:
    """ "curve.lr[0]" of ("curve", "lr", 0)."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).removeprefix(".")


def sealed(content: dict[str, Any]) -> tuple[bytes, str]:
    """The file of a record with this content, and its id, made without the program's own functions."""
    unsealed = {field: value for field, value in content.items() if field not in ("id", "checksums")}
    parts = {field: value for field, value in unsealed.items() if field != "curve"}
    curve = unsealed.get("curve")
    parts |= {f"curve.{c}": v for c, v in curve.items()} if isinstance(curve, dict) else {"curve": curve}
    record_id = hashlib.sha256(_text(unsealed)).hexdigest()[:16]
    checksums = {field: hashlib.sha256(_text(value)).hexdigest()[:8] for field, value in sorted(parts.items())}
    return _text(unsealed | {"id": record_id, "checksums": checksums}) + b"\n", record_id


def _text(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return text.replace(json.dumps(VALUES["deeply nested"]).encode(), _DEEP)


def of_today(record: bytes) -> bytes:
    """The record as this version would have written it: of the present schema, with everything that it says."""
    old = from_bytes(record, "record")
    recipe = recipe_from_settings(old.benchmark, old.recipe.settings, {})
    machine = Machine(processor="some processor", cores=2, memory_mib=16_000)
    described = {"code_sha256": hashlib.sha256(b"code").hexdigest(), "engine": old.engine, "machine": machine}
    new: Record = msgspec.structs.replace(
        old,
        harness="0.2.0",
        recipe=msgspec.structs.replace(old.recipe, settings=full_settings(recipe.settings), defaults=recipe.defaults),
        sittings=[msgspec.structs.replace(sitting, **described) for sitting in old.sittings],
    )
    return to_bytes(seal(msgspec.convert(msgspec.to_builtins(new), Record)))
