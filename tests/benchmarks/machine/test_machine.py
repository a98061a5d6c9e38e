"""How many cores a process may use, by control groups as Linux writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.machine import facts as machine


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 0.5),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "200000 100000", "c/cpu.max": "1000 100000"}, 2.0),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"}, 3.0),
        ("4:cpu,x:/host/x", {"cpu,x/cpu.cfs_quota_us": "50000", "cpu,x/cpu.cfs_period_us": "20000"}, 2.5),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("9:cpuset:/a\n3:memory:/", {"cpu/cpu.cfs_quota_us": "100", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("nonsense", {"cpu.max": "1 2 3"}, None),
        ("0::/", {"cpu.max": "100000"}, None),
    ],
)  # fmt: skip
def test_the_share_of_time_that_control_groups_leave(tmp_path, own, files, quota):
    write(tmp_path, {"own": own, **{f"groups/{name}": text for name, text in files.items()}})
    assert machine.cpu_quota(tmp_path / "groups", tmp_path / "own") == quota


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert machine.cpu_quota(tmp_path, tmp_path / "own") is None


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (0.1, 1), (1.0, 1), (1.5, 2), (3.0, 3), (64.0, 4)])
def test_a_part_of_a_core_is_one_more(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert machine.usable_cores() == cores
