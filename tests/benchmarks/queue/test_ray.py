"""Queued runs on a real Ray: a head and two nodes of one core on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_queue import are_over, check, cluster_queue, parents_of_work, stored_epoch, submit, wait
from fake_queue import check_failed, fake_run, recorded

from benchmarks.errors import RunError
from benchmarks.queue.executors import open_executor

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.filterwarnings("ignore::Warning:ray")]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    pytest.importorskip("ray", reason="Ray is not installed (docs/clusters.md)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, include_dashboard=False)
            yield cluster
        finally:
            cluster.shutdown()


def settings(ray: Any) -> dict[str, object]:
    return {"address": ray.address, "pause": 0.5}


def test_runs_come_through_and_one_that_fails_has_two_tries(ray, tmp_path):
    queue = cluster_queue(tmp_path, "ray", settings(ray), range(4), fails={3: "no such word"})
    executor = open_executor("ray", queue)
    handles = submit(queue, executor)
    assert {seen.state for seen in executor.poll(handles).values()} <= {"waiting", "gone"}
    wait(lambda: are_over(queue))
    assert recorded(queue) == {0: 1, 1: 1, 2: 1}
    check_failed(queue, 3, "no such word")
    wait(lambda: {seen.state for seen in executor.poll(handles).values()} == {"gone"})
    assert executor.logs(fake_run(3).name, handles[fake_run(3).name])


def test_a_killed_worker_and_a_lost_node_cost_the_epoch_in_progress(ray, tmp_path):
    # So many runs that no node is idle when one is lost.
    queue = cluster_queue(tmp_path, "ray", settings(ray), range(5), epochs=12, seconds=1.0)
    submit(queue, open_executor("ray", queue))
    wait(lambda: sum(stored_epoch(queue, seed) > 1 for seed in range(5)) == 2)
    os.kill(parents_of_work(queue)[0], signal.SIGKILL)
    wait(lambda: len(list((queue.path / "leases").iterdir())) > 3)
    ray.remove_node(ray.worker_nodes.copy().pop(), allow_graceful=False)
    ray.add_node(num_cpus=1, include_dashboard=False)
    wait(lambda: are_over(queue))
    check(queue, epochs=12, interruptions=2)


def test_cancelled_runs_end_whether_they_have_begun_or_not(ray, tmp_path):
    queue = cluster_queue(tmp_path, "ray", settings(ray), range(3), epochs=1000, seconds=1.0)
    executor = open_executor("ray", queue)
    handles = submit(queue, executor)
    wait(lambda: sum(stored_epoch(queue, seed) > 0 for seed in range(3)) == 2)
    queue.cancel(list(queue.runs()))
    executor.cancel(handles)
    wait(lambda: {seen.state for seen in executor.poll(handles).values()} == {"gone"})
    assert set(queue.over().values()) == {"cancelled"}
    assert parents_of_work(queue) == []
    assert recorded(queue) == {}


def test_no_cluster_is_one_line(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (docs/clusters.md)")
    queue = cluster_queue(tmp_path, "ray", {"address": "127.0.0.1:1"}, [0])
    with pytest.raises(RunError, match=r"^no Ray cluster: "):
        submit(queue, open_executor("ray", queue))
