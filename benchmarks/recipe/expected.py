"""What a field takes, in words, and whether a value is that."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

SHOWN = 60  # characters of a value that is not what was expected


def nearest(name: str, known: Iterable[str]) -> str:
    """ ": did you mean ...?" if some known name is near, else nothing."""
    matches = nearest_names(name, known)
    return f": did you mean {' or '.join(matches)}?" if matches else ""


def nearest_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that are near, the nearest first."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)


def nearest_word(value: object, field_type: Any) -> str:
    """The nearest of the words that a field takes, as `nearest` says it."""
    words = [str(v) for kind in kinds(field_type) if isinstance(kind, msgspec.inspect.LiteralType) for v in kind.values]
    return nearest(str(value), words)


def convert(value: object, field_type: Any, *, strict: bool = True) -> Any:
    """The value as the field's type.

    Raises:
        ValueError: it is not of that type, or no finite number.
    """
    try:
        converted = msgspec.convert(value, field_type, strict=strict)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError("no finite number")
    return converted


def shown(value: object) -> str:
    """A value as a catalog file has it, or the beginning of it."""
    text = {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def describe(field_type: Any) -> str:
    """What a field of this type takes: "a whole number, at least 1, or null"."""
    return " or ".join(_describe_kind(kind) for kind in kinds(field_type))


def kinds(field_type: Any) -> tuple[Any, ...]:
    """The types that a field takes, by msgspec's description of them, without what is said about the field."""
    return tuple(_kinds(msgspec.inspect.type_info(field_type)))


def _kinds(info: Any) -> Iterator[Any]:
    if isinstance(info, msgspec.inspect.Metadata):
        yield from _kinds(info.type)
    elif isinstance(info, msgspec.inspect.UnionType):
        for part in info.types:
            yield from _kinds(part)
    else:
        yield info


def _describe_kind(info: Any) -> str:
    if isinstance(info, msgspec.inspect.LiteralType):
        return " or ".join(sorted(map(str, info.values)))
    if isinstance(info, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        kind = "a whole number" if isinstance(info, msgspec.inspect.IntType) else "a number"
        bounds = ((info.ge, "at least"), (info.gt, "above"), (info.le, "at most"), (info.lt, "below"))
        return ", ".join([kind, *(f"{words} {bound}" for bound, words in bounds if bound is not None)])
    if isinstance(info, msgspec.inspect.VarTupleType):
        return f"{_describe_kind(info.item_type)}, or several joined by ','"
    if isinstance(info, msgspec.inspect.StructType):
        required = [field.encode_name for field in info.fields if field.required]
        return f"a group with {', '.join(required)}"
    names = {msgspec.inspect.NoneType: "null", msgspec.inspect.BoolType: "true or false"}
    return names.get(type(info), "text")
