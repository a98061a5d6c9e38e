"""What CI runs: the script for any CI, and GitHub's workflow, which calls it."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from typing import Any

import click
import environments
import pytest
import yaml

import cli
from benchmarks.paths import REPOSITORY

SCRIPT, WORKFLOW = REPOSITORY / ".ci" / "regress", REPOSITORY / ".github" / "workflows" / "regress.yml"
JOB: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]["regress"]
PULL_REQUEST, ALL = "github.event_name == 'pull_request'", "github.event_name != 'pull_request'"


def options_of(words: list[str]) -> dict[str, Any]:
    """Options of `regress`, as the command line reads them."""
    command = cli.cli.get_command(click.Context(cli.cli), "regress")
    return command.make_context("regress", words, click.Context(cli.cli)).params


def test_the_workflow_gives_the_script_options_that_exist():
    lines = {step["if"]: step["run"] for step in JOB["steps"] if "run" in step}
    script = ".ci/regress ${{ matrix.engine }} "
    assert all(line.startswith(script) for line in lines.values())
    change, everything = (options_of(lines[event].removeprefix(script).split()) for event in (PULL_REQUEST, ALL))
    assert change["since"] == "HEAD^1"
    assert "speed" not in change["kinds"]
    assert everything["since"] is None
    assert set(everything["kinds"]) == {"bits", "accuracy", "speed", "memory", "registry"}
    assert change["github"]
    assert everything["github"]


def test_the_report_is_kept_also_after_an_alarm():
    (kept,) = (step for step in JOB["steps"] if step.get("uses", "").startswith("actions/upload-artifact"))
    assert (kept["if"], kept["with"]["path"]) == ("always()", "regress.xml")


def test_each_engine_of_the_workflow_has_an_environment_of_tox():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini")
    environments = dict(re.findall(r"(\w+)\) environment=(\S+)", SCRIPT.read_text()))
    assert list(environments) == JOB["strategy"]["matrix"]["engine"]
    for engine, environment in environments.items():
        command = tox[f"testenv:{environment}"]["commands"].splitlines()[-1]
        options = command.removeprefix("python cli.py regress").replace("{posargs}", "")
        assert options_of(options.split())["engine"] == engine
    assert "GITHUB_STEP_SUMMARY" in tox["testenv:regress"]["pass_env"].split()
    assert tox["testenv:regress-torch"]["pass_env"].split() == ["{[testenv:regress]pass_env}"]


@pytest.mark.parametrize(
    ("path", "markers", "expected"),
    [
        ("tests/test_cli.py", "slow data", True),
        ("tests/test_cli.py", "nightly", True),
        ("tests/test_cli.py", "torch", False),
        ("tests/bnn_torch/test_new.py", "torch", True),
        ("tests/bnn_torch/test_new.py", "torch nightly", False),
        ("tests/bnn_torch/test_new.py", "torch gpu", True),
        ("tests/benchmarks/test_new.py", "browser", False),
    ],
)
def test_a_test_that_no_environment_runs_is_known(path, markers, expected):
    """Collection refuses it: tests/conftest.py."""
    assert environments.is_run(path, frozenset(markers.split())) == expected


@pytest.mark.parametrize(("options", "exit_code"), [([], 0), (["--none-skipped"], 1)])
def test_an_environment_may_forbid_that_tests_are_skipped(options, exit_code, tmp_path):
    """Else that of ONNX would pass where onnxruntime cannot be imported: with all tests skipped."""
    (tmp_path / "test_some.py").write_text(
        "import pytest\n\ndef test_it():\n    pytest.importorskip('no_such_package')\n"
    )
    path = {"PYTHONPATH": str(REPOSITORY / "tests")}
    command = [sys.executable, "-m", "pytest", "-p", "environments", "-p", "no:cacheprovider", *options]
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False)
    assert result.returncode == exit_code, result.stdout


@pytest.mark.parametrize("arguments", [[], ["mxnet"]])
def test_the_script_needs_an_engine(arguments):
    assert os.access(SCRIPT, os.X_OK)
    result = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: expected an engine, as in `.ci/regress gluon` or `.ci/regress torch`\n"
