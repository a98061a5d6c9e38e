"""How long the queue itself takes: `python tests/benchmarks/queue/measure.py [RUNS]`, 10,000 if not said otherwise.

Each figure is the median of five, of commands with the time that Python takes to begin. The queues lie in the folder
of temporary files.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parent)]
from fake_queue import PLACE, fake_queue, fake_run, wanted  # noqa: E402

from benchmarks.paths import CLI  # noqa: E402
from benchmarks.queue.folder import QueueFolder  # noqa: E402
from benchmarks.queue.local import Worker  # noqa: E402
from benchmarks.queue.queued import QueuedRun  # noqa: E402
from benchmarks.recipe import load_recipe  # noqa: E402
from benchmarks.recipe.settings import named_settings  # noqa: E402
from benchmarks.run.folder import RunFolder  # noqa: E402
from benchmarks.run.state import Manifest  # noqa: E402
from results.leases import Watch  # noqa: E402

TIMES, WORKED = 5, 100
BENCHMARK, EPOCHS = "chawla-mlp-mnist-binary", "train.epochs=1"
HELD = b"000000000001 held 0123456789abcdef 15 another machine\n"


def measured(what: str, work: Callable[[int], object]) -> None:
    seconds, busy = [], []
    for number in range(TIMES):
        began, used = time.perf_counter(), sum(os.times()[:4])
        work(number)
        seconds.append(time.perf_counter() - began)
        busy.append(sum(os.times()[:4]) - used)
    span = f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
    print(f"{what}: {span}, of which {statistics.median(busy):.2f} s of a core", flush=True)


def command(queue: Path, *arguments: str) -> None:
    whole = [sys.executable, str(CLI), "queue", arguments[0], "--queue", str(queue), *arguments[1:]]
    result = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        seeds = ",".join(map(str, range(runs)))
        options = ("--seed", seeds, "--set", EPOCHS, "--engine", "gluon", "--device", "cpu", "--runs", f"{root}/runs")
        command(root / "warm", "add", BENCHMARK, *options[2:], "--seed", "1")

        def add(number: int) -> None:
            (root / f"{number}" / "code").parent.mkdir()
            (root / f"{number}" / "code").symlink_to(root / "warm" / "code")  # the code is copied once a commit
            command(root / f"{number}", "add", BENCHMARK, *options)

        measured(f"queue add, {runs:,} runs", add)
        measured(f"queue add, {runs:,} runs that are queued already", lambda _: command(
            root / "0", "add", BENCHMARK, *options))  # fmt: skip
        measured(f"queue status, {runs:,} runs waiting", lambda _: command(root / "0", "status"))
        queue = QueueFolder(root / "0")
        known = list(queue.runs().values())
        measured("claim of a run, all waiting", lambda _: claim(root / "0"))
        begin(queue, known[: runs * 3 // 4])
        for run in known[: runs // 2]:
            (queue.path / "over" / f"{run.name}.done").write_bytes(b"{}")
        for run in known[runs // 2 : runs * 3 // 4]:
            (queue.leases / f"{run.name}.1").write_bytes(HELD)
        measured(f"queue status, half done, {runs // 4:,} running", lambda _: command(root / "0", "status"))
        measured("claim of a run, the same, by a worker that has just begun", lambda _: claim(root / "0"))
        measured("queue cancel of all that is left", lambda _: command(root / "0", "cancel", "*"))
        fakes = fake_queue(root / "fake", range(WORKED), epochs=0)
        plain = time_of_fakes(fakes)
        began = time.perf_counter()
        Worker(fakes, wanted(), lambda _: None).work([PLACE])
        seconds = (time.perf_counter() - began) / WORKED
        print(f"a worker's overhead a run: {seconds - plain:.3f} s; the command itself {plain:.3f} s")


def begin(queue: QueueFolder, runs: Sequence[QueuedRun]) -> None:
    """Make the folders of these runs, in which no epoch is stored yet."""
    recipe = load_recipe(BENCHMARK, [EPOCHS])
    settings = named_settings(recipe.settings, recipe.stated)
    for run in runs:
        RunFolder.create(queue.runs_of(run.commit), Manifest(
            benchmark=BENCHMARK, settings=settings, overrides={}, seed=run.seed, engine="gluon", device="cpu",
            threads=1, data={},
        ))  # fmt: skip


def claim(path: Path) -> None:
    """By a process that has read nothing yet."""
    queue = QueueFolder(path)
    taken = queue.claim(lambda _: True, Watch(), "a measurement")
    assert taken is not None
    taken[1]._over.set()  # it stays held; nothing counts it up


def time_of_fakes(queue: QueueFolder) -> float:
    """Seconds that the command of a fake run takes by itself."""
    code = queue.code_of(fake_run(0).commit)
    began = time.perf_counter()
    for seed in range(TIMES):
        subprocess.run(
            [sys.executable, str(code / "cli.py"), *fake_run(seed).arguments, "--runs", str(queue.path / "other"),
             "--registry", str(queue.path / "other")], check=True,
        )  # fmt: skip
    return (time.perf_counter() - began) / TIMES


main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
