"""SIGKILL for child processes that print a line when they begin their work."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import data_prep
from data_prep.storage import store

REPOSITORY = Path(__file__).parents[2]


def kill_imports_at_random_moments(dataset: str, folder: Path, root: Path) -> None:
    """SIGKILL at twenty moments of importing a folder's files, ten of them at least before its end; then it works."""
    code = f"import sys; from pathlib import Path; import data_prep.{dataset}, h5py; print(flush=True)\n"
    code += f"data_prep.prepare('{dataset}', Path(sys.argv[1]), source=Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(root), str(folder)]

    def child() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    path = store.path_of(dataset, root)
    seconds = seconds_to_the_end(child())
    path.unlink()
    moments, killed, tried = random.Random(5), 0, 0
    while tried < 20 or killed < 10:
        tried += 1
        if killed_after(child(), moments.uniform(0, seconds)):
            killed += 1
        else:
            seconds *= 0.9  # the machine may have become faster
        if path.exists():
            data_prep.check(dataset, root)
            path.unlink()
    data_prep.prepare(dataset, root, source=folder)
    assert sorted(entry.name for entry in root.iterdir()) == [f".{dataset}.lock", f"{dataset}.h5"]


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
