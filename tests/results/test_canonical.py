"""Canonical JSON: one text for one value, and none for what cannot be read back."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.record.canonical import canonical_json, digest, leaves, to_builtins

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


@given(VALUES)
def test_reads_back_as_the_same_value_and_gives_the_same_text_again(value: object) -> None:
    text = canonical_json(value)
    for reader in (json.loads, msgspec.json.decode):
        again = reader(text)
        assert again == value
        assert canonical_json(again) == text


@given(st.dictionaries(st.text(), SCALARS), st.randoms())
def test_order_of_keys_does_not_matter(value: dict[str, object], random: object) -> None:
    keys = list(value)
    random.shuffle(keys)  # type: ignore[attr-defined]
    assert canonical_json({key: value[key] for key in keys}) == canonical_json(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "é"]}, '{"a":[true,null,"é"],"b":1}'),
        ([0.1, 1e16, 1e-7, 1.0, -0.0, 5e-324], "[0.1,1e+16,1e-07,1.0,-0.0,5e-324]"),
        ((1, 2), "[1,2]"),
        (np.float64(0.5), "0.5"),
    ],
)
def test_text(value: object, text: str) -> None:
    assert canonical_json(value) == text.encode()


def test_structs_are_their_fields() -> None:
    class Point(msgspec.Struct):
        y: int
        x: float

    assert canonical_json(Point(y=1, x=0.5)) == b'{"x":0.5,"y":1}'


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"train": {"lr": math.nan}}, "train.lr"),
        ({"a": [1.0, math.inf]}, r"a\[1\]"),
        ({"a": {1: 2}}, "a: the key 1"),
        (np.float32(0.5), "float32"),
        ({"a": np.zeros(2)}, "a: a ndarray"),
        ({"a": {1, 2}}, "a: a set"),
        ({"a": "\ud800"}, "a: the text"),
        (math.nan, "value"),
    ],
)
def test_refuses_what_cannot_be_read_back(value: object, place: str) -> None:
    with pytest.raises(ValueError, match=place):
        canonical_json(value)


def test_digest_is_sha256_of_the_text() -> None:
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest(1) != digest(1.0)


def test_leaves_name_their_places() -> None:
    value = {"a": [1, {"b": "x"}], "c": {}, "d": []}
    assert dict(leaves(value)) == {"a[0]": 1, "a[1].b": "x", "c": {}, "d": []}
    assert list(leaves(to_builtins(3))) == [("", 3)]


def test_reading_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys, results, results.record.canonical, results.registry;"
        "import results.views.csv, results.views.markdown, results.views.text, results.views.plots;"
        "print([m for m in ('numpy', 'pandas', 'matplotlib', 'rich', 'h5py') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
