"""Registered groups: what their files hold, what is refused, and which records are a group's runs."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import make_record
from test_groups import OTHERS, started

from results import registered, verification
from results.errors import NewerSchemaError, RegistryError
from results.groups import key_of
from results.members import members
from results.record import Record, seal
from results.registered import Registration

BEFORE, AFTER = "2024-04-01T00:00:00Z", "2024-05-15T00:00:00Z"
KEY, COMMIT = key_of(make_record()), "c0ffee" + 34 * "0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_a_group_is_read_as_it_was_registered(root: Path) -> None:
    assert registered.read(root, KEY.benchmark) == []
    made = registered.register(root, KEY, 1, COMMIT, time=BEFORE)
    assert registered.read(root, KEY.benchmark) == [made]
    assert (made.key, made.seeds, made.commit, made.is_extended) == (KEY, (1234, 1, 2, 3, 4), COMMIT, False)
    other = registered.register(root, KEY._replace(precision="bfloat16"), 1, None, time=BEFORE)
    assert [group.number for group in registered.read(root, KEY.benchmark)] == [1, 2]
    assert registered.read_all(root, pytest.fail) == [made, other]
    assert registered.problems(root) == []


def test_it_is_registered_and_extended_once(root: Path) -> None:
    group = registered.register(root, KEY, 1, None, time=BEFORE)
    with pytest.raises(RegistryError, match="registered already"):
        registered.register(root, KEY, 1, None)
    group = registered.extend(root, group, None)
    assert group.seeds == (1234, *range(1, 10))
    with pytest.raises(RegistryError, match="there is one extension"):
        registered.extend(root, group, None)
    assert registered.read(root, KEY.benchmark) == [group]


def test_a_group_of_three_is_extended_to_five(root: Path) -> None:
    group = registered.register(root, KEY, 1, None, (1234, 1, 2), time=BEFORE)
    assert (group.extended_size, group.is_extended) == (5, False)
    group = registered.extend(root, group, None)
    assert (group.seeds, group.first_seeds, group.is_extended) == ((1234, 1, 2, 3, 4), (1234, 1, 2), True)
    with pytest.raises(RegistryError, match="there is one extension"):
        registered.extend(root, group, None)


def test_what_became_of_a_run_is_added_and_nothing_is_changed(root: Path) -> None:
    group = registered.register(root, KEY, 1, None, time=BEFORE)
    path = registered.folder_of(root) / f"{KEY.benchmark}.jsonl"
    before = path.read_bytes()
    registered.launched(root, group, 2, "2024-05-01T12:00:00Z")
    group = registered.stopped(root, group, 2, "ended by SIGKILL", "2024-05-01T13:00:00Z")
    registered.launched(root, group, 3, "2024-05-01T14:00:00Z")
    assert path.read_bytes().startswith(before)
    (group,) = registered.read(root, KEY.benchmark)
    states = {seed.seed: (seed.state, seed.event) for seed in members(group, []).seeds}
    assert states[1] == ("registered", "")
    assert states[2] == ("stopped", "2024-05-01T13:00:00Z: ended by SIGKILL")
    assert states[3] == ("launched", "2024-05-01T14:00:00Z")
    with pytest.raises(RegistryError, match="expected one of 1234, 1, 2, 3, 4"):
        registered.launched(root, group, 77)


@pytest.mark.parametrize("event", ["launched", "extended"])
def test_nothing_happens_to_a_group_before_it_is_registered(root: Path, event: str) -> None:
    """Neither with an earlier time, whatever the order of the lines, nor to one that is not registered at all."""
    group = registered.register(root, KEY, 1, None, time=BEFORE)
    path = registered.path_of(root, KEY.benchmark)
    before = path.read_bytes()
    early = "2024-03-31T23:59:59Z"
    add = {
        "launched": lambda: registered.launched(root, group, 1, early),
        "extended": lambda: registered.extend(root, group, None, time=early),
    }
    with pytest.raises(RegistryError, match=f"line 2: group: is [0-9a-f]{{16}}, which is not registered by {early}"):
        add[event]()
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(RegistryError, match=r"line 1: group: is [0-9a-f]{16}, which is not registered by 2"):
        registered.launched(root, group, 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"group": "0123456789abcdef"}, "the name of this recipe, data, engine and precision"),
        ({"group": 2}, "group: is 2, expected "),
        ({"schema": 1, "group": 2}, "group: is 2, expected 1"),
        ({"schema": 1, "group": 1, "event": "launched"}, "line 1"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": [-1]}, "different whole numbers"),
        ({"time": "yesterday"}, "time: is 'yesterday'"),
        ({"event": "extended"}, "line 1"),
        ({"more": 1}, "line 1"),
        ({"seeds": "1"}, "line 1"),
        ({"engine": "\x1b[31mgluon"}, "at `$.engine`"),
        ({"precision": "<script>"}, "at `$.precision`"),
        ({"version": 10**400}, "line 1"),
        ({"version": 0}, "at `$.version`"),
        ({"commit": "0123"}, "at `$.commit`"),
        ({"digest": "|"}, "at `$.digest`"),
        ({"data": ["x"]}, "at `$.data"),
        ({"commit": "/home/ann"}, "has a place in a home folder (/home...)"),
    ],
)
def test_verify_names_what_a_line_may_not_be(root: Path, change: dict[str, object], expected: str) -> None:
    registered.register(root, KEY, 1, None, time=BEFORE)
    path = registered.folder_of(root) / f"{KEY.benchmark}.jsonl"
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n")
    (problem,) = verification.verify(root).problems
    assert problem.path == path
    assert expected in str(problem)
    assert f"`git -C {path.parent} checkout -- {path.name}`" in str(problem)


def test_a_line_is_as_it_was_written_or_refused(root: Path) -> None:
    registered.register(root, KEY, 1, None, time=BEFORE)
    path = registered.folder_of(root) / f"{KEY.benchmark}.jsonl"
    path.write_text(path.read_text().replace(",", ", "))
    with pytest.raises(RegistryError, match="line 1: is not as it was written"):
        registered.read(root, KEY.benchmark)
    path.write_text('{"schema":3}\n')
    with pytest.raises(NewerSchemaError):
        registered.read(root, KEY.benchmark)
    (path.parent / "notes.txt").write_text("mine")
    assert [problem[0].name for problem in registered.problems(root)] == [path.name, "notes.txt"]


def test_a_line_that_is_nested_without_end_is_refused(root: Path) -> None:
    path = registered.path_of(root, "x")
    path.parent.mkdir(parents=True)
    path.write_text('{"x":%s,"schema":2}\n' % (4900 * "[" + 4900 * "]"))
    with pytest.raises(RegistryError, match="line 1: maximum recursion depth"):
        registered.read(root, "x")


def test_a_reason_that_is_no_printable_line_is_refused(root: Path) -> None:
    group = registered.register(root, KEY, 1, None, time=BEFORE)
    for reason in ("\x1b[31mkilled", "a\nb", "x" * 3000):
        with pytest.raises(RegistryError, match="reason: is no printable line"):
            registered.stopped(root, group, 1, reason)


OF_SCHEMA_1 = (
    f'{{"commit":null,"data":["{64 * "a"}"],"digest":"{64 * "d"}","engine":"%s","event":"registered","group":%d,'
    '"precision":"float32","schema":1,"seeds":[1,2],"time":"2024-05-01T12:00:00Z","version":1}\n'
)
LAUNCHED = '{"event":"launched","group":%d,"schema":1,"seed":2,"time":"2024-05-01T13:00:00Z"}\n'


def test_a_line_that_is_longer_than_any_fact_is_refused_before_it_is_searched(root: Path) -> None:
    path = registered.path_of(root, "x")
    path.parent.mkdir(parents=True)
    path.write_bytes(b'"' + b"x" * 10**6 + b'"\n')
    with pytest.raises(RegistryError, match="expected 10,000 at most"):
        registered.events(path)


def test_a_pipe_is_passed_over_and_not_waited_for(root: Path) -> None:
    registered.folder_of(root).mkdir(parents=True)
    os.mkfifo(registered.path_of(root, "x"))
    warnings: list[str] = []
    assert registered.read_all(root, warnings.append) == []
    assert "is no file of at most" in warnings[0]


def test_the_numbers_of_schema_1_are_those_of_its_file(root: Path) -> None:
    path = registered.path_of(root, "a")
    path.parent.mkdir()
    path.write_text(OF_SCHEMA_1 % ("gluon", 1) + OF_SCHEMA_1 % ("torch", 2) + LAUNCHED % 2)
    gluon, torch = registered.read(root, "a")
    assert (gluon.key.engine, list(gluon.last_event)) == ("gluon", [])
    assert (torch.key.engine, list(torch.last_event)) == ("torch", [2])
    registered.launched(root, gluon, 1, "2024-05-02T12:00:00Z")  # lines of both schemas
    assert list(registered.read(root, "a")[0].last_event) == [1]
    assert path.read_text().startswith(OF_SCHEMA_1 % ("gluon", 1))
    for wrong in ((OF_SCHEMA_1 % ("gluon", 1)) + OF_SCHEMA_1 % ("torch", 1), OF_SCHEMA_1 % ("torch", 1) + LAUNCHED % 2):
        path.write_text(wrong)  # what git makes of two branches is refused, not guessed
        with pytest.raises(RegistryError, match="line 2: group: is "):
            registered.read(root, "a")


def test_what_two_wrote_down_of_one_group_is_one_group(root: Path) -> None:
    """The earlier registration and extension count, in whichever order the lines stand."""
    path = registered.path_of(root, KEY.benchmark)
    for time in (AFTER, BEFORE):
        group = registered.register(root, KEY, 1, None, time=time)
        registered.extend(root, group, None, time=time)
        registered.launched(root, group, 7, time=time)
        path = path.rename(path.with_suffix(f".{time[6]}"))
    lines = b"".join(found.read_bytes() for found in path.parent.iterdir()).splitlines(keepends=True)
    for order in (lines, sorted(lines), lines[::-1], lines * 2):
        registered.path_of(root, KEY.benchmark).write_bytes(b"".join(order))
        (found,) = registered.read(root, KEY.benchmark)
        assert (found.time, found.seeds) == (BEFORE, (1234, *range(1, 10)))
        assert found.last_event[7].time == AFTER


def test_two_extensions_by_other_seeds_contradict_each_other(root: Path) -> None:
    path, lines = registered.path_of(root, KEY.benchmark), set[bytes]()
    for seeds in ((5, 6), (5, 77)):
        group = registered.register(root, KEY, 1, None, time=BEFORE)
        registered.extend(root, group, None, seeds, AFTER)
        lines |= {*path.read_bytes().splitlines(keepends=True)}
        path.unlink()
    path.write_bytes(b"".join(lines))
    with pytest.raises(RegistryError, match="is extended by other seeds already: there is one extension"):
        registered.read(root, KEY.benchmark)


# -- members -----------------------------------------------------------------------------------------------------------

GROUP = Registration(1, KEY, 1, BEFORE, None, (1234, 1, 2, 3, 4), (1234, 1, 2, 3, 4), {})


def test_what_is_left_out_is_said_with_the_reason() -> None:
    left_out = {
        "it does not score: other train.epochs": seal(make_record(1, scoring=False)),
        "other images": OTHERS["other test images"],
        "engine torch": OTHERS["another engine"],
        "precision bfloat16": OTHERS["another precision"],
        "seed 7 is not registered": seal(make_record(7)),
    }
    run = seal(make_record(1))
    again = started(make_record(1), 20)
    found = members(GROUP, [*left_out.values(), OTHERS["other settings"], OTHERS["another benchmark"], again, run])
    reasons = {out.run.id: out.reason for out in found.left_out}
    for reason, record in left_out.items():
        assert reasons[record.id] == reason
    assert "other settings" in reasons[OTHERS["other settings"].id]
    assert reasons[again.id].startswith("a repetition of seed 1")
    assert len(reasons) == 7  # another benchmark's is nobody's business
    assert [(seed.seed, seed.state) for seed in found.seeds if seed.run] == [(1, "finished")]


def test_a_run_that_began_before_the_registration_is_not_of_the_group() -> None:
    found = members(GROUP._replace(time=AFTER), [seal(make_record(1))])
    assert found.left_out[0].reason == "it began before the group was registered"
    assert {seed.state for seed in found.seeds} == {"registered"}


def test_a_killed_run_counts_where_there_is_no_other() -> None:
    killed = started(seal(msgspec.structs.replace(make_record(2), outcome="killed")), 1)
    later = started(make_record(2), 20)
    found = members(GROUP, [killed, later])
    assert [seed.run.id for seed in found.seeds if seed.run] == [later.id]


def test_every_state_is_counted() -> None:
    killed = seal(msgspec.structs.replace(make_record(2), outcome="killed"))
    diverged = seal(msgspec.structs.replace(make_record(3), outcome="diverged"))
    found = members(GROUP, [seal(make_record(1)), killed, diverged])
    assert [seed.state for seed in found.seeds] == ["registered", "finished", "killed", "diverged", "registered"]


RECORDS: list[Record] = [seal(make_record(seed)) for seed in (1234, 1, 2, 3, 4)]


@given(st.randoms(use_true_random=False), st.lists(st.sampled_from([*OTHERS.values(), *RECORDS]), max_size=8))
def test_order_duplicates_and_irrelevant_records_change_nothing(shuffle: random.Random, more: list[Record]) -> None:
    expected = members(GROUP, RECORDS).seeds
    records = [*RECORDS, *more]
    shuffle.shuffle(records)
    assert members(GROUP, records).seeds == expected
