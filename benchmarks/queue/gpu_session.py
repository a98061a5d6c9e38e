"""Everything that is to be done once a GPU is at hand, in one command that may be repeated until it is done.

    python -m benchmarks.queue.gpu_session --budget-minutes 25 --out gpu-session --data data

In order, as far as the time goes: the reference and engine tests on the GPU, the speed of the queue's benchmarks, then
the queue of published runs (docs/gpu-queue.md), each of which is continued where an earlier session left it. A step
that is done leaves a file in the folder and is not repeated. Needs no network: prepare the data where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.paths import REPOSITORY
from benchmarks.recipe import benchmark_ids

# Benchmark and seeds, in the order of docs/gpu-queue.md; then the remaining seeds of each.
SEEDS = (1234, 1, 2, 3, 4)
QUEUE = (
    "binaryconnect-cifar10",
    "binarynet-cifar10",
    "rwth-vgg7-cifar10-binary",
    "rwth-vgg7-cifar10-float",
    "binarynet-mnist",
    "binarynet-torch7-cifar10",
    "binaryconnect-mnist",
    "memorization-cifar10-random-labels",
)
# Networks that are too small to fill a GPU: their seeds run at once, as many as are given here (docs/gpu.md).
AT_ONCE = {"binaryconnect-mnist": 5, "binarynet-mnist": 5}
BENCHED = ("binaryconnect-cifar10", "binarynet-cifar10", "binaryconnect-mnist", "binarynet-torch7-cifar10")
LAST_MINUTES = 1.0  # a run is interrupted so long before the end: it has its epoch stored by then


def runs(benchmarks: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Benchmark and seeds of the wanted runs, in order, those together that run at once; of what this checkout has."""
    known = [name for name in benchmarks if name in benchmark_ids()]
    first = {name: SEEDS if name == "binaryconnect-mnist" else SEEDS[:1] for name in known}
    wanted: list[tuple[str, tuple[int, ...]]] = [*first.items()]
    for name in known:
        left, at_once = SEEDS[len(first[name]) :], AT_ONCE.get(name, 1)
        wanted += [(name, left[start : start + at_once]) for start in range(0, len(left), at_once)]
    return wanted


class Session:
    """One sitting on a GPU."""

    def __init__(self, out: Path, data: Path, minutes: float, precision: str) -> None:
        self._out, self._data, self._precision = out, data, precision
        self._end = time.monotonic() + 60 * (minutes - LAST_MINUTES)
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
        print(f"{name} ({self.left / 60:.1f} minutes left)", flush=True)
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
        print(f"{name} failed: see {part}", flush=True)
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


def main() -> None:
    """Parse, and do what there is time for."""
    parser = argparse.ArgumentParser(description="Tests, speed and published runs on a GPU, as far as the time goes.")
    parser.add_argument("--budget-minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True, help="Folder of logs, runs and records; kept over sessions.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="Folder of prepared data.")
    parser.add_argument("--precision", default="float32", choices=("float32", "tf32", "bf16"))
    parser.add_argument("--queue", nargs="+", default=QUEUE, metavar="ID")
    asked = parser.parse_args()
    session = Session(asked.out, asked.data, asked.budget_minutes, asked.precision)
    tested = session.step("tests", "-m", "pytest", "-m", "torch and gpu", "tests/bnn_torch")
    if not tested and session.left > 0:
        sys.exit("the engine does not compute on this GPU what it must: nothing is trained")
    for benchmark in BENCHED:
        for precision in ("float32", "tf32", "bf16"):
            options = ("--engine", "torch", "--device", "gpu", "--precision", precision, "--repeats", "3")
            at_once = ("--at-once", str(AT_ONCE.get(benchmark, 2)))
            name = f"bench-{benchmark}-{precision}"
            session.step(name, "cli.py", "bench", benchmark, *options, *at_once, "--steps", "200")
    for benchmark, seeds in runs(asked.queue):
        if session.left > 0:
            session.run(benchmark, seeds)
    print(f"{max(0, session.left) / 60:.1f} minutes left; records: {asked.out / 'results'}")


if __name__ == "__main__":
    main()
