"""The verdict on registered groups: its words, what blocks it, and what never changes it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.recipe import Target
from benchmarks.verdict import report
from benchmarks.verdict.group import (
    REPRODUCED,
    RULES,
    Bounds,
    GroupVerdict,
    in_family,
    judge_group,
    judge_unregistered,
    word_of,
)
from results import statistics
from results.entries import entry_of
from results.groups import groups, key_of
from results.members import members
from results.record import Curve, Record, error_percent, from_bytes, pack_bits, seal
from results.record.canonical import to_builtins
from results.registered import SEEDS, Registration

from test_verdict import OURS  # isort: skip

RECORD = from_bytes(OURS, "a record of binaryconnect-mnist")
IMAGES = 10_000
BEFORE = "2020-01-01T00:00:00Z"
GROUP = Registration(1, key_of(RECORD), 1, BEFORE, None, SEEDS[:5], SEEDS[:5], {})
EXTENDED = GROUP._replace(seeds=SEEDS)
TARGET = Target(test_error="8.27", source="the paper", provenance="read")
MARGIN = statistics.margin(8.27, IMAGES)
SIGMA = 100 * math.sqrt(0.0827 / (2 * IMAGES))


def run(seed: int, error: float, outcome: str = "finished", differing: float = 0.06) -> Record:
    """A run of one epoch with this error; of any two, about this share of the images differs."""
    wrong = round(error * IMAGES / 100)
    correct = np.ones(IMAGES, dtype=bool)
    own = min(wrong, round(differing / 2 * IMAGES))
    correct[: wrong - own] = False
    others = np.random.RandomState(seed % 2**32).permutation(np.arange(wrong - own, IMAGES))
    correct[others[:own]] = False
    settings = RECORD.recipe.settings | {"train": RECORD.recipe.settings["train"] | {"epochs": 1}}
    columns = {column: values[:1] for column, values in to_builtins(RECORD.curve).items()}
    columns |= {"test_wrong": [wrong], "test_error": [error_percent(wrong, IMAGES)]}
    return seal(msgspec.structs.replace(
        RECORD, recipe=msgspec.structs.replace(RECORD.recipe, settings=settings), curve=Curve(**columns), seed=seed,
        test_correct=pack_bits(correct), outcome=outcome, id="",
    ))  # fmt: skip


def runs(errors: Sequence[float], seeds: Sequence[int] = GROUP.seeds, differing: float = 0.06) -> list[Record]:
    return [run(seed, error, differing=differing) for seed, error in zip(seeds, errors, strict=False)]


def judged(records: Sequence[Record], group: Registration = GROUP, target: Target | None = TARGET) -> GroupVerdict:
    return judge_group(group, members(group, records), target)


def around(mean: float, spread: float = 0.12, count: int = 5) -> list[float]:
    return [mean + spread * (2 * i / (count - 1) - 1) for i in range(count)]


@pytest.mark.parametrize(
    ("errors", "word"),
    [
        (around(8.30), "reproduced"),
        (around(7.66), "reproduced, and better"),
        (around(7.20), "suspiciously good"),
        (around(9.40), "not reproduced"),
        (around(8.75), "inconclusive"),
    ],
)
def test_words(errors: list[float], word: str) -> None:
    verdict = judged(runs(errors))
    assert verdict.word == word
    assert verdict.margin == pytest.approx(MARGIN)
    assert (verdict.p_value is None) == (word == "inconclusive")
    assert verdict.p_value is None or verdict.p_value < 0.05


def test_every_number_is_that_of_its_definition() -> None:
    errors = [8.23, 8.38, 8.41, 8.50, 8.53]
    verdict = judged(runs(errors))
    found = verdict.estimate
    assert found is not None
    assert found.deviation == pytest.approx(np.std(errors, ddof=1))
    assert found.independent_deviation == pytest.approx(100 * math.sqrt(0.06 / 2 / IMAGES), rel=0.05)
    pooled = (4 * found.independent_deviation**2 + 4 * found.deviation**2) / 8
    assert (found.variance, found.degrees, found.is_independent) == (pytest.approx(pooled), 8, True)
    half = 1.8595 * math.sqrt(pooled / 5)
    assert verdict.interval == pytest.approx((8.41 - half, 8.41 + half), abs=1e-4)
    assert verdict.plausible_single_run is True
    assert verdict.diverged_interval == pytest.approx((0, 0.5218), abs=1e-4)


def test_seeds_that_differ_too_much_are_judged_by_their_own_deviation() -> None:
    verdict = judged(runs(around(8.3, spread=0.9)))
    assert verdict.estimate is not None
    assert (verdict.estimate.is_independent, verdict.estimate.degrees) == (False, 4)
    assert verdict.word == "inconclusive"
    assert verdict.more_seeds is not None
    assert verdict.more_seeds > 0
    seconds = sum(sitting.seconds for sitting in RECORD.sittings)
    assert verdict.more_hours == pytest.approx(verdict.more_seeds * seconds / 3600)


def test_before_all_seeds_are_there_it_is_interim() -> None:
    some = runs(around(8.3))[:4]
    verdict = judged(some)
    assert (verdict.word, verdict.reason) == ("interim", "1 of 5 registered seeds are missing")
    assert verdict.estimate is not None
    assert judged([]).word == "not measured"
    killed = run(4, 8.3, "killed")
    assert judged([*some, killed]).word == "interim"


def test_without_a_target_there_is_nothing_to_judge() -> None:
    assert judged(runs(around(8.3)), target=None).word == "no published target"


def test_the_very_same_networks_are_no_evidence() -> None:
    verdict = judged([run(seed, 8.3, differing=0.0) for seed in GROUP.seeds])
    assert verdict.word == "inconclusive"
    assert "the seed changes nothing" in verdict.reason


# -- two looks ---------------------------------------------------------------------------------------------------------


def test_an_extended_group_is_looked_at_twice() -> None:
    first = runs(around(8.3))
    verdict = judged(first, EXTENDED)
    assert (verdict.word, verdict.look, verdict.looks, verdict.one_sided) == ("reproduced", 1, 2, 0.037)
    undecided = runs(around(8.75))
    assert judged([*undecided, run(5, 8.7)], EXTENDED).word == "interim"
    assert "the first look decided nothing" in judged(undecided, EXTENDED).reason
    both = judged([*undecided, *runs([8.3] * 5, SEEDS[5:])], EXTENDED)
    assert (both.word, both.look) == ("reproduced", 2)
    wide = judged(runs(around(8.3, spread=0.9, count=10), EXTENDED.seeds), EXTENDED)
    assert (wide.one_sided, wide.look) == (0.029, 2)


def test_a_group_of_three_is_judged_and_may_become_one_of_five() -> None:
    three = GROUP._replace(seeds=SEEDS[:3], first_seeds=SEEDS[:3])
    assert judged(runs([8.2, 8.3, 8.4]), three).word == "reproduced"
    undecided = runs([8.7, 8.75, 8.8])
    verdict = judged(undecided, three)
    assert verdict.word == "inconclusive"
    more = "`python cli.py reproduce binaryconnect-mnist --seeds 5` runs 2 more, once"
    at_most_two = msgspec.structs.replace(verdict, more_seeds=2, more_hours=1.0)
    assert more in "\n".join(report.lines(at_most_two))
    assert "to 5 seeds, will probably decide nothing" in "\n".join(
        report.lines(msgspec.structs.replace(at_most_two, more_seeds=3))
    )
    of_two = msgspec.structs.replace(at_most_two, seeds=verdict.seeds[:2])  # a size that nothing here registers
    assert "extension" not in "\n".join(report.lines(of_two))
    five = three._replace(seeds=SEEDS[:5])
    assert judged([*undecided, *runs([8.3, 8.4], (3, 4))], five).look == 2


# -- divergence --------------------------------------------------------------------------------------------------------


def test_one_diverged_run_of_five_blocks_reproduced() -> None:
    verdict = judged([*runs(around(8.3))[:4], run(4, 8.3, "diverged")])
    assert (verdict.word, verdict.diverged) == ("inconclusive", 1)
    assert verdict.diverged_interval == pytest.approx((0.0051, 0.7164), abs=1e-4)
    assert (verdict.more_seeds, verdict.p_value) == (None, None)
    ten = runs(around(8.3, count=10), EXTENDED.seeds)
    assert judged([*ten[:9], run(9, 8.3, "diverged")], EXTENDED).word == "reproduced"
    assert judged([*ten[:8], run(8, 8.3, "diverged"), run(9, 8.3, "diverged")], EXTENDED).word == "inconclusive"
    assert judged([run(seed, 8.3, "diverged") for seed in GROUP.seeds]).word == "not reproduced"


RANKS = ["not reproduced", "suspiciously good", "inconclusive", "reproduced", "reproduced, and better"]
ERRORS = st.floats(7.0, 9.6)


@pytest.mark.slow
@given(st.lists(ERRORS, min_size=5, max_size=5), st.lists(st.sampled_from(GROUP.seeds), unique=True, min_size=1))
def test_a_diverged_run_never_improves_a_verdict(errors: list[float], diverged: list[int]) -> None:
    """Neither in the place of a run, nor beside those that are there."""
    records = runs(errors)
    mixed = [run(r.seed, 8.3, "diverged") if r.seed in diverged else r for r in records]
    assert judged(mixed).word not in REPRODUCED
    finished = [record for record in records if record.seed not in diverged]
    if len(finished) > 1:
        seeds = tuple(record.seed for record in finished)
        smaller = GROUP._replace(first_seeds=seeds, seeds=seeds)
        assert RANKS.index(judged(mixed).word) <= max(RANKS.index(judged(finished, smaller).word), 2)
        assert judged(mixed).word in (judged(finished, smaller).word, "inconclusive")


OTHER = [run(77, 8.3), seal(msgspec.structs.replace(run(1, 2.0), benchmark="other"))]


@given(
    st.lists(ERRORS, min_size=5, max_size=5),
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 6), max_size=6),
)
def test_order_duplicates_and_irrelevant_records_never_change_a_verdict(
    errors: list[float], shuffle: random.Random, more: list[int]
) -> None:
    records = runs(errors)
    expected = judged(records)
    others = [*records, *OTHER]
    again = [*records, *(others[i] for i in more)]
    shuffle.shuffle(again)
    found = judged(again)
    assert msgspec.structs.replace(found, left_out=[]) == msgspec.structs.replace(expected, left_out=[])


@given(st.lists(ERRORS, min_size=5, max_size=5), st.floats(0.0, 1.0))
def test_a_worse_group_never_gets_a_better_verdict(errors: list[float], more: float) -> None:
    ranks = ["suspiciously good", "reproduced, and better", "reproduced", "inconclusive", "not reproduced"]
    variance = statistics.Variance(float(np.var(errors)), 8)

    def rank(shift: float) -> int:
        interval = statistics.interval(float(np.mean(errors)) + shift, variance, 5)
        return ranks.index(word_of(Bounds(*interval, 8.27 - MARGIN, 8.27 + MARGIN)))

    better, worse = rank(0.0), rank(more)
    assert better <= worse or "inconclusive" in (ranks[better], ranks[worse])


@given(*(st.floats(-2, 2) for _ in range(3)), st.floats(0, 2))
def test_at_most_one_rule_holds(one: float, other: float, claim: float, margin: float) -> None:
    bounds = Bounds(min(one, other), max(one, other), claim - margin, claim + margin)
    assert sum(bool(holds(bounds)) for _, holds in RULES) <= 1


def test_an_entry_of_the_index_is_judged_as_its_record() -> None:
    records = runs(around(8.3))
    entries = [entry_of(record) for record in records]
    assert judge_group(GROUP, members(GROUP, entries), TARGET) == judged(records)


# -- others ------------------------------------------------------------------------------------------------------------


def test_runs_that_nobody_registered_are_provisional() -> None:
    (group,) = groups(runs(around(8.3)))
    verdict = judge_unregistered(group, TARGET)
    assert (verdict.word, verdict.interval) == ("provisional", None)
    assert verdict.reason.startswith("within the margin")
    (group,) = groups([run(1, 9.4)])
    assert judge_unregistered(group, TARGET).reason.startswith("not within the margin")


def test_a_family_of_verdicts_is_corrected() -> None:
    verdicts = [judged(runs(around(mean))) for mean in (8.3, 8.6, 8.75)]
    corrected = in_family(verdicts)
    assert [verdict.holm for verdict in corrected] == [
        2 * verdicts[0].p_value, max(verdicts[1].p_value, 2 * verdicts[0].p_value), None,
    ]  # fmt: skip


def test_the_best_epoch_on_the_test_images_is_named_with_what_the_last_has():
    by_validation = runs(around(8.27))
    by_test = []
    for record in by_validation:
        settings = record.recipe.settings | {"protocol": {"selection": "best_test"}}
        by_test.append(
            msgspec.structs.replace(record, recipe=msgspec.structs.replace(record.recipe, settings=settings))
        )
    lines = [
        next(line for line in report.lines(judged(found)) if "the result is" in line)
        for found in (by_validation, by_test)
    ]
    assert lines[0].endswith("(of several the last); the lowest of any epoch, never it: 8.270")
    assert "the epoch of the lowest test error (of several the last); so was the claim's" in lines[1]
    assert lines[1].endswith("that of the last epoch: 8.270")
