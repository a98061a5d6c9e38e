from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from examples import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from published import first

from benchmarks.recipe import load_recipe
from benchmarks.verdict import RULE, check_record, judge_run, target_of
from results import registry
from results.record import Curve, Record, RecordedDifference, error_percent, from_bytes, pack_bits
from results.record.canonical import canonical_json, leaves, to_builtins
from results.statistics import binomial_standard_error

OURS = first("binaryconnect-mnist").read_bytes()
TARGET = load_recipe("binaryconnect-mnist").target
RECORD = from_bytes(OURS, "a record of binaryconnect-mnist")


def with_errors(wrong: int, **changes: Any) -> Record:
    """The record of a run of one epoch that got `wrong` of the 10,000 test images wrong."""
    settings = RECORD.recipe.settings | {"train": RECORD.recipe.settings["train"] | {"epochs": 1}}
    columns = {column: values[:1] for column, values in to_builtins(RECORD.curve).items()}
    columns |= {"test_wrong": [wrong], "test_error": [error_percent(wrong, 10_000)]}
    return msgspec.structs.replace(
        RECORD,
        recipe=msgspec.structs.replace(RECORD.recipe, settings=settings),
        curve=Curve(**columns),
        test_correct=pack_bits(np.arange(10_000) >= wrong),
        **changes,
    )


def test_margin_is_two_binomial_standard_errors_of_the_target():
    verdict = judge_run(with_errors(115), TARGET)
    assert verdict.margin == pytest.approx(2 * 100 * math.sqrt(0.0115 * 0.9885 / 10_000))
    assert verdict.margin == pytest.approx(0.2132, abs=1e-4)
    assert verdict.rule == RULE
    own = msgspec.structs.replace(TARGET, margin_standard_errors=3.0)
    assert judge_run(with_errors(115), own).margin == pytest.approx(1.5 * verdict.margin)
    noisy = msgspec.structs.replace(TARGET, standard_deviation=0.4, runs=4)  # as the paper gives it
    assert judge_run(with_errors(115), noisy).margin == pytest.approx(2.6 * 0.4 / 2)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [(115, "reproduced"), (136, "reproduced"), (137, "not reproduced"), (94, "reproduced"), (93, "suspiciously good")],
)
def test_words(wrong, word):
    verdict = judge_run(with_errors(wrong), TARGET)
    assert verdict.word == word
    assert verdict.provisional
    assert verdict.standard_error == binomial_standard_error(wrong, 10_000)


@given(st.integers(0, 10_000))
def test_a_worse_run_never_gets_a_better_verdict(wrong):
    ranks = ["suspiciously good", "reproduced", "not reproduced"]
    records = [with_errors(w) for w in (wrong, min(wrong + 1, 10_000))]
    verdicts = [ranks.index(judge_run(record, TARGET).word) for record in records]
    assert verdicts == sorted(verdicts)


def test_a_changed_recipe_is_never_judged():
    changed = RecordedDifference(key="train.epochs", published=250, value=2, source="--epochs")
    recipe = msgspec.structs.replace(RECORD.recipe, scoring=False, differences=[changed])
    verdict = judge_run(msgspec.structs.replace(RECORD, recipe=recipe), TARGET)
    assert (verdict.word, verdict.margin) == ("not scored", None)
    assert "train.epochs" in verdict.explanation


def test_without_a_target_there_is_none():
    assert judge_run(RECORD, None).word == "no published target"


def test_diverged_at_once_is_not_reproduced():
    nothing = Curve(**{column: [] for column in to_builtins(RECORD.curve)})
    record = msgspec.structs.replace(RECORD, curve=nothing, test_correct=None, outcome="diverged")
    assert (judge_run(record, TARGET).word, judge_run(record, TARGET).standard_error) == ("not reproduced", None)


def test_diverged_later_is_not_reproduced_however_good_it_was_before():
    verdict = judge_run(with_errors(115, outcome="diverged"), TARGET)
    assert (verdict.word, verdict.margin) == ("not reproduced", None)
    assert verdict.explanation == "diverged after epoch 1"


def test_a_benchmark_that_the_catalog_lacks_is_judged_by_what_its_record_states():
    stated = target_of(RECORD)
    assert (stated.percent, stated.decimals, stated.source) == (1.15, 2, RECORD.target.source)
    assert judge_run(RECORD, stated) == judge_run(RECORD, TARGET)
    target = msgspec.structs.replace(RECORD.target, test_error=None)
    assert target_of(msgspec.structs.replace(RECORD, target=target)) is None


SINGLE_VALUES = [field for field, _ in leaves(json.loads(OURS)) if "[" not in field and "checksums" not in field]
GROUPS = ["recipe.settings", *(f"recipe.settings.{group}" for group in json.loads(OURS)["recipe"]["settings"])]


@examples(25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(SINGLE_VALUES + GROUPS),
    value=st.sampled_from([None, 0, -1, 10**9, 0.5, "x", True]) | st.builds(list) | st.builds(dict),
)
def test_whatever_stands_in_a_record_its_verification_comes_to_an_end(tmp_path, field, value):
    content = json.loads(OURS)
    *groups, last = field.split(".")
    inner = content
    for group in groups:
        inner = inner[group]
    changed, inner[last] = inner[last] != value or type(inner[last]) is not type(value), value
    path = tmp_path / "binaryconnect-mnist" / f"{json.loads(OURS)['id']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(canonical_json(content) + b"\n")
    assert bool(registry.verify(tmp_path, [check_record])) == changed
