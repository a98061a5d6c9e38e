"""The index of a large registry: it says what the files say, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from record_factory import make_record

from results import index, registry
from results.entries import entry_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of three records that is large enough to be indexed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "SMALLEST", 1)
    monkeypatch.setattr(index, "SETTLED", -60.0)
    for seed in range(3):
        registry.write(make_record(seed), tmp_path / "runs")
    return tmp_path / "runs"


def _fail(line: str) -> None:
    pytest.fail(line)


def entries(root: Path) -> list[index.Entry]:
    return index.entries(root, _fail)


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "read", lambda path: pytest.fail(f"{path} was read"))


def test_the_second_time_nothing_is_read_and_the_same_comes_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = entries(root)
    assert first == [entry_of(record) for _, record in registry.read_all(root, str)]
    no_reading(monkeypatch)
    assert entries(root) == first


def test_an_entry_counts_only_while_its_file_is_the_same(root: Path) -> None:
    entries(root)
    path = next(root.glob("*/*.json"))
    data, times = path.read_bytes(), path.stat()
    path.write_bytes(data.replace(b'"paper":"BinaryConnect"', b'"paper":"BinaryCannect"'))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same length and date: ctime tells
    warnings: list[str] = []
    assert len(index.entries(root, warnings.append)) == 2
    assert "paper" in warnings[0]
    path.unlink()
    assert len(entries(root)) == 2


def test_records_that_come_and_go_are_seen(root: Path) -> None:
    entries(root)
    registry.write(make_record(7), root)
    assert sorted(entry.seed for entry in entries(root)) == [0, 1, 2, 7]


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100, b"half"])
def test_a_damaged_index_is_made_anew(damage: bytes, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, path = entries(root), index.index_path(root)
    path.write_bytes(path.read_bytes()[:200] if damage == b"half" else damage)
    assert entries(root) == first
    no_reading(monkeypatch)
    assert entries(root) == first


def test_an_index_of_another_program_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = entries(root)
    monkeypatch.setattr(index, "_program", lambda: "another")
    path = index.index_path(root)
    before = path.read_bytes()
    assert entries(root) == first
    assert path.read_bytes() != before


def test_a_file_that_was_just_written_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SETTLED", 3600.0)
    entries(root)
    assert not index.index_path(root).exists()


def test_where_it_cannot_be_written_all_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.parent / "cache").write_text("no folder")
    assert len(entries(root)) == 3


def test_a_small_registry_has_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SMALLEST", 4)
    assert len(entries(root)) == 3
    assert not index.index_path(root).exists()


def test_what_cannot_be_opened_is_passed_over_and_said_and_hides_nothing(root: Path) -> None:
    first = entries(root)
    folder = next(root.iterdir())
    (folder / "0.json").symlink_to("nowhere")
    (folder / "1.json").symlink_to("1.json")
    for _ in range(2):
        warnings: list[str] = []
        assert index.entries(root, warnings.append) == first
        assert [line.partition(": ")[2].rpartition("/")[2][:6] for line in warnings] == ["0.json", "1.json"]
        assert [path.name for path, _ in registry.read_all(root, str)] == [f"{entry.id}.json" for entry in first]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_may_not_be_read_is_said(root: Path) -> None:
    folder = next(root.iterdir())
    folder.chmod(0)
    try:
        warnings: list[str] = []
        assert index.entries(root, warnings.append) == []
        assert warnings == [f"passed over: {folder}: cannot be read: Permission denied"]
    finally:
        folder.chmod(0o755)
