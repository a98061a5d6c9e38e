"""The command line with the torch engine: a run that is killed and resumed ends like one that nothing interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from results.record import comparable, from_bytes

pytestmark = pytest.mark.torch
REPOSITORY = Path(__file__).parents[2]
# 500 images are a whole batch of 256 and a smaller one.
SMALL = (
    *("--engine", "torch", "--device", "cpu", "--threads", "1", "--compile", "off", "--epochs", "4", "--seed", "1"),
    *("--set", "data.dataset=mnist-small", "--limit-train", "500", "--set", "data.valid_images=200"),
    *("--set", "model.architecture=2x64FC-10FC"),
)
BENCHMARK = "chawla-mlp-mnist-stochastic"


def record_of(runs: Path):
    (path,) = runs.glob("*/*/record.json")
    return from_bytes(path.read_bytes(), path.name)


def test_a_killed_and_resumed_run_ends_with_the_same_record(cli, environment, tmp_path):
    whole = cli("reproduce", BENCHMARK, *SMALL, "--runs", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, str(REPOSITORY / "cli.py"), "reproduce", BENCHMARK, *SMALL]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("epoch "):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(tmp_path.glob("runs/*/*/record.json"))
    resumed = cli("resume", BENCHMARK)
    assert resumed.returncode == 0, resumed.stderr
    records = [record_of(tmp_path / name) for name in ("runs", "whole")]
    assert comparable(records[0]) == comparable(records[1])
    assert records[0].weights_sha256 == records[1].weights_sha256
    assert records[0].restarts == 1
    assert records[0].engine.name == "torch"
