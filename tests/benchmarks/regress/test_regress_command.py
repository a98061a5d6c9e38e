"""`regress` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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
        (["--only", "nothing-*"], "--only nothing-*: no benchmark has such a name"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_measured(arguments, message, cli):
    result = cli("regress", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_registry_alone_needs_no_engine(cli, tmp_path):
    found = cli("regress", "--kind", "registry", "--json", "--junit", str(tmp_path / "report.xml"))
    report = json.loads(found.stdout)
    assert [(figure["kind"], figure["benchmark"]) for figure in report["figures"]] == [("registry", "")]
    assert found.returncode == report["exit_code"]
    assert (tmp_path / "report.xml").read_text().startswith("<?xml")


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
