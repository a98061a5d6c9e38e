"""SIGKILL for child processes that print a line when they begin their work."""

from __future__ import annotations

import signal
import subprocess
import time


def seconds_to_the_end(process: subprocess.Popen[str]) -> float:
    """How long the work takes, undisturbed, on this machine: what random moments are to be spread over."""
    _await_beginning(process)
    started = time.monotonic()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.monotonic() - started


def killed_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill it so long after its work began; whether that came before its end."""
    _await_beginning(process)
    time.sleep(seconds)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), errors
    return process.returncode == -signal.SIGKILL


def _await_beginning(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.readline()
