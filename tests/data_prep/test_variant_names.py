"""Names of variants: one for each choice of settings, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import DataError
from data_prep.preprocess.variant_names import name_of, parse_variant


@dataclass(frozen=True)
class Blur:
    NAME: ClassVar[str] = "blur"
    size: int = 7
    sigma: float = 2.0


KINDS = {"blur": Blur}


def test_the_published_settings_need_not_be_named():
    assert parse_variant("blur", KINDS) == Blur()
    assert name_of(parse_variant("blur,sigma=2,size=7", KINDS)) == "blur"
    assert name_of(parse_variant("blur,sigma=3,size=9", KINDS)) == "blur,size=9,sigma=3.0"


@given(size=st.integers(1, 10**6), sigma=st.floats(1e-9, 1e9))
def test_a_name_stands_for_its_settings_alone(size, sigma):
    blur = Blur(size, sigma)
    assert parse_variant(name_of(blur), KINDS) == blur


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blurr", "unknown variant 'blurr': expected blur"),
        ("blur,width=3", "unknown setting 'width' of blur: expected size, sigma"),
        ("blur,size=2.5", "size: expected a positive whole number, found '2.5'"),
        ("blur,size=0", "size: expected a positive whole number, found '0'"),
        ("blur,size=", "size: expected a positive whole number, found ''"),
        ("blur,sigma=-1", "sigma: expected a positive number, found '-1'"),
        ("blur,sigma=inf", "sigma: expected a positive number, found 'inf'"),
        ("blur,sigma=nan", "sigma: expected a positive number, found 'nan'"),
        ("blur,", "unknown setting '' of blur: expected size, sigma"),
    ],
)
def test_what_is_no_variant_is_refused(text, message):
    with pytest.raises(DataError) as failure:
        parse_variant(text, KINDS)
    assert str(failure.value) == message
