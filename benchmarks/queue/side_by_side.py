"""Several commands of the command line side by side, a process each: runs of several seeds.

Processes, because frameworks fix their threads when they are loaded, and because a run that fails leaves the others in
peace. On a GPU their kernels overlap where `benchmarks.machine.mps` can have it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import click

from benchmarks.machine.mps import overlapping
from benchmarks.paths import CLI
from benchmarks.run.provenance import handed_on


class Ended(NamedTuple):
    """What came of a command: its exit code, None if it was not begun; its standard output, if that was captured."""

    name: str
    exit_code: int | None
    output: str


def carry_out(commands: Mapping[str, Sequence[str]], at_once: int, device: str, *, capture: bool) -> list[Ended]:
    """Carry out commands, so many at a time; KeyboardInterrupt ends those that run, and begins no more.

    One at a time, a command has the terminal to itself. The lines of several get their command's name. A run that is
    begun when the code is no longer that of this process is refused (`benchmarks.run.provenance`).

    Args:
        commands: arguments after `python cli.py`, by name.
        device: where they compute.
        capture: whether standard output is kept instead of shown.
    """
    at_once = min(at_once, len(commands))
    with overlapping(device if at_once > 1 else "cpu") as sharing:
        if sharing.complaint is not None:
            click.echo(f"note: the runs take turns on the GPU: {sharing.complaint} (docs/gpu.md)", err=True)
        return _Crew(at_once, {**sharing.environment, **handed_on()}, capture).carry_out(commands)


class _Crew:
    def __init__(self, at_once: int, environment: Mapping[str, str], capture: bool) -> None:
        self._at_once, self._environment, self._capture = at_once, os.environ | environment, capture
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopping = False

    def carry_out(self, commands: Mapping[str, Sequence[str]]) -> list[Ended]:
        with ThreadPoolExecutor(self._at_once) as pool:
            ends = [pool.submit(self._carry_out, name, arguments) for name, arguments in commands.items()]
            try:
                return [end.result() for end in ends]
            except KeyboardInterrupt:
                self._stop()
                return [end.result() for end in ends]
            except BaseException:
                self._stop()
                raise

    def _carry_out(self, name: str, arguments: Sequence[str]) -> Ended:
        several, output = self._at_once > 1, list[str]()
        with self._lock:
            if self._stopping:
                return Ended(name, None, "")
            process = subprocess.Popen(
                [sys.executable, str(CLI), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if several or self._capture else None,
                stderr=subprocess.PIPE if several else None,
                text=True,
                env=self._environment,
                start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on once
            )
            self._running.add(process)
        show = functools.partial(self._show, name)
        relays = [
            threading.Thread(target=_relay, args=(lines, said))
            for lines, said in (
                (process.stdout, output.append if self._capture else functools.partial(show, False)),
                (process.stderr, functools.partial(show, True)),
            )
            if lines is not None
        ]
        with process:
            for relay in relays:
                relay.start()
            for relay in relays:
                relay.join()
        with self._lock:
            self._running.remove(process)
        return Ended(name, process.returncode, "".join(output))

    def _show(self, name: str, err: bool, line: str) -> None:
        with self._lock:
            click.echo(f"{name} | {line}", nl=False, err=err)

    def _stop(self) -> None:
        with self._lock:
            self._stopping = True
            for process in self._running:
                process.terminate()


def _relay(lines: Iterable[str], said: Callable[[str], None]) -> None:
    for line in lines:
        with contextlib.suppress(OSError):  # nobody may read on; the run goes on
            said(line)
