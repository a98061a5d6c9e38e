from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from record_factory import make_record

from results import registry
from results.entries import Entry
from results.errors import RegistryError
from results.index import entries
from results.lines import line_of
from results.reevaluations import Reevaluation, add, folder_of, path_of, problems, read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def entry(root: Path) -> Entry:
    registry.write(make_record(), root)
    (found,) = entries(root, print)
    return found


def measured(entry: Entry, **changes) -> Reevaluation:
    assert entry.results is not None
    values = {
        "record": entry.id, "wrong": entry.results.declared.test_wrong, "images": 400, "differing": 0,
        "engine": "gluon", "device": "some processor", "time": "2026-01-02T00:00:00Z", "commit": None,
    }  # fmt: skip
    return Reevaluation(**(values | changes))


def test_what_is_added_is_read_in_the_order_of_time_and_once(root, entry):
    late, early = measured(entry), measured(entry, time="2026-01-01T00:00:00Z")
    for one in (late, early, late):
        add(root, entry.benchmark, one)
    assert read(root, entry.benchmark) == [early, late]
    assert list(problems(root, [entry])) == []


def test_lines_of_two_branches_are_one_set_in_whatever_order(root, entry):
    path = path_of(root, entry.benchmark)
    add(root, entry.benchmark, measured(entry))
    add(root, entry.benchmark, measured(entry, device="another"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*reversed(lines), *lines]))
    assert len(read(root, entry.benchmark)) == 2


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"wrong": 400}, "which 0 of"),
        ({"record": "0" * 16}, "no such record of this benchmark"),
        ({"differing": 500}, "expected counts of images"),
        ({"images": 10_000}, "images: is 10000, of the record 400"),
        ({"device": "x" * 10**6}, "bytes, expected 10,000 at most"),
        ({"time": "yesterday"}, "expected counts of images, and UTC"),
        ({"device": "/home/somebody/gpu"}, "a place in a home folder"),
        ({"device": "\x1b[31mgpu"}, "device: is no printable line"),
        ({"engine": "<script>"}, "at `$.engine`"),
        ({"commit": "\x1b"}, "at `$.commit`"),
        ({"record": "../x"}, "at `$.record`"),
        ({"images": 10**30}, "expected counts of images"),
    ],
)
def test_what_cannot_be_is_a_problem(root, entry, changes, found):
    path = folder_of(root) / f"{entry.benchmark}.jsonl"
    path.parent.mkdir()
    path.write_bytes(line_of(measured(entry, **changes)))
    (problem,) = problems(root, [entry])
    assert problem[0] == path
    assert found in problem[2]


@pytest.mark.parametrize("line", [b"{}\n", b"[]", b"\xff\n", b'{"schema":2}\n'])
def test_a_line_that_is_none_is_refused_and_kept(root, entry, line):
    path = path_of(root, entry.benchmark)
    add(root, entry.benchmark, measured(entry))
    path.write_bytes(path.read_bytes() + line)
    before = path.read_bytes()
    with pytest.raises(RegistryError, match=r"line 2: .*`git -C "):
        add(root, entry.benchmark, measured(entry, device="another"))
    assert path.read_bytes() == before


def test_another_file_in_the_folder_is_a_problem(root, entry):
    folder_of(root).mkdir()
    (folder_of(root) / "notes.txt").write_text("")
    (problem,) = problems(root, [entry])
    assert "does not belong here" in problem[2]


def test_a_measurement_of_another_benchmark_is_a_problem(root, entry):
    add(root, "another-benchmark", measured(entry))
    (problem,) = problems(root, [msgspec.structs.replace(entry)])
    assert "no such record of this benchmark" in problem[2]
