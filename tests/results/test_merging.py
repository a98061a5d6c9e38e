"""Merging registries: all that any has, in whatever order; nothing that has a problem, and nothing half."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from record_factory import make_record
from test_weights import PACKED

from results import reevaluations, registered, registry, verification, weights
from results.errors import RegistryFileError
from results.events import Event, Extended, Launched, Registered, Stopped, name_of
from results.groups import key_of
from results.lines import line_of
from results.merging import lost, merge
from results.record import Record, seal, to_bytes
from results.reevaluations import Reevaluation

KEYS = [key_of(make_record())._replace(engine=engine) for engine in ("gluon", "torch", "other")]
RECORDS = [
    *(seal(make_record(seed, 1, sittings=1)) for seed in (1, 2, 3)),
    seal(make_record(4, 1, "another", 1)),
    *(seal(make_record(seed, 1, published_weights=weights.described(PACKED))) for seed in (5, 6)),
]


def content(root: Path) -> dict[str, bytes]:
    """Every file of a registry by its name."""
    return {
        str(path.relative_to(root.parent)): path.read_bytes() for path in root.parent.rglob("*.*") if path.is_file()
    }


@contextmanager
def folder() -> Iterator[Callable[[], Path]]:
    """Makes roots of empty registries."""
    with tempfile.TemporaryDirectory() as name:

        def make() -> Path:
            root = Path(tempfile.mkdtemp(dir=name)) / "runs"
            root.mkdir()
            return root

        yield make


def write(record: Record, root: Path) -> Path:
    return registry.write(record, root, PACKED if record.published_weights else None)


# -- in whatever order -------------------------------------------------------------------------------------------------


def at(second: int) -> str:
    return f"2024-05-01T12:00:{second:02}Z"


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What one machine wrote down: groups, registered whenever; runs of their seeds after that, in any second."""
    events: list[Event] = []
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True)):
        begin = draw(st.integers(0, 5))
        events.append(
            Registered(
                group=name_of(key), time=at(begin), digest=key.digest, version=1, data=key.data, engine=key.engine,
                precision=key.precision, seeds=(1, 2), commit=draw(st.sampled_from([None, "c0ffee" + 34 * "0"])),
            )
        )  # fmt: skip
        if is_extended := draw(st.booleans()):
            events.append(
                Extended(group=name_of(key), time=at(begin + draw(st.integers(0, 2))), seeds=(3,), commit=None)
            )
        for seed in draw(st.lists(st.sampled_from([1, 2, 3] if is_extended else [1, 2]), max_size=3)):
            time = at(begin + draw(st.integers(2, 9)))
            events.append(Launched(group=name_of(key), time=time, seed=seed))
            if draw(st.booleans()):
                events.append(Stopped(group=name_of(key), time=time, seed=seed, reason="killed"))
    return events


def write_events(events: list[Event], benchmark: str, root: Path, schema: int, shuffle: random.Random) -> None:
    path = registered.path_of(root, benchmark)
    path.parent.mkdir(parents=True, exist_ok=True)
    if schema == 1:
        groups = [event.group for event in events if isinstance(event, Registered)]
        events = [msgspec.structs.replace(event, schema=1, group=groups.index(event.group) + 1) for event in events]
    else:
        shuffle.shuffle(events)
    path.write_bytes(b"".join(map(line_of, events)))


def measured(record: Record, device: str, **changes: object) -> Reevaluation:
    assert record.results is not None
    wrong = record.results.declared.test_wrong
    values = {
        "record": record.id, "wrong": wrong, "images": 400, "differing": 0, "engine": "gluon", "device": device,
        "time": at(1), "commit": None,
    }  # fmt: skip
    return Reevaluation(**(values | changes))


MACHINES = st.tuples(st.sets(st.sampled_from(range(len(RECORDS)))), histories(), st.sampled_from([1, 2]))


@examples(10)
@given(st.lists(MACHINES, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_order_grouping_and_repetition_change_no_byte(
    machines: list[tuple[set[int], list[Event], int]], choice: random.Random
) -> None:
    with folder() as new:
        roots = []
        for records, events, schema in machines:
            roots.append(new())
            for number in records:
                write(RECORDS[number], roots[-1])
                for device in choice.sample(["one", "another"], choice.randrange(3)):
                    reevaluations.add(roots[-1], RECORDS[number].benchmark, measured(RECORDS[number], device))
            if events:
                write_events(events, KEYS[0].benchmark, roots[-1], schema, choice)
            assert registry.verify(roots[-1]) == []
        whole = new()
        assert merge([root.parent for root in roots], whole).refused == []
        expected = content(whole)
        assert verification.verify(whole).problems == []
        assert merge([choice.choice(roots).parent, whole.parent], whole) == (
            [], merge([whole.parent], whole).known, {}, [], {}, [],
        )  # fmt: skip
        assert content(whole) == expected
        while len(roots) > 1:  # any two of them, in either order: into the one, or into a new one
            choice.shuffle(roots)
            one, other = roots.pop(), roots.pop()
            into = choice.choice([one, new()])
            assert merge([other.parent, one.parent], into).refused == []
            roots.append(into)
        if len(machines) > 1:
            assert content(roots[0]) == expected


def test_the_groups_of_two_machines_are_those_of_both(tmp_path: Path) -> None:
    """Each had registered a second group under its first: no number is confused."""
    roots = [tmp_path / name / "runs" for name in ("a", "b")]
    for root, key, second in zip(roots, KEYS[1:], (3, 2), strict=True):
        registered.register(root, KEYS[0], 1, None, time=at(1))
        group = registered.register(root, key, 1, None, time=at(second))
        registered.launched(root, group, second, time=at(5))
    merged = merge([roots[1].parent], roots[0])
    assert (merged.lines, merged.refused) == ({KEYS[0].benchmark: 2}, [])
    found = registered.read(roots[0], KEYS[0].benchmark)
    assert [(group.number, group.key, list(group.last_event)) for group in found] == [
        (1, KEYS[0], []), (2, KEYS[2], [2]), (3, KEYS[1], [3]),
    ]  # fmt: skip


# -- what is refused ---------------------------------------------------------------------------------------------------


def edited(data: bytes) -> bytes:
    return data.replace(b'"seed":1,', b'"seed":9,')


def test_a_problem_refuses_that_record_alone(tmp_path: Path) -> None:
    there, here = tmp_path / "there" / "runs", tmp_path / "here" / "runs"
    good, bad, bare = (write(RECORDS[number], there) for number in (1, 0, 4))
    bad.write_bytes(edited(bad.read_bytes()))
    weights.path_of(there, bare.parent.name, bare.stem).unlink()
    (bad.parent / "notes.txt").write_text("mine")
    merged = merge([there.parent], here)
    assert [entry.seed for entry in merged.added] == [2]
    assert {(problem.path.name, problem.field) for problem in merged.refused} == {
        (bad.name, "seed"), (bare.name, "published_weights"), ("notes.txt", "content"),
    }  # fmt: skip
    assert list(content(here)) == [f"runs/{good.parent.name}/{good.name}"]
    assert all("\n" not in str(problem) for problem in merged.refused)


def test_extra_checks_are_asked(tmp_path: Path) -> None:
    path = write(RECORDS[0], tmp_path / "there" / "runs")
    merged = merge([path], tmp_path / "here" / "runs", [lambda _: [("target", "is another")]])
    assert [str(problem) for problem in merged.refused] == [f"{path}: target: is another"]
    assert merged.added == []


def test_records_that_contradict_each_other_are_refused_and_what_is_here_stays(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "runs", tmp_path / "there" / "runs"
    write(RECORDS[0], here)
    before = content(here)
    other = seal(make_record(2, 1, weights_sha256=RECORDS[0].weights_sha256))
    path = write(other, there)
    merged = merge([there.parent], here)
    assert [(problem.path, problem.field) for problem in merged.refused] == [(path, "weights_sha256")]
    assert content(here) == before
    both = merge([here.parent, there.parent], tmp_path / "new" / "runs")
    assert (len(both.refused), both.added) == (2, [])


def test_groups_that_contradict_each_other_are_refused_and_what_is_here_stays(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "runs", tmp_path / "there" / "runs"
    registered.register(here, KEYS[0], 1, None, time=at(1))
    registered.register(there, KEYS[0], 1, None, seeds=(7, 8, 9), time=at(0))
    before = content(here)
    (problem,) = merge([there.parent], here).refused
    assert problem.path == registered.path_of(there, KEYS[0].benchmark)
    assert "cannot be merged: group " in problem.message
    assert "is registered with other seeds, 7, 8, 9" in problem.message
    assert content(here) == before
    damaged = registered.path_of(there, KEYS[0].benchmark)
    damaged.write_text(damaged.read_text().replace("1", "2"))
    for place in (there.parent, damaged):
        (problem,) = merge([place], here).refused
        assert (problem.path, problem.field) == (damaged, "line 1")
    assert content(here) == before


def test_a_reevaluation_comes_with_its_record_and_never_without(tmp_path: Path) -> None:
    there, here = tmp_path / "there" / "runs", tmp_path / "here" / "runs"
    path, benchmark = write(RECORDS[0], there), RECORDS[0].benchmark
    reevaluations.add(there, benchmark, measured(RECORDS[0], "one"), measured(RECORDS[0], "another"))
    for dry_run in (True, False):
        merged = merge([there.parent], here, dry_run=dry_run)
        assert (merged.reevaluations, merged.refused) == ({benchmark: 2}, [])
    assert content(here) == content(there)
    reevaluations.add(there, benchmark, measured(RECORDS[0], "a third"), measured(RECORDS[1], "one"))
    (problem,) = merge([there.parent], here).refused
    assert (problem.path, problem.field) == (reevaluations.path_of(there, benchmark), RECORDS[1].id)
    assert len(reevaluations.read(here, benchmark)) == 2
    path.unlink()
    alone = merge([there.parent], tmp_path / "new" / "runs")
    assert (len(alone.refused), alone.reevaluations) == (4, {})


def test_a_damaged_file_here_is_not_written_over(tmp_path: Path) -> None:
    path = write(RECORDS[0], tmp_path / "there" / "runs")
    here = tmp_path / "here" / "runs"
    write(RECORDS[0], here).write_text("{}")
    group = registered.register(tmp_path / "there" / "runs", KEYS[0], 1, None)
    registered.path_of(here, group.key.benchmark).parent.mkdir()
    registered.path_of(here, group.key.benchmark).write_text("{}\n")
    reevaluations.path_of(here, group.key.benchmark).parent.mkdir()
    reevaluations.path_of(here, group.key.benchmark).write_text("{}\n")
    before = content(here)
    merged = merge([path.parents[2]], here)
    assert ["restore" in problem.message for problem in merged.refused] == [True, True, True]
    assert (merged.added, merged.lines, content(here)) == ([], {}, before)


# -- where it lies -----------------------------------------------------------------------------------------------------


def test_a_registry_its_records_a_folder_of_them_or_one(tmp_path: Path) -> None:
    root = tmp_path / "checkout" / "results" / "runs"
    paths = [write(RECORDS[number], root) for number in (0, 4)]
    registered.register(root, KEYS[0], 1, None)
    loose = tmp_path / "loose"
    loose.mkdir()
    for path in (*paths, weights.path_of(root, paths[1].parent.name, paths[1].stem)):
        shutil.copy(path, loose)
    groups = registered.path_of(root, KEYS[0].benchmark)
    places = [
        [root.parents[1]],
        [root.parent],
        [root],
        [*paths, groups],
        [loose, groups],
        [groups, loose / paths[1].name, paths[0]],
    ]
    for number, place in enumerate(places):
        here = tmp_path / str(number) / "runs"
        assert merge(place, here, dry_run=True).refused == []
        assert not here.parent.exists()
        merged = merge(place, here)
        assert (len(merged.added), merged.lines, merged.refused) == (2, {KEYS[0].benchmark: 1}, [])
        assert content(here) == content(root)


def test_a_place_with_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for place in (tmp_path, tmp_path / "absent", tmp_path / "notes.txt"):
        with pytest.raises(RegistryFileError, match="has no record and no registered group: expected a registry"):
            merge([place], tmp_path / "here" / "runs")


def test_a_benchmark_cannot_name_a_place(tmp_path: Path) -> None:
    record = json.loads(to_bytes(RECORDS[0])) | {"benchmark": "../../outside"}
    data = to_bytes(seal(msgspec.convert(record, Record)))
    path = tmp_path / "there" / f"{json.loads(data)['id']}.json"
    path.parent.mkdir()
    path.write_bytes(data)
    (problem,) = merge([path], tmp_path / "here" / "runs").refused
    assert problem.field == "benchmark"
    registered.register(tmp_path / "there" / "runs", KEYS[0], 1, None)
    copy = registered.path_of(tmp_path / "there" / "runs", KEYS[0].benchmark).rename(tmp_path / "a (1).jsonl")
    (problem,) = merge([copy], tmp_path / "here" / "runs").refused
    assert "has no benchmark's name, expected <benchmark>.jsonl" in problem.message
    assert not (tmp_path / "here").exists()


# -- nothing is lost ---------------------------------------------------------------------------------------------------


def test_what_is_gone_is_named(tmp_path: Path) -> None:
    before, now = tmp_path / "before" / "runs", tmp_path / "now" / "runs"
    paths = [write(RECORDS[number], before) for number in (0, 1, 4)]
    group = registered.register(before, KEYS[0], 1, None, time=at(1))
    registered.launched(before, group, 1, time=at(2))
    reevaluations.add(before, RECORDS[0].benchmark, measured(RECORDS[0], "one"))
    merge([before.parent], now)
    write(RECORDS[2], now)
    registered.launched(now, group, 2, time=at(3))
    assert lost(before.parent, now) == []
    assert {problem.path.name for problem in lost(now.parent, before)} == {
        f"{RECORDS[2].id}.json", f"{KEYS[0].benchmark}.jsonl",
    }  # fmt: skip
    (now / paths[0].parent.name / paths[0].name).unlink()
    (now / paths[1].parent.name / paths[1].name).write_text("{}")
    weights.path_of(now, paths[2].parent.name, paths[2].stem).unlink()
    lines = registered.path_of(now, group.key.benchmark)
    lines.write_bytes(b"".join(lines.read_bytes().splitlines(keepends=True)[:1]))
    reevaluations.path_of(now, RECORDS[0].benchmark).unlink()
    found = lost(before.parent, now)
    assert {str(problem.path.relative_to(now.parent)) for problem in found} == {
        *(str(path.relative_to(before.parent)) for path in paths[:2]),
        f"weights/{lines.stem}/{paths[2].stem}.safetensors",
        f"registered/{lines.name}", f"reevaluated/{lines.name}",
    }  # fmt: skip
    assert all("lacks 1 lines that" in problem.message for problem in found[-2:])
    pipe = weights.path_of(before, paths[2].parent.name, paths[2].stem)
    pipe.unlink()
    os.mkfifo(pipe)  # which would be waited for
    assert pipe.stem in {problem.path.stem for problem in lost(before.parent, now)}
