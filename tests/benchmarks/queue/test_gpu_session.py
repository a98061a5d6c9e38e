"""The GPU session's bookkeeping: what is done is not done again, what was begun goes on. Real processes, no GPU."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import cli
from benchmarks.errors import EngineError
from benchmarks.queue.gpu_session import Queue, Session, Wanted, carry_out, queue
from benchmarks.recipe import benchmark_ids


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path / "out", tmp_path / "data", minutes=10, precision="float32")


@pytest.fixture
def asked(session, monkeypatch):
    """The commands that a session's runs would carry out."""
    commands: list[tuple[str, ...]] = []

    def step(name, *command, done):
        commands.append(command)
        return done()

    monkeypatch.setattr(session, "step", step)
    return commands


def begin(session: Session, name: str, seed: int, precision: str = "float32"):
    folder = session._out / "runs" / "binaryconnect-mnist" / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"seed": seed, "precision": precision}))
    return folder


def test_the_queue_is_of_benchmarks_that_there_are_and_says_why():
    assert {entry.benchmark for entry in queue().runs} <= set(benchmark_ids())
    assert [entry.benchmark for entry in queue().runs if not entry.why] == []
    assert [entry.benchmark for entry in queue().runs if not 1 <= entry.first <= len(queue().seeds)] == []


def test_the_first_seeds_of_all_come_before_the_others():
    wanted = Queue([7, 8, 9, 10], [Wanted("a"), Wanted("b", first=2), Wanted("c", at_once=2)])
    first = [("a", [7]), ("b", [7, 8]), ("c", [7])]
    others = [("a", [8]), ("a", [9]), ("a", [10]), ("b", [9]), ("b", [10]), ("c", [8, 9]), ("c", [10])]
    assert wanted.steps() == first + others
    assert wanted.of(["c", "d"]).steps() == [("c", [7]), ("d", [7]), ("c", [8, 9]), ("c", [10]), *others_of("d")]


def others_of(benchmark: str) -> list[tuple[str, list[int]]]:
    return [(benchmark, [seed]) for seed in (8, 9, 10)]


def test_a_command_is_carried_out_once(session, tmp_path):
    code = f"open(r'{tmp_path / 'count'}', 'a').write('x')"
    assert [session.step("count", "-c", code) for _ in range(3)] == [True] * 3
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.parametrize("ended", [False, True])
def test_a_failed_command_counts_only_where_it_is_known_to_have_ended(session, ended):
    assert session.step("fails", "-c", "raise SystemExit(1)", done=lambda: ended) == ended
    assert (session._out / "fails.txt").exists() == ended


@pytest.mark.parametrize(("ends", "exit_code"), [(0, 0), (1, 1)])
def test_whoever_starts_it_is_told_by_the_exit_code_that_a_run_failed(ends, exit_code, monkeypatch, tmp_path):
    """The steps are real; but for the tests, which succeed, each is a process that ends so."""

    def step(self, name, *_, **options):
        return real(self, name, "-c", f"raise SystemExit({ends * (name != 'tests')})", **options)

    real = Session.step
    monkeypatch.setattr(Session, "step", step)
    arguments = ["gpu-session", "binarynet-mnist", "--budget-minutes", "9", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.cli, arguments)
    assert result.exit_code == exit_code
    assert ("the same command tries again" in result.output) == bool(exit_code)


def test_what_cannot_end_in_time_is_interrupted_and_left_for_the_next_session(session):
    session._end = session._end - session.left + 0.5
    assert not session.step("sleeps", "-c", "import time; time.sleep(60)")
    assert not (session._out / "sleeps.txt").exists()


def test_a_gpu_on_which_the_tests_fail_trains_nothing(session, monkeypatch):
    steps = []
    monkeypatch.setattr(session, "step", lambda name, *_, **__: steps.append(name) or False)
    with pytest.raises(EngineError, match="nothing is trained"):
        carry_out(session, queue())
    assert steps == ["tests"]


def test_tests_and_speed_come_before_what_is_wanted(session, monkeypatch):
    steps = []
    monkeypatch.setattr(session, "step", lambda name, *_, **__: steps.append(name) or True)
    carry_out(session, Queue([7, 8], [Wanted("binarynet-mnist", at_once=5)]))
    timed = [entry.benchmark for entry in queue().runs if entry.timed]
    speed = [f"bench-{name}-{precision}" for name in timed for precision in ("float32", "tf32", "bf16")]
    assert steps == ["tests", *speed, "run-binarynet-mnist-float32-s7", "run-binarynet-mnist-float32-s8"]


def test_a_run_is_begun_then_resumed_and_done_when_it_has_a_record(session, asked):
    assert not session.run("binaryconnect-mnist", [1])
    (session._out / "runs" / "binaryconnect-mnist" / "killed-at-birth").mkdir(parents=True)
    begin(session, "another-precision", 1, "bf16")
    begin(session, "another-seed", 11)
    assert not session.run("binaryconnect-mnist", [1])
    folder = begin(session, "ours", 1)
    assert not session.run("binaryconnect-mnist", [1])
    (folder / "record.json").write_text("{}")
    assert session.run("binaryconnect-mnist", [1])
    begun, resumed = ("cli.py", "reproduce", "binaryconnect-mnist"), ("cli.py", "resume", str(folder))
    assert [command[:3] for command in asked] == [begun] * 2 + [resumed] * 2


def test_of_several_seeds_those_that_were_begun_go_on_and_the_others_begin(session, asked):
    one, three = begin(session, "one", 1), begin(session, "three", 3)
    (three / "record.json").write_text("{}")
    assert not session.run("binaryconnect-mnist", [1, 2, 3, 4])
    resumed, begun = asked
    assert resumed[1:6] == ("resume", str(one), str(three), "--at-once", "2")
    assert begun[1:5] == ("reproduce", "binaryconnect-mnist", "--seed", "2,4")
    assert begun[begun.index("--at-once") + 1] == "2"
