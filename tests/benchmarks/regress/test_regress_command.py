"""`regress` as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.paths import REPOSITORY
from benchmarks.regress import measure, processes
from benchmarks.regress.measure import Job


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--update"], '--update needs --reason "..."'),
        (["--update", "--reason", " "], '--update needs --reason "..."'),
        (["--reason", "x"], "--reason is of --update"),
        (["--update", "--reason", "x", "--kind", "bits"], "leave out --kind"),
        (["--kind", "bits,bytes"], "'bytes': expected some of bits,accuracy,speed,memory,registry"),
        (["--update", "--reason", "x", "--changed-since", "HEAD"], "leave out --changed-since"),
        (["--only", "nothing-*"], "--only nothing-*: no benchmark has such a name"),
        (["--junit", "nowhere/report.xml"], "--junit nowhere/report.xml: expected a file in a folder that is there"),
        (["--seed", "20"], "--seed 20: expected one above 20"),
        (["--junit", ""], "expected a file in a folder that is there"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_measured(arguments, message, cli):
    result = cli("regress", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_registry_alone_needs_no_engine(cli, tmp_path):
    report = str(tmp_path / "report.xml")
    found = cli("regress", "--kind", "registry", "--json", "--junit", report, BNN_REGISTRY=str(tmp_path))
    report = json.loads(found.stdout)
    assert [(figure["kind"], figure["benchmark"]) for figure in report["figures"]] == [("registry", "")]
    assert found.returncode == report["exit_code"]
    assert (tmp_path / "report.xml").read_text().startswith("<?xml")


def test_a_registry_that_is_not_there_is_no_registry_without_problems(cli):
    result = cli("regress", "--kind", "registry", "--registry", "nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert "there is no such folder" in result.stderr


def test_a_registry_without_a_record_was_not_compared(cli, tmp_path):
    """As where a checkout has lost its records: that there is nothing wrong with none of them is no answer."""
    result = cli("regress", "--kind", "registry", BNN_REGISTRY=str(tmp_path))
    assert result.returncode == 6
    assert result.stdout.startswith("not comparable: registry registry: 0 problems in 0 records, expected 0 problems; ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_an_alarm_is_one_whoever_cannot_be_told(cli, tmp_path):
    (tmp_path / "stray").touch()
    good, benchmark = tmp_path / "good" / "runs", "chawla-mlp-mnist-float"
    shutil.copytree(REPOSITORY / "results" / "runs" / benchmark, good / benchmark)
    assert cli("table", "--write", BNN_REGISTRY=str(good)).returncode == 0
    for registry, code in ((good, 1), (tmp_path, 5)):
        result = cli("regress", "--kind", "registry", "--junit", "/dev/full", BNN_REGISTRY=str(registry))
        assert (result.returncode, result.stderr) == (code, "error: input/output: No space left on device\n")


@pytest.mark.slow
def test_a_job_that_is_canceled_leaves_no_images_behind(environment, tmp_path):
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, str(processes.REPOSITORY / "cli.py"), "regress", "--only", "binaryconnect-mnist"]
    command += ["--kind", "bits"]
    with subprocess.Popen(command, env=environment | {"TMPDIR": str(tmp_path / "temporary")}) as process:
        while not any((tmp_path / "temporary").glob("bnn-regress-*/*.h5")):
            assert process.poll() is None
        process.terminate()
        assert process.wait() == 130
    assert not any((tmp_path / "temporary").iterdir())


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A repository with the code of this one, as its only commit."""
    skipped = shutil.ignore_patterns("__pycache__", "runs", "weights", ".*")
    for room in (path.parent for path in processes.REPOSITORY.glob("*/__init__.py")):
        shutil.copytree(room, tmp_path / room.name, ignore=skipped)
    shutil.copy(processes.REPOSITORY / "cli.py", tmp_path)
    identity = ["-c", "user.name=x", "-c", "user.email=x"]
    for arguments in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.slow
def test_a_change_that_touches_no_benchmark_leaves_all_out_with_the_reason(house):
    (house / "README.md").write_text("other")
    arguments = ["--changed-since", "HEAD", "--only", "rwth-*", "--kind", "bits", "--json"]
    command = [sys.executable, "cli.py", "regress", *arguments]
    writes = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = subprocess.run(command, cwd=house, env=writes, capture_output=True, text=True, check=False)
    report = json.loads(found.stdout)
    assert (found.returncode, report["figures"]) == (6, [])
    assert report["changed"] is False
    (house / "cli.py").write_text("# edited\n" + (house / "cli.py").read_text())
    edited = subprocess.run(
        [*command[:3], "--kind", "registry"], cwd=house, capture_output=True, text=True, check=False
    )
    assert " with changes on " in edited.stdout
    assert {*report["left_out"].values()} == {"the change since HEAD cannot touch it"}
    assert all(name.startswith("rwth-") for name in report["left_out"])


def test_an_unknown_revision_is_refused_in_one_line(cli):
    result = cli("regress", "--changed-since", "no-such-branch")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "'no-such-branch' is no commit here: expected a commit, branch or tag" in result.stderr


def test_a_process_that_dies_is_what_failed(monkeypatch):
    code = "import sys; print('no memory', file=sys.stderr); sys.exit(3)"
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", code])
    found = processes.in_a_process(Job("binaryconnect-mnist", "gluon", "nowhere"))
    assert found.failed == "its process ended with 3: no memory"


def test_an_error_that_a_user_can_mend_is_what_failed():
    job = b'{"benchmark": "gluoncv-resnet20-cifar10", "engine": "torch", "data": "nowhere"}'
    command = [sys.executable, "-m", measure.__name__]
    result = subprocess.run(command, input=job, capture_output=True, check=True, cwd=processes.REPOSITORY)
    assert "expected --engine gluon" in json.loads(result.stdout)["failed"]
