"""What a suite measures again."""

from __future__ import annotations

from benchmarks.regress import rules
from benchmarks.regress.measure import Job, Measured
from benchmarks.regress.suite import Suite

NAME = "binaryconnect-mnist"


def again(kinds: list[str], *outcomes: Measured) -> tuple[Measured, list[Job]]:
    """What is found of a suspect where its processes give these, and their jobs."""
    jobs: list[Job] = []

    def measure(job: Job) -> Measured:
        jobs.append(job)
        return outcomes[len(jobs) - 1]

    return Suite("gluon", [NAME], measure=measure, seed=7)._again({NAME: kinds}, "data", lambda name: None)[NAME], jobs


def test_a_slow_step_is_confirmed_in_two_processes():
    found, jobs = again(["speed"], Measured(NAME, speed=(1.0, 2.0)), Measured(NAME, speed=(3.0,)))
    assert found == Measured(NAME, speed=(1.0, 2.0, 3.0))
    assert [(job.rounds, job.seeds, job.bits) for job in jobs] == [(2 * rules.ROUNDS, (), False)] * 2


def test_an_accuracy_is_confirmed_in_one_with_other_seeds():
    _, (job,) = again(["accuracy"], Measured(NAME))
    assert (job.rounds, job.seeds) == (0, tuple(range(9, 17)))


def test_a_process_that_fails_is_no_confirmation():
    found, _ = again(["speed"], Measured(NAME, speed=(1.0,)), Measured(NAME, failed="killed"))
    assert found.failed == "killed"
