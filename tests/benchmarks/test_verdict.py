from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
from examples import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from benchmarks.recipe import load_recipe
from benchmarks.verdict import check_record, judge_run, target_standard_error
from results import registry
from results.canonical import canonical_json, leaves
from results.record import Counted, Point, Results, error_percent

RECIPE = load_recipe("binaryconnect-mnist")


def results(wrong: int, images: int = 10_000) -> Results:
    error = error_percent(wrong, images)
    point = Point(epoch=1, valid_error=1.0, test_error=error, test_wrong=wrong, test_images=images)
    counted = Counted(test_error=error, test_wrong=wrong, test_images=images)
    return Results(counted=counted, declared=point, last=point, best_test=point)


def test_margin_is_two_binomial_standard_errors_of_the_target():
    verdict = judge_run(RECIPE, results(115))
    assert verdict.margin == pytest.approx(2 * 100 * math.sqrt(0.0115 * 0.9885 / 10_000))
    assert verdict.margin == pytest.approx(0.2132, abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [(115, "reproduced"), (136, "reproduced"), (137, "not reproduced"), (94, "reproduced"), (93, "suspiciously good")],
)
def test_words(wrong, word):
    verdict = judge_run(RECIPE, results(wrong))
    assert verdict.word == word
    assert verdict.provisional


@given(st.integers(0, 10_000))
def test_a_worse_run_never_gets_a_better_verdict(wrong):
    ranks = ["suspiciously good", "reproduced", "not reproduced"]
    verdicts = [ranks.index(judge_run(RECIPE, results(w)).word) for w in (wrong, min(wrong + 1, 10_000))]
    assert verdicts == sorted(verdicts)


def test_a_changed_recipe_is_never_judged():
    verdict = judge_run(load_recipe("binaryconnect-mnist", ["train.epochs=2"]), results(115))
    assert (verdict.word, verdict.margin) == ("not scored", None)
    assert "train.epochs" in verdict.explanation


def test_without_a_target_there_is_none():
    assert judge_run(msgspec.structs.replace(RECIPE, target=None), results(115)).word == "no published target"


def test_diverged_at_once_is_not_reproduced():
    assert judge_run(RECIPE, None).word == "not reproduced"


def test_diverged_later_is_not_reproduced_however_good_it_was_before():
    verdict = judge_run(RECIPE, results(115), "diverged")
    assert (verdict.word, verdict.margin) == ("not reproduced", None)
    assert verdict.explanation == "diverged after epoch 1"


OURS = next((Path(__file__).parents[2] / "results" / "runs" / "binaryconnect-mnist").glob("*.json")).read_bytes()
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


def test_target_standard_error_is_that_of_a_proportion():
    assert target_standard_error(50.0, 100) == pytest.approx(5.0)
