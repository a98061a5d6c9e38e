"""Walking a registry: all that does not belong there is told, and nothing ends it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from record_factory import make_record

from results import registry, verification
from results.record import Record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record's file in a registry."""
    return registry.write(make_record(), tmp_path / "runs")


def problems(root: Path) -> list[tuple[str, str]]:
    return [(str(problem.path.relative_to(root)), problem.message) for problem in registry.verify(root)]


def test_whatever_does_not_belong_there_is_told(path: Path) -> None:
    root, folder = path.parents[1], path.parent
    (folder / ".x.json").write_text("{}")
    (folder / "x.JSON").write_text("{}")
    (folder / "a.json").mkdir()
    (folder / "notes.txt").write_text("")
    (folder / "link.json").symlink_to(path)
    os.mkfifo(folder / "pipe.json")
    (root / "stray.json").write_text("{}")
    found = {Path(name).name: message for name, message in problems(root)}
    assert sorted(found) == [".x.json", "a.json", "link.json", "notes.txt", "pipe.json", "stray.json", "x.JSON"]
    assert found["a.json"].startswith("is a folder that does not belong here")
    assert found["pipe.json"].startswith("is a pipe or device")
    assert found["link.json"].startswith("is a link")


def test_what_an_unfinished_write_leaves_is_passed_over(path: Path) -> None:
    (path.parent / f".{path.name}.k3_x9a0b.tmp").write_text("half")
    assert problems(path.parents[1]) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_cannot_be_read_is_a_problem(path: Path) -> None:
    path.parent.chmod(0)
    try:
        assert problems(path.parents[1]) == [(path.parent.name, "cannot be read: Permission denied")]
    finally:
        path.parent.chmod(0o755)


def test_an_error_within_a_check_is_a_problem_of_its_record_alone(tmp_path: Path) -> None:
    first, second = (registry.write(make_record(seed), tmp_path) for seed in (1, 2))

    def check(record: Record) -> list[tuple[str, str]]:
        return [("seed", "is one")] if record.seed == 1 else [("seed", str(1 // 0))]

    found = {problem.path: problem.message for problem in registry.verify(tmp_path, [check])}
    assert found == {
        first: "is one",
        second: "cannot be checked: ZeroDivisionError: integer division or modulo by zero",
    }


def test_the_same_weights_with_other_images_right_are_a_problem_of_both(tmp_path: Path) -> None:
    one, other = make_record(1), make_record(2)
    assert one.test_correct != other.test_correct
    first = registry.write(one, tmp_path)
    second = registry.write(msgspec.structs.replace(other, weights_sha256=one.weights_sha256), tmp_path)
    third = registry.write(make_record(3), tmp_path)
    found = {problem.path: problem.field for problem in registry.verify(tmp_path)}
    assert found == {first: "weights_sha256", second: "weights_sha256"}
    assert third not in found


def test_several_processes_find_the_same_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        path = registry.write(make_record(seed), tmp_path)
        if seed % 2:
            path.write_bytes(path.read_bytes().replace(b"BinaryConnect", b"BinaryCannect"))
    alone = verification.verify(tmp_path)
    monkeypatch.setattr(verification, "SERIAL", 0)
    monkeypatch.setattr(verification, "CHUNK", 2)
    assert verification.verify(tmp_path, processes=2) == alone
    assert len(alone.entries) == 3
    assert len({problem.path for problem in alone.problems}) == 3
