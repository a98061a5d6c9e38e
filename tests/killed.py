"""Runs of the command line that are stopped in the middle, and what comes of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results.record import Record, comparable, from_bytes

REPOSITORY = Path(__file__).parents[1]
Cli = Callable[..., subprocess.CompletedProcess[str]]


def read_record(runs: Path) -> Record:
    """The record of the only run in a runs folder."""
    (path,) = runs.glob("*/*/record.json")
    return from_bytes(path.read_bytes(), path.name)


def after_first_epoch(arguments: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen[str]:
    """`cli.py reproduce ARGUMENTS`, running, as soon as it has reported an epoch; its standard error is a pipe."""
    command = [sys.executable, str(REPOSITORY / "cli.py"), "reproduce", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("epoch "):
        assert process.poll() is None
    return process


def resumed_record(cli: Cli, environment: dict[str, str], benchmark: str, *options: str) -> Record:
    """Of a run that was killed and resumed, once it is known to equal, times aside, that of one left in peace."""
    runs = Path(environment["BNN_RUNS"])
    whole = cli("reproduce", benchmark, *options, "--runs", str(runs.parent / "whole"))
    assert whole.returncode == 0, whole.stderr
    process = after_first_epoch((benchmark, *options), environment)
    process.kill()
    process.communicate()
    assert not list(runs.glob("*/*/record.json"))
    resumed = cli("resume", benchmark)
    assert resumed.returncode == 0, resumed.stderr
    record, expected = read_record(runs), read_record(runs.parent / "whole")
    assert comparable(record) == comparable(expected)
    assert record.weights_sha256 == expected.weights_sha256
    assert record.restarts == 1
    return record


def shell(command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as it stands, as if it were typed."""
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False, **options)  # noqa: S602
