"""Everything that is to be done once a GPU is at hand, in the order of gpu_queue.yaml, as far as the time goes.

The reference and engine tests on the GPU, the speed of the queue's benchmarks, then the published runs, each of which
is continued where an earlier session left it. A step that is done leaves a file in the session's folder and is not
repeated, so that the command may be repeated until all is done. Needs no network: prepare the data where there is one.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec
import yaml

from benchmarks.engine import PRECISIONS
from benchmarks.errors import EngineError
from benchmarks.paths import REPOSITORY

LAST_MINUTES = 1.0  # a run is interrupted so long before the end: it has its epoch stored by then


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of the queue: see gpu_queue.yaml, where its fields are explained."""

    benchmark: str
    why: str = ""
    first: int = 1
    at_once: int = 1
    timed: bool = False


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Published runs that want a GPU, in order."""

    seeds: list[int]
    runs: list[Wanted]

    def of(self, benchmarks: Sequence[str]) -> Queue:
        """The queue of these benchmarks, in their order, whether they are in this one or not."""
        listed = {wanted.benchmark: wanted for wanted in self.runs}
        return Queue(self.seeds, [listed.get(name, Wanted(name)) for name in benchmarks])

    def steps(self) -> list[tuple[str, list[int]]]:
        """Benchmark and seeds, in order, those seeds together that are trained at once."""
        first = [(wanted.benchmark, self.seeds[: wanted.first]) for wanted in self.runs]
        others = [
            (wanted.benchmark, self.seeds[start : start + wanted.at_once])
            for wanted in self.runs
            for start in range(wanted.first, len(self.seeds), wanted.at_once)
        ]
        return first + others


@functools.cache
def queue() -> Queue:
    """The queue of this checkout."""
    path = Path(__file__).parent / "gpu_queue.yaml"
    return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Queue)


class Session:
    """One sitting on a GPU."""

    def __init__(self, out: Path, data: Path, minutes: float, precision: str) -> None:
        self._out, self._data, self._precision = out, data, precision
        self._end = time.monotonic() + 60 * (minutes - LAST_MINUTES)
        self.failed: list[str] = []  # steps that ended, and not well; no time left is no failure
        out.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def step(self, name: str, *command: str, done: Callable[[], bool] = lambda: False) -> bool:
        """Carry out a command once, its output in a file; whether it has succeeded, now or earlier.

        What has not ended in time is interrupted, and tried again in the next session. A command that fails has
        succeeded nevertheless where `done` says so.
        """
        log = self._out / f"{name}.txt"
        if log.exists():
            return True
        if self.left <= 0:
            return False
        click.echo(f"{name} ({self.left / 60:.1f} minutes left)")
        part = log.with_suffix(".part")
        with part.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, env=os.environ | {"BNN_RUNS": str(self._out.absolute() / "runs")},
            )  # fmt: skip
            try:
                process.wait(self.left)
            except subprocess.TimeoutExpired:
                process.terminate()
                if process.wait() != 0:
                    return False
        if process.returncode == 0 or done():
            part.rename(log)
            return True
        click.echo(f"{name} failed: see {part}")
        self.failed.append(name)
        return False

    def run(self, benchmark: str, seeds: Sequence[int]) -> bool:
        """Train published runs of these seeds at once, each from where an earlier session left it."""
        found = {seed: self._found(benchmark, seed) for seed in seeds}
        begun = [seed for seed in seeds if found[seed] is not None]
        new = [seed for seed in seeds if found[seed] is None]
        engine = ("--engine", "torch", "--device", "gpu", "--precision", self._precision)
        done = True
        if begun:  # of runs that have ended it registers the records, if that is not done
            done = self._train(benchmark, begun, "resume", *(str(found[seed]) for seed in begun))
        if new:
            of_seeds = ("--seed", ",".join(map(str, new)))
            done = self._train(benchmark, new, "reproduce", benchmark, *of_seeds, *engine) and done
        return done

    def _train(self, benchmark: str, seeds: Sequence[int], *command: str) -> bool:
        name = f"run-{benchmark}-{self._precision}-s{'-'.join(map(str, seeds))}"
        places = ("--data", str(self._data.absolute()), "--registry", str(self._out.absolute() / "results" / "runs"))
        at_once = ("--at-once", str(len(seeds)))
        return self.step(
            name, "cli.py", *command, *at_once, *places,
            done=lambda: all(self._has_ended(benchmark, seed) for seed in seeds),
        )  # fmt: skip

    def _has_ended(self, benchmark: str, seed: int) -> bool:
        """Whether the run has come to an end, if only by diverging."""
        found = self._found(benchmark, seed)
        return found is not None and (found / "record.json").exists()

    def _found(self, benchmark: str, seed: int) -> Path | None:
        """The run's folder, if it was begun."""
        for path in sorted((self._out / "runs" / benchmark).glob("*/run.json")):
            manifest = json.loads(path.read_text())
            if (manifest["seed"], manifest.get("precision")) == (seed, self._precision):
                return path.parent.absolute()
        return None


def carry_out(session: Session, wanted: Queue) -> None:
    """Test, measure, and train what is wanted, as far as the session's time goes.

    Raises:
        EngineError: the tests fail on this GPU.
    """
    tested = session.step("tests", "-m", "pytest", "-m", "torch and gpu", "tests/bnn_torch")
    if not tested and session.left > 0:
        raise EngineError("the torch engine does not compute on this GPU what it must: nothing is trained")
    for entry in queue().runs:
        for precision in PRECISIONS if entry.timed else ():
            options = ("--engine", "torch", "--device", "gpu", "--precision", precision, "--repeats", "3")
            at_once = ("--at-once", str(max(2, entry.at_once)))
            name = f"bench-{entry.benchmark}-{precision}"
            session.step(name, "cli.py", "bench", entry.benchmark, *options, *at_once, "--steps", "200")
    for benchmark, seeds in wanted.steps():
        if session.left > 0:
            session.run(benchmark, seeds)
