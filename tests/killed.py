"""Runs of the command line that are killed: `kill -9`, as a power cut would."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from results.record import Record, comparable, from_bytes

REPOSITORY = Path(__file__).parents[1]
Cli = Callable[..., subprocess.CompletedProcess[str]]


def read_record(runs: Path) -> Record:
    """The record of the only run in a runs folder."""
    (path,) = runs.glob("*/*/record.json")
    return from_bytes(path.read_bytes(), path.name)


def kill_after_first_epoch(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """Start `cli.py reproduce ARGUMENTS` and kill it as soon as an epoch is reported."""
    command = [sys.executable, str(REPOSITORY / "cli.py"), "reproduce", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("epoch "):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()


def resumed_record(cli: Cli, environment: dict[str, str], benchmark: str, *options: str) -> Record:
    """Of a run that was killed and resumed, once it is known to equal, times aside, that of one left in peace."""
    runs = Path(environment["BNN_RUNS"])
    whole = cli("reproduce", benchmark, *options, "--runs", str(runs.parent / "whole"))
    assert whole.returncode == 0, whole.stderr
    kill_after_first_epoch((benchmark, *options), environment)
    assert not list(runs.glob("*/*/record.json"))
    resumed = cli("resume", benchmark)
    assert resumed.returncode == 0, resumed.stderr
    record, expected = read_record(runs), read_record(runs.parent / "whole")
    assert comparable(record) == comparable(expected)
    assert record.weights_sha256 == expected.weights_sha256
    assert record.restarts == 1
    return record
