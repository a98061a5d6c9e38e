"""Names of stored preprocessings: "gcn_lcn" with the published settings, "gcn_lcn,kernel_size=9" with another one.

A kind of preprocessing is a frozen dataclass with its name as NAME, and a field for each setting, a number with the
published value as its default. The name of a variant is that of its file too, so no two settings share one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from data_prep.errors import DataError

Variant = TypeVar("Variant")


def parse_variant(text: str, kinds: Mapping[str, type[Variant]]) -> Variant:
    """The variant that "name" or "name,setting=number,..." stands for.

    Raises:
        DataError: no such variant or setting, or no positive number.
    """
    name, *assignments = text.split(",")
    if name not in kinds:
        raise DataError(f"unknown variant {name!r}: expected {', '.join(kinds)}")
    published: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(kinds[name])}  # type: ignore[arg-type]
    settings = {}
    for assignment in assignments:
        setting, _, number = assignment.partition("=")
        if setting not in published:
            raise DataError(f"unknown setting {setting!r} of {name}: expected {', '.join(published)}")
        settings[setting] = _positive(number, setting, type(published[setting]))
    return kinds[name](**settings)


def _positive(text: str, setting: str, kind: type[int] | type[float]) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        value = kind(0)
    if not 0 < value < math.inf:
        what = "whole number" if kind is int else "number"
        raise DataError(f"{setting}: expected a positive {what}, found {text!r}")
    return value


def name_of(variant: Any) -> str:
    """The one name of a variant: settings that are the published ones are left out."""
    changed = [
        f"{field.name}={getattr(variant, field.name)!r}"
        for field in dataclasses.fields(variant)
        if getattr(variant, field.name) != field.default
    ]
    return ",".join([variant.NAME, *changed])
