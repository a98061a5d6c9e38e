"""Which runs may be averaged: what parts groups, what counts, and that the order of the records changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import ENGINE, make_record
from test_table import rows

from results.groups import groups
from results.record import Record, seal
from results.record.canonical import digest
from results.views.json import to_json
from results.views.markdown import to_markdown
from results.views.rows import Benchmark


def with_sittings(record: Record, **changes: Any) -> Record:
    """The record with these fields of every sitting replaced."""
    sittings = [msgspec.structs.replace(sitting, **changes) for sitting in record.sittings]
    return seal(msgspec.structs.replace(record, sittings=sittings))


def last_sitting(record: Record, **changes: Any) -> Record:
    """As `with_sittings`, of the last one alone."""
    *before, last = record.sittings
    return seal(msgspec.structs.replace(record, sittings=[*before, msgspec.structs.replace(last, **changes)]))


def with_engine(record: Record, **changes: Any) -> Record:
    return with_sittings(record, engine=msgspec.structs.replace(ENGINE, **changes))


def with_setting(record: Record, key: str, value: Any) -> Record:
    """With another setting of training, as it would have been recorded then."""
    settings = record.recipe.settings | {"train": record.recipe.settings["train"] | {key: value}}
    recipe = msgspec.structs.replace(record.recipe, settings=settings, digest=digest(settings))
    return seal(msgspec.structs.replace(record, recipe=recipe))


def with_data(record: Record, split: str) -> Record:
    data = record.data
    other = msgspec.structs.replace(getattr(data, split), digest=digest("other images"))
    return seal(msgspec.structs.replace(record, data=msgspec.structs.replace(data, **{split: other})))


def started(record: Record, day: int) -> Record:
    return with_sittings(record, started=f"2024-06-{day:02}T12:00:00Z")


OTHERS = {
    "another precision": with_engine(make_record(2), precision="bfloat16"),
    "another engine": with_engine(make_record(2), name="torch"),
    "other settings": with_setting(make_record(2), "lr_start", 0.004),
    "other training images": with_data(make_record(2), "train"),
    "other validation images": with_data(make_record(2), "valid"),
    "other test images": with_data(make_record(2), "test"),
    "another benchmark": seal(make_record(2, benchmark="other")),
}


@pytest.mark.parametrize("what", OTHERS)
def test_never_averaged(what: str) -> None:
    assert [row.runs for row in rows([seal(make_record()), OTHERS[what]])] == [1, 1]


def test_another_device_thread_count_or_version_is_no_other_method() -> None:
    others = [
        with_engine(make_record(2), device="gpu"),
        with_engine(make_record(3), threads=8, versions={"mxnet": "2"}),
    ]
    (row,) = rows([seal(make_record()), *others])
    assert (row.runs, row.engine) == (3, "gluon cpu, gluon gpu")


def test_splits_that_are_drawn_differ_with_every_seed_and_are_averaged() -> None:
    first, second = make_record(1, evaluates=True), make_record(2, evaluates=True)
    (row,) = rows([seal(first), with_data(second, "train")])
    assert row.runs == 2


def test_a_second_run_of_a_seed_is_a_repetition_and_is_not_averaged() -> None:
    first = started(make_record(1), 1)
    again = started(make_record(1, weights_sha256=digest("other bits")), 2)
    better = make_record(9).curve
    other = started(make_record(2), 3)
    (group,) = groups([again, other, first])
    assert [record.id for record in group.runs] == [first.id, other.id]
    assert [record.id for record in group.repetitions] == [again.id]
    assert better != first.curve
    (row,), (without,) = rows([again, other, first]), rows([other, first])
    assert (row.runs, row.repetitions, row.test_error) == (2, 1, without.test_error)


def test_runs_that_do_not_score_or_were_killed_never_enter() -> None:
    killed = seal(make_record(2, outcome="killed", epochs=3, recipe=make_record(epochs=6).recipe))
    assert groups([seal(make_record(3, scoring=False)), killed]) == []
    (group,) = groups([seal(make_record()), killed, seal(make_record(3, scoring=False))])
    assert (len(group.runs), group.repetitions) == (1, [])


def test_a_killed_run_takes_no_seed_from_one_that_ended() -> None:
    killed = started(make_record(1, outcome="killed"), 1)
    (group,) = groups([killed, started(make_record(1), 2)])
    assert [record.outcome for record in group.finished] == ["finished"]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"code_sha256": digest("other code")}, "code"),
        ({"engine": msgspec.structs.replace(ENGINE, versions={"mxnet": "2"})}, "engine"),
        ({"machine": msgspec.structs.replace(make_record().sittings[0].machine, cores=4)}, "machine"),
    ],
)
def test_what_changed_within_a_run_is_said(changes: dict[str, Any], kind: str) -> None:
    mixed = last_sitting(make_record(2), **changes)
    assert mixed.mixtures == [kind]
    (row,) = rows([seal(make_record()), mixed])
    assert (row.runs, row.notes) == (2, f"mixed {kind}")
    assert f"; mixed {kind} |" in to_markdown([row])
    assert rows([seal(make_record())])[0].notes == ""


def test_a_sitting_that_kept_no_epoch_mixes_nothing() -> None:
    first, second = make_record(sittings=1).sittings[0], make_record(sittings=1).sittings[0]
    first = msgspec.structs.replace(first, last_epoch=0, code_sha256=digest("other code"))
    assert make_record(sittings=1).mixtures == []
    assert msgspec.structs.replace(make_record(), sittings=[first, second]).mixtures == []


def test_runs_of_corrected_settings_are_superseded_and_stand_last() -> None:
    """However many they are."""
    now = seal(make_record(1))
    before = [with_setting(make_record(seed), "lr_start", 0.004) for seed in (1, 2, 3)]
    benchmark = Benchmark(id=now.benchmark, paper="p", data="d", target=1.15, digest=now.recipe.digest)
    found = rows([*before, now], [benchmark])
    assert [(row.runs, row.verdict) for row in found] == [(1, "reproduced (provisional)"), (3, "superseded")]
    assert found[1].notes == "settings corrected since"
    assert "| superseded; settings corrected since |" in to_markdown(found)
    (only,) = rows(before, [benchmark])
    assert (only.runs, only.verdict) == (3, "superseded")


MANY = [
    *OTHERS.values(),
    *(started(make_record(seed), day) for seed, day in ((1, 1), (1, 2), (2, 1), (3, 3))),
    *(seal(make_record(seed, scoring=False)) for seed in (1, 2)),
    seal(make_record(4, outcome="killed")),
    seal(make_record(5, epochs=0, sittings=1, outcome="diverged")),
    last_sitting(make_record(6), code_sha256=digest("other code")),
]
EXPECTED = to_json(rows(MANY))


@given(st.permutations(MANY))
def test_the_order_of_the_records_changes_nothing(records: list[Record]) -> None:
    assert to_json(rows(records)) == EXPECTED
