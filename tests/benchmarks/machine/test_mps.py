"""NVIDIA's Multi-Process Service, with a control program that writes down what it is told."""

from __future__ import annotations

import contextlib
import os

import pytest

from benchmarks.machine import mps

# It runs if $RUNNING is set; the probe sees what a process that computes would see.
CONTROL = """\
#!/bin/sh
said=$(cat)
echo "$* $said $CUDA_MPS_PIPE_DIRECTORY" >> "$SAID"
test "$said" != get_server_list || test -n "$RUNNING" || exit 1
test "$*" != -d || test -z "$BROKEN"
"""
LETS_IN = "import os; assert os.path.isdir(os.environ['CUDA_MPS_PIPE_DIRECTORY'])"


@pytest.fixture
def said(tmp_path, monkeypatch):
    program = tmp_path / mps.CONTROL
    program.write_text(CONTROL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setattr(mps, "PROBE", LETS_IN)
    (tmp_path / "said").touch()
    return lambda: (tmp_path / "said").read_text().splitlines()


def test_a_service_of_its_own_lasts_as_long_as_it_is_needed(said):
    with contextlib.suppress(KeyboardInterrupt), mps.overlapping("gpu") as sharing:
        assert sharing.complaint is None
        folder = sharing.environment[mps.PIPES]
        assert said() == [" get_server_list ", f"-d  {folder}"]
        raise KeyboardInterrupt
    assert said()[2:] == [f" quit {folder}"]
    assert not os.path.exists(folder)
    assert mps.PIPES not in os.environ


def test_the_users_service_is_left_as_it_is(said, monkeypatch):
    monkeypatch.setenv("RUNNING", "yes")
    with mps.overlapping("gpu") as sharing:
        assert sharing == ({}, None)
    assert said() == [" get_server_list "]


def test_a_service_that_does_not_start(said, monkeypatch):
    monkeypatch.setenv("BROKEN", "yes")
    with mps.overlapping("gpu") as sharing:
        assert sharing == ({}, "nvidia-cuda-mps-control does not start")
    assert len(said()) == 2


def test_a_service_through_which_nothing_computes_is_ended_again(said, monkeypatch):
    monkeypatch.setattr(mps, "PROBE", "raise SystemExit(1)")
    with mps.overlapping("gpu") as sharing:
        assert sharing == ({}, "the Multi-Process Service lets no process in")
    assert said()[-1].startswith(" quit ")


def test_nothing_is_started_for_the_cpu(said):
    with mps.overlapping("cpu") as sharing:
        assert sharing == ({}, None)
    assert said() == []


def test_without_the_program(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with mps.overlapping("gpu") as sharing:
        assert sharing == ({}, "there is no nvidia-cuda-mps-control here")
