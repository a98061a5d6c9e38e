"""What a job says on the command line is what the command understands."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.core import ParameterSource
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import AUTO, COMPILE, DEVICES, ENGINES, PRECISIONS
from benchmarks.queue.job import BegunRun, Job, NewRun
from commands import reproduce, resume
from commands.options import FAIL_ON

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10)
FOLDER = st.text("a -=é\"'[]", min_size=1, max_size=8).map(lambda name: Path("/nowhere", name))
SHARED = {
    "fail_on": st.lists(st.sampled_from(list(FAIL_ON)), max_size=2).map(tuple),
    "data_root": st.none() | FOLDER,
    "runs_root": st.none() | FOLDER,
    "registry": st.none() | FOLDER,
    "as_json": st.booleans(),
}
NEW = st.builds(
    NewRun,
    benchmark=st.sampled_from(["binaryconnect-mnist", "a"]),
    seed=st.integers(0, 2**63 - 1),
    overrides=st.lists(TEXT, max_size=3).map(tuple),
    epochs=st.none() | TEXT,
    limit_train=st.none() | TEXT,
    engine=st.none() | st.sampled_from([AUTO, *ENGINES]),
    device=st.none() | st.sampled_from([AUTO, *DEVICES]),
    threads=st.none() | st.integers(1),
    precision=st.none() | st.sampled_from(PRECISIONS),
    compile=st.none() | st.sampled_from(COMPILE),
    **SHARED,
)
BEGUN = st.builds(BegunRun, run=FOLDER, allow_change=st.booleans(), **SHARED)


@pytest.fixture(autouse=True, scope="module")
def _no_folders_of_the_environment():
    with pytest.MonkeyPatch.context() as environment:
        for name in ("BNN_DATA", "BNN_RUNS", "BNN_REGISTRY"):
            environment.delenv(name, raising=False)
        yield


def understood(job: Job, command) -> dict[str, object]:
    """What the command's parameters are; None for those that the command line did not say."""
    name, *arguments = job.to_arguments()
    assert name == command.name
    with command.make_context(name, arguments) as ctx:
        said = {p for p in ctx.params if ctx.get_parameter_source(p) is ParameterSource.COMMANDLINE}
        return {parameter: value if parameter in said else None for parameter, value in ctx.params.items()}


def expected(job: Job, **renamed: object) -> dict[str, object]:
    """The job's own values; nothing is said of what is empty."""
    values = vars(job) | renamed
    return {name: value if value or isinstance(value, str) else None for name, value in values.items()}


@given(NEW)
def test_a_new_run_is_reproduced_with_the_same_values(job):
    values = expected(job, seeds=(job.seed,), size=None, at_once=None)
    del values["seed"]
    assert understood(job, reproduce.command) == values


@given(BEGUN)
def test_a_begun_run_is_gone_on_with(job):
    values = expected(job, runs=(str(job.run),), at_once=None)
    del values["run"]
    assert understood(job, resume.command) == values


def test_a_job_that_says_little_is_a_short_command():
    assert NewRun(benchmark="binaryconnect-mnist", seed=2).to_arguments() == [
        "reproduce", "binaryconnect-mnist", "--seed", "2",
    ]  # fmt: skip
    assert BegunRun(run=Path("/runs/a/b")).to_arguments() == ["resume", "/runs/a/b"]
