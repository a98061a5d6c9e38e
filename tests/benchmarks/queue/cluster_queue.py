"""A queue of fake runs for a cluster: its jobs start the real `queue work`, which starts the fake `reproduce`."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import yaml
from fake_queue import COMMIT, fake_queue, fake_run, recorded, trained_twice_at_a_time

from benchmarks.paths import REPOSITORY
from benchmarks.queue.executor import Executor
from benchmarks.queue.folder import QueueFolder

_CLI = f"""
import os, sys
from pathlib import Path
script = "{REPOSITORY}/cli.py" if sys.argv[1] == "queue" else Path(__file__).with_name("fake_run.py")
os.execv(sys.executable, [sys.executable, str(script), *sys.argv[1:]])
"""
SECONDS = 240.0  # that anything may take on a slow machine


def cluster_queue(
    path: Path, executor: str, settings: Mapping[str, object], seeds: Iterable[int], epochs: int = 3,
    seconds: float = 0.01, fails: Mapping[int | str, str] | None = None,
) -> QueueFolder:  # fmt: skip
    """A queue with a run of each seed; `settings` are those of the executor."""
    seeds = list(seeds)
    queue = fake_queue(path, seeds, fails=fails, epochs=epochs, seconds=seconds)
    queue.add([fake_run(seed, executor=executor) for seed in seeds])
    code = queue.code_of(COMMIT)
    (code / "cli.py").rename(code / "fake_run.py")
    (code / "cli.py").write_text(_CLI)
    for room in ("benchmarks", "results", "data_prep", "commands"):
        (code / room).symlink_to(REPOSITORY / room)
    common = {"work": ["--beat", "0.5"], "data": str(path)}
    (queue.path / f"{executor}.yaml").write_text(yaml.safe_dump(common | dict(settings)))
    return queue


def submit(queue: QueueFolder, executor: Executor) -> dict[str, str]:
    """Hand all of its runs to the executor, as `queue add` does."""
    handles = executor.submit(list(queue.runs().values()))
    queue.keep_handles(executor.name, handles)
    return handles


def wait(done: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < end, "it does not come to this"
        time.sleep(0.2)


def are_over(queue: QueueFolder) -> bool:
    return set(queue.over()) == set(queue.runs())


def check(queue: QueueFolder, epochs: int, interruptions: int) -> None:
    """Every run is recorded once and was nobody's at the same time; nothing was lost but epochs in progress."""
    assert set(queue.over().values()) == {"done"}
    assert set(recorded(queue).values()) == {1}
    assert len(recorded(queue)) == len(queue.runs())
    assert trained_twice_at_a_time(queue) == []
    for name in queue.runs():
        printed = [line for path in queue.logs_of(name) for line in path.read_text().splitlines()]
        trained = Counter(line for line in printed if line.startswith("epoch "))
        assert trained == Counter(f"epoch {number}" for number in range(1, epochs + 1))
    tries = sum(len(queue.logs_of(name)) for name in queue.runs())
    assert tries >= len(queue.runs()) + interruptions


def stored_epoch(queue: QueueFolder, seed: int) -> int:
    """How far a run is."""
    found = list(queue.runs_of(COMMIT).glob(f"*/*-s{seed}/epoch"))
    return int(found[0].read_text()) if found else 0


def parents_of_work(queue: QueueFolder) -> list[int]:
    """The processes, of a cluster's machinery, that have started `queue work` for this queue."""
    found = subprocess.run(
        ["pgrep", "-f", f"queue work --queue {queue.path} "], capture_output=True, text=True, check=False
    ).stdout.split()
    status = [Path(f"/proc/{pid}/status").read_text() for pid in found]
    return [int(re.findall(r"PPid:\s+(\d+)", text)[0]) for text in status]
