"""Queued runs on a real Slurm: slurmctld and slurmd on this machine, two nodes of one core."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import one_machine_slurm
import pytest
from cluster_queue import are_over, check, cluster_queue, parents_of_work, stored_epoch, submit, wait
from fake_queue import check_failed, fake_run, recorded

from benchmarks.queue.executors import open_executor
from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.slurm import Slurm
from benchmarks.queue.slurm_nodes import Nodes

pytestmark = [pytest.mark.cluster, pytest.mark.nightly]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its folder."""
    absent = one_machine_slurm.missing() + ["submitit"] * (importlib.util.find_spec("submitit") is None)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (docs/clusters.md)")
    folder = tmp_path_factory.mktemp("slurm")
    with (
        one_machine_slurm.slurm(folder) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(autouse=True)
def _no_job_is_left(slurm: Path) -> Iterator[None]:
    yield
    said("scancel", "--me")
    wait(lambda: not said("squeue", "--noheader"))


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def state_of(queue: QueueFolder, executor: Slurm, seed: int, handles: dict[str, str]) -> str:
    return executor.poll(handles)[fake_run(seed).name].state


def test_an_array_comes_through_and_a_run_that_fails_has_two_tries(tmp_path):
    queue = cluster_queue(tmp_path, "slurm", {}, range(4), fails={3: "no such word"})
    executor = open_executor("slurm", queue)
    handles = submit(queue, executor)
    assert len({handle.partition("_")[0] for handle in handles.values()}) == 1  # one array
    assert {seen.state for seen in executor.poll(handles).values()} <= {"waiting", "running"}
    wait(lambda: are_over(queue))
    assert recorded(queue) == {0: 1, 1: 1, 2: 1}
    check_failed(queue, 3, "no such word")
    wait(lambda: {seen.state for seen in executor.poll(handles).values()} == {"gone"})
    assert Nodes(queue.path / "slurm" / "nodes").excluded() == []  # a run that fails on both accuses none
    assert executor.logs(fake_run(3).name, handles[fake_run(3).name])


@pytest.mark.parametrize("partition", ["low", "grace"])
def test_a_preempted_run_goes_on_by_itself(tmp_path, partition):
    queue = cluster_queue(tmp_path, "slurm", {"partition": partition}, range(2), epochs=12, seconds=1.0)
    submit(queue, open_executor("slurm", queue))
    wait(lambda: min(stored_epoch(queue, seed) for seed in range(2)) > 1)
    said("sbatch", "--partition=high", "--output=/dev/null", "--wrap=sleep 2")
    wait(lambda: are_over(queue))
    check(queue, epochs=12, interruptions=1)


def test_a_time_limit_is_gone_on_after(tmp_path):
    settings = {"hours": 1 / 60, "signal_seconds": 45}
    queue = cluster_queue(tmp_path, "slurm", settings, [0], epochs=75, seconds=1.0)  # longer than the limit
    submit(queue, open_executor("slurm", queue))
    wait(lambda: are_over(queue))
    check(queue, epochs=75, interruptions=1)


def test_a_run_that_stores_nothing_within_two_time_limits_has_failed(tmp_path):
    settings = {"hours": 1 / 60, "signal_seconds": 50}
    queue = cluster_queue(tmp_path, "slurm", settings, [0], epochs=1, seconds=1000.0)
    executor = open_executor("slurm", queue)
    handles = submit(queue, executor)
    wait(lambda: are_over(queue))
    over = queue.read_over(fake_run(0).name)
    assert over is not None
    assert over.reason.startswith("no epoch was stored within 0.0166667 hours, 2 times")
    wait(lambda: state_of(queue, executor, 0, handles) == "gone")


def test_a_node_that_fails_at_once_is_excluded_after_two_failures(tmp_path):
    queue = cluster_queue(tmp_path, "slurm", {}, range(6), seconds=1.0, fails={"n1": "no GPU"})
    submit(queue, open_executor("slurm", queue))
    wait(lambda: are_over(queue))
    check(queue, epochs=3, interruptions=2)
    nodes = Nodes(queue.path / "slurm" / "nodes")
    assert nodes.excluded() == ["n1"]
    assert len(list((queue.path / "slurm" / "nodes").iterdir())) == 2  # what waited was not tried there any more
    more = cluster_queue(tmp_path / "more", "slurm", {}, [7])
    (more.path / "slurm").mkdir()
    (queue.path / "slurm" / "nodes").rename(more.path / "slurm" / "nodes")
    submit(more, open_executor("slurm", more))
    assert said("squeue", "--noheader", "--states=all", f"--name={Slurm(more)._job_name}", "--format=%x") == "n1"


def test_a_killed_job_costs_the_epoch_in_progress(tmp_path):
    queue = cluster_queue(tmp_path, "slurm", {}, [0], epochs=25, seconds=1.0)
    submit(queue, open_executor("slurm", queue))
    wait(lambda: stored_epoch(queue, 0) > 1)
    os.kill(parents_of_work(queue)[0], signal.SIGKILL)
    wait(lambda: are_over(queue))
    check(queue, epochs=25, interruptions=1)


def test_a_cancelled_run_does_not_come_back(tmp_path):
    queue = cluster_queue(tmp_path, "slurm", {}, range(3), epochs=1000, seconds=1.0)
    executor = open_executor("slurm", queue)
    handles = submit(queue, executor)
    wait(lambda: max(stored_epoch(queue, seed) for seed in range(3)) > 0)
    queue.cancel(list(queue.runs()))
    executor.cancel(handles)
    wait(lambda: {seen.state for seen in executor.poll(handles).values()} == {"gone"})
    assert set(queue.over().values()) == {"cancelled"}
    assert recorded(queue) == {}


def test_a_lost_node_costs_the_epoch_in_progress(tmp_path, slurm):
    """The last test here, for afterwards there is one node."""
    queue = cluster_queue(tmp_path, "slurm", {}, range(2), epochs=25, seconds=1.0)
    submit(queue, open_executor("slurm", queue))
    wait(lambda: min(stored_epoch(queue, seed) for seed in range(2)) > 1)
    one_machine_slurm.lose(slurm, "n2")
    wait(lambda: are_over(queue))
    check(queue, epochs=25, interruptions=1)
