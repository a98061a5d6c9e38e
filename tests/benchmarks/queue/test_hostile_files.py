"""A queue's folder in which anybody may have written: nothing waits for ever, leads elsewhere, or is a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from fake_queue import BENCHMARK, COMMIT, fake_queue, fake_run

from benchmarks.errors import RunError
from benchmarks.queue.executors import open_executor
from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.frozen import sweep
from benchmarks.queue.slurm import Slurm
from benchmarks.queue.status import standings
from commands.queue import command
from results.leases import LONGEST_BEAT, Watch, holders, read

REPOSITORY = Path(__file__).parents[3]
NAME = fake_run(1).name


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../elsewhere-s1"}, {"name": "/etc/passwd"}, {"name": ""}, {"name": "a\0b"}, {"name": "x" * 500},
        {"name": "*"}, {"name": "\x1b[31m"}, {"group": "../x"}, {"benchmark": "**"}, {"commit": "../../tmp"},
        {"digest": "x"}, {"seed": -1}, {"seed": 10**30}, {"engine": "\x1b[2J"}, {"registry": "\0"},
        {"registered": "9999"}, {"seconds": (-1.0, 1.0)}, {"arguments": ("a\nb",)}, {"schema": 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_run_that_no_version_queues_is_refused_by_the_name_of_its_file(tmp_path, changes):
    queue = fake_queue(tmp_path / "queue", [1])
    path = queue.path / "added" / "z.jsonl"
    runs = fake_run(2), msgspec.structs.replace(fake_run(3), **changes)
    path.write_bytes(b"".join(msgspec.json.encode(run) + b"\n" for run in runs))
    with pytest.raises(RunError, match=r"z\.jsonl: (cannot be read|is of a newer version)"):
        queue.runs()


def test_what_was_queued_as_it_must_be_is_read(tmp_path):
    queue = fake_queue(tmp_path / "queue", [1, 2**63 - 1])
    assert list(queue.runs()) == [NAME, fake_run(2**63 - 1).name]


def test_an_executor_that_there_is_not_is_one_line(tmp_path):
    with pytest.raises(RunError, match=r"no executor 'evil', expected local, slurm, ray"):
        open_executor("evil", QueueFolder(tmp_path))


def pipes(queue: QueueFolder) -> None:
    """In place of every file that a queue reads of a run, but those of `added`."""
    folder = queue.runs_of(COMMIT) / BENCHMARK / "20260101T000000Z-s1"
    folder.mkdir(parents=True)
    code = queue.code_of(COMMIT).with_suffix(".json")
    code.unlink()
    for path in (
        *(queue.path / "over" / f"{NAME}.failed", queue.path / "tries" / f"{NAME}.1", queue.leases / f"{NAME}.1"),
        *(queue.path / "logs" / f"{NAME}.1.txt", queue.path / "handles" / "slurm-1.json", folder / "run.json", code),
    ):
        os.mkfifo(path)


ASK = """
import sys
from pathlib import Path
from benchmarks.errors import RunError
from benchmarks.queue.attempt import find_begun
from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.frozen import environment_of
from results.leases import read
queue = QueueFolder(Path(sys.argv[1]))
(run,) = queue.runs().values()
print(queue.read_over(run.name).reason, queue.failed_tries(run.name), queue.logs_of(run.name))
print(queue.handles("slurm", [run.name]), find_begun(queue, run), read(queue.leases / f"{run.name}.1").counted)
try:
    environment_of(queue.code_of(run.commit))
except RunError as error:
    print("is no file" in str(error))
"""


def test_pipes_are_not_waited_for(tmp_path):
    queue = fake_queue(tmp_path / "queue", [1])
    pipes(queue)
    result = subprocess.run(
        [sys.executable, "-c", ASK, str(queue.path)], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        timeout=120,  # it would be for ever
    )  # fmt: skip
    assert result.stdout.splitlines() == ["what was written down of it cannot be read [] []", "{} None -1", "True"]
    assert result.stderr == ""
    os.mkfifo(queue.path / "added" / "pipe.jsonl")
    with pytest.raises(RunError, match=r"pipe\.jsonl: cannot be read"):
        QueueFolder(queue.path).runs()


def test_a_clone_that_a_kill_left_half_made_goes_and_one_that_is_being_made_stays(tmp_path):
    old, new, whole = (tmp_path / name for name in (".c0ffee.0123abcd.tmp", ".c0ffee.4567cdef.tmp", COMMIT))
    for path in (old, new, whole):
        (path / ".git").mkdir(parents=True)
    for path in (old, whole):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, whole])


def test_handles_that_are_none_reach_no_command_line(tmp_path):
    queue = fake_queue(tmp_path / "queue", [])
    for number, content in enumerate((b"[", b'{"a":5}', b"\xff")):
        (queue.path / "handles" / f"slurm-{number}.json").write_bytes(content)
    assert queue.handles("slurm", ["a"]) == {}
    hostile = {"a": "0123abcd --user=root", "b": "--help", "c": "../../x 12", "d": "0123abcd 1 2", "e": ""}
    executor = Slurm(queue)
    executor.cancel(hostile)  # which asks for scancel if there is a job
    assert [executor.logs(name, handle) for name, handle in hostile.items()] == [[]] * 5


@pytest.mark.parametrize("beat", ["nan", "inf", "1e999", "-1", "0", "x", str(2 * LONGEST_BEAT)])
def test_a_lease_that_says_nonsense_is_taken_over_as_that_of_a_dead_holder(tmp_path, beat):
    path = tmp_path / "run.1"
    path.write_text(f"000000000001 held token {beat} \x1b[31mhere\n")
    now = [0.0]
    watch = Watch(10.0, lambda: now[0])
    assert read(path, 10.0) == (-1, False, "", 10.0, "")
    assert not watch.is_open(path)
    now[0] = 81.0
    assert watch.is_open(path)


def test_numbers_of_holders_are_decimal_and_short(tmp_path):
    for name in ("a.1", "a.2", "a.\u0663", "a.007", f"a.{'9' * 200}", "a.x"):
        (tmp_path / name).touch()
    assert holders(tmp_path) == {"a": 2}


def test_status_of_a_run_of_which_nothing_can_be_read(tmp_path):
    queue = fake_queue(tmp_path / "queue", [1])
    (queue.leases / f"{NAME}.1").mkdir()
    (queue.path / "tries" / f"{NAME}.1").write_text("[")
    (one,) = standings(queue, list(queue.runs().values()), lambda name: open_executor(name, queue))
    assert (one.state, one.reason) in {("running", ""), ("silent", "")}


def test_a_log_is_printed_line_by_line_and_controls_no_terminal(tmp_path):
    queue = fake_queue(tmp_path / "queue", [1])
    (queue.path / "logs" / f"{NAME}.1.txt").write_text("epoch 1\n\x1b[31mepoch 2\n")
    result = CliRunner().invoke(command, ["logs", NAME, "--queue", str(queue.path)], color=True)
    assert result.stdout.splitlines() == ["epoch 1", r"\x1b[31mepoch 2"]
