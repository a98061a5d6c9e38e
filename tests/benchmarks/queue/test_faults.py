"""Queues whose workers are killed, whose clocks are wrong, whose disk is full: real processes, fake runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fake_queue import check_failed, fake_queue, folders_of, recorded, trained_twice_at_a_time

from benchmarks.queue.folder import QueueFolder

CHAOS = Path(__file__).with_name("chaos.py")
POISONED = {7: "no such word"}


def carry_out(queue: QueueFolder, workers: int, kills: int) -> int:
    command = [sys.executable, str(CHAOS), str(queue.path), str(workers), str(kills), "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def check(queue: QueueFolder, seeds: range) -> None:
    """Every run is recorded once and nobody's at the same time; the poisoned one has failed, after two tries."""
    good = [seed for seed in seeds if seed not in POISONED]
    assert recorded(queue) == Counter(good)
    assert trained_twice_at_a_time(queue) == []
    assert folders_of(queue) == Counter(map(str, good))  # no epoch was trained again in another folder
    ends = Counter(queue.over().values())
    assert ends == {"done": len(good), "failed": len(seeds) - len(good)}
    for seed, why in POISONED.items():
        check_failed(queue, seed, why)


@pytest.mark.parametrize(
    ("runs", "kills"), [pytest.param(12, 6, marks=pytest.mark.slow), pytest.param(100, 60, marks=pytest.mark.nightly)]
)
def test_workers_killed_at_random_moments_with_wrong_clocks_and_without_flock(tmp_path, runs, kills):
    queue = fake_queue(tmp_path / "queue", range(runs), fails=POISONED, epochs=4, seconds=0.05)
    assert carry_out(queue, 4, kills) > 0
    check(queue, range(runs))


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_blames_no_run(tmp_path):
    """A real one: of a megabyte, in a name space of its own."""
    script = Path(__file__).with_name("full_disk.py")
    inside = f'mount -t tmpfs -o size=1m none "{tmp_path}" && exec "{sys.executable}" "{script}" "{tmp_path}"'
    if subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("user name spaces are not allowed here")
    result = subprocess.run(["unshare", "-Urm", "sh", "-c", inside], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["recorded"] == {str(seed): 1 for seed in range(4)}
    assert found["over"] == ["done"] * 4
    assert found["said"]
    assert all("No space left on device" in line for line in found["said"])
    assert all("`python cli.py queue work` goes on" in line for line in found["said"])
