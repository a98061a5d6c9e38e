"""Workers of a queue: what they carry out, and what becomes of a run that cannot be. Real processes, fake runs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_queue import COMMIT, PLACE, fake_queue, fake_run, folders_of, recorded, wanted
from record_factory import make_record

from benchmarks.errors import RunError
from benchmarks.machine.facts import Gpu
from benchmarks.machine.mps import Sharing
from benchmarks.queue import attempt, local
from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.local import Worker
from results import registered
from results.groups import key_of
from results.leases import Watch, take

FULL = f"x.npz: cannot be written: {os.strerror(errno.ENOSPC)}; free or change that place"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(attempt, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(local, "PAUSE", 0.05)
    monkeypatch.setattr(local, "installed_engines", lambda: ["gluon"])
    monkeypatch.setattr(local, "nvidia_gpus", list)


def work(queue: QueueFolder, **changes: object) -> tuple[list[str], list[str]]:
    """States of the tries, and the lines that were said."""
    said: list[str] = []
    ended = Worker(queue, wanted(**changes), said.append).work([PLACE])
    return [one.state for one in ended], said


def test_all_is_carried_out_in_order_and_nothing_twice(tmp_path):
    queue = fake_queue(tmp_path, [3, 1, 2])
    states, said = work(queue)
    assert states == ["done"] * 3
    assert [line.partition(":")[0][-1] for line in said[::2]] == ["3", "1", "2"]
    assert recorded(queue) == {1: 1, 2: 1, 3: 1}
    assert work(queue) == ([], [])
    queue.add([fake_run(1)])  # it is over: to add it again changes nothing
    assert work(queue) == ([], [])


def test_what_is_queued_within_one_second_keeps_its_order(tmp_path):
    queue, seeds = fake_queue(tmp_path, []), list(range(8, 0, -1))
    for seed in seeds:
        queue.add([fake_run(seed)])
        queue.keep_handles("slurm", {fake_run(1).name: str(seed)})
    assert [run.seed for run in queue.runs().values()] == seeds
    assert queue.handles("slurm", [fake_run(1).name]) == {fake_run(1).name: "1"}  # the latest one


def test_one_that_fails_at_once_gets_two_tries_says_why_and_the_others_go_on(tmp_path):
    queue = fake_queue(tmp_path, [1, 2], fails={1: "no such word"})
    states, _ = work(queue)
    assert states == ["again", "done", "failed"]  # after its first try others go first
    assert queue.read_over(fake_run(1).name).reason == "no such word"
    assert [one.exit_code for one in queue.failed_tries(fake_run(1).name)] == [1, 1]
    mend(queue)
    queue.add([fake_run(1)])  # asked for again, it gets its tries anew
    assert work(queue)[0] == ["done"]
    assert recorded(queue) == {1: 1, 2: 1}


def mend(queue: QueueFolder) -> None:
    path = queue.code_of(COMMIT) / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fails": {}}))


def test_a_full_disk_is_no_fault_of_the_run_and_stops_the_worker_in_one_line(tmp_path):
    queue = fake_queue(tmp_path, [1], fails={1: FULL})
    for _ in range(3):
        with pytest.raises(RunError, match=r"No space left on device.*queue work` goes on"):
            work(queue)
    assert queue.over() == {}
    assert queue.failed_tries(fake_run(1).name) == []
    mend(queue)
    assert work(queue)[0] == ["done"]


def test_what_cannot_go_on_here_is_left_for_another_machine(tmp_path, monkeypatch):
    why = "run x would go on with other machine: `resume x --allow-change`"
    queue = fake_queue(tmp_path, [1, 2], fails={1: why})
    states, said = work(queue)
    assert states == ["elsewhere", "done"]
    assert why in said[1]
    assert fake_run(1).name not in queue.over()
    queue.add([fake_run(3, device="gpu"), fake_run(4, engine="torch")])
    states, said = work(queue)
    assert states == ["elsewhere"]
    assert sum("needs a GPU" in line for line in said) == 1
    assert sum("torch is not installed" in line for line in said) == 1


def test_more_threads_than_there_are_cores_are_left_for_another_machine(tmp_path, monkeypatch):
    queue = fake_queue(tmp_path, [1], seconds=5.0)
    interrupt_after_begin(queue)
    monkeypatch.setattr(attempt, "usable_cores", lambda: 0)
    states, said = work(queue)
    assert states == ["elsewhere"]
    assert "it computes with 1 threads, and here are 0 cores" in said[-1]


def interrupt_after_begin(queue: QueueFolder) -> None:
    """Carry out the queue's only run until it has begun, in a worker that is then interrupted."""
    worker = Worker(queue, wanted(), lambda _: None)
    thread = threading.Thread(target=worker.work, args=([PLACE],))
    thread.start()
    while attempt.find_begun(queue, fake_run(1)) is None:
        time.sleep(0.02)
    worker._stopping.set()
    thread.join()


def test_an_interrupted_run_is_gone_on_with_at_once_by_another(tmp_path):
    queue = fake_queue(tmp_path, [1], epochs=2, seconds=0.3)
    interrupt_after_begin(queue)
    assert queue.over() == {}
    assert queue.failed_tries(fake_run(1).name) == []
    assert work(queue)[0] == ["done"]
    assert folders_of(queue) == {"1": 1}
    first, second = queue.logs_of(fake_run(1).name)
    assert " reproduce " in first.read_text().splitlines()[0]
    assert " resume " in second.read_text().splitlines()[0]


def test_a_cancelled_run_is_interrupted_and_not_begun_again(tmp_path):
    queue = fake_queue(tmp_path, [1, 2], seconds=60.0)
    queue.cancel([fake_run(2).name])
    worker = Worker(queue, wanted(), lambda _: None)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(one.state for one in worker.work([PLACE])))
    thread.start()
    while attempt.find_begun(queue, fake_run(1)) is None:
        time.sleep(0.02)
    queue.cancel([fake_run(1).name])
    thread.join()
    assert found == ["cancelled"]
    assert set(queue.over().values()) == {"cancelled"}


def test_a_record_that_was_not_registered_for_a_kill_is(tmp_path):
    queue = fake_queue(tmp_path, [1])
    work(queue)
    shutil.rmtree(queue.path / "registry")
    (queue.path / "over" / f"{fake_run(1).name}.done").unlink()
    assert work(queue)[0] == ["done"]
    assert recorded(queue) == {1: 1}


def test_a_clock_behind_that_of_the_registration_makes_no_run_that_would_not_count(tmp_path):
    queue = fake_queue(tmp_path, [1])
    queue.add([fake_run(2, registered="2999-01-01T00:00:00Z")])
    said: list[str] = []
    worker = Worker(queue, wanted(), said.append)
    thread = threading.Thread(target=worker.work, args=([PLACE],))
    thread.start()
    while fake_run(1).name not in queue.over() or len(said) < 3:
        time.sleep(0.02)
    worker._stopping.set()
    thread.join()
    assert sum("registered at 2999-01-01T00:00:00Z, and here it is" in line for line in said) == 1
    assert recorded(queue) == {1: 1}


def test_of_groups_of_other_data_a_run_is_of_the_latest_when_it_was_queued(tmp_path):
    queue = fake_queue(tmp_path, [])
    root, key = queue.path / "registry", key_of(make_record())
    run = fake_run(1, digest=key.digest, registered="2024-01-02T00:00:00Z")
    groups = [
        registered.register(root, key._replace(benchmark=run.benchmark, data=data), 1, None, time=time)
        for data, time in (
            (key.data, "2024-01-01T00:00:00Z"),
            (("0" * 64, *key.data[1:]), "2024-01-02T00:00:00Z"),
            (("1" * 64, *key.data[1:]), "2024-01-03T00:00:00Z"),
        )
    ]
    found = attempt._registration(queue, run)
    assert found is not None
    assert found[1].key == groups[1].key


def test_frozen_code_that_is_gone_is_said_in_one_line(tmp_path):
    queue = fake_queue(tmp_path, [1])
    queue.code_of(COMMIT).with_suffix(".json").unlink()
    with pytest.raises(RunError, match="the code of that commit is not there"):
        work(queue)


def test_only_the_lease_decides_who_is_at_a_run(tmp_path):
    """A claim that another has is left alone; one that was given back, or whose holder is dead, is not."""
    queue = fake_queue(tmp_path, [1, 2])
    watch = Watch()
    first = queue.claim(lambda _: True, watch, "here")
    second = queue.claim(lambda _: True, watch, "there")
    assert [taken[0].seed for taken in (first, second)] == [1, 2]
    assert queue.claim(lambda _: True, watch, "elsewhere") is None
    second[1].give_back()
    third = queue.claim(lambda _: True, watch, "elsewhere")
    assert (third[0].seed, third[1].number) == (2, 2)
    assert take(queue.leases, fake_run(2).name, 1, "late") is None
    for _, lease in (first, third):
        lease.give_back()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_a_run_dies_with_its_worker(tmp_path):
    queue = fake_queue(tmp_path, [1], seconds=60.0)
    script = "import fake_queue, sys; from benchmarks.queue.local import *; from benchmarks.queue.folder import *;" \
        " Worker(QueueFolder(Path(sys.argv[1])), fake_queue.wanted(), print).work([fake_queue.PLACE])"  # fmt: skip
    paths = os.pathsep.join([str(Path(__file__).parents[3]), str(Path(__file__).parent)])
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(queue.path)], env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while (begun := attempt.find_begun(queue, fake_run(1))) is None:
        time.sleep(0.02)
    children = Path(f"/proc/{worker.pid}/task").glob("*/children")
    (child,) = [int(pid) for path in children for pid in path.read_text().split()]
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    while Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        time.sleep(0.02)
    assert begun.exists()


def test_what_is_damaged_is_refused_by_its_name(tmp_path):
    queue = fake_queue(tmp_path, [1])
    (path,) = (queue.path / "added").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"schema":1', b'"schema":2'))
    with pytest.raises(RunError, match="jsonl: is of a newer version"):
        QueueFolder(tmp_path).runs()
    path.write_bytes(whole[:-9])
    with pytest.raises(RunError, match="jsonl: cannot be read"):
        QueueFolder(tmp_path).runs()


@pytest.mark.parametrize(
    ("gpus", "named", "given"),
    [
        (0, None, [None] * 3),
        (1, None, [None] * 3),  # as the environment has it
        (2, None, ["0", "1", "0"]),
        (4, "2,GPU-5f", ["2", "GPU-5f", "2"]),  # the user's, of whom nvidia-smi knows nothing
    ],
)
def test_cores_and_gpus_are_given_out(monkeypatch, gpus, named, given):
    monkeypatch.setattr(local, "nvidia_gpus", lambda: [Gpu("a GPU", "9.0", "1")] * gpus)
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    monkeypatch.delenv(local.VISIBLE, raising=False)
    if named is not None:
        monkeypatch.setenv(local.VISIBLE, named)
    monkeypatch.setattr(local, "overlapping", lambda device: contextlib.nullcontext(Sharing({"SHARED": device}, None)))
    with local.places(wanted(at_once=3), pytest.fail) as found:
        assert [place.environment.get(local.VISIBLE) for place in found] == given
        assert {place.threads for place in found} == {2}
        assert {place.environment["SHARED"] for place in found} == {"gpu" if gpus else "cpu"}
    with local.places(wanted(at_once=1, threads=5), pytest.fail) as (place,):
        assert place.threads == 5
        assert place.environment["SHARED"] == "cpu"
