"""Jobs dealt out to processes, a core each."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.machine.facts import usable_cores
from benchmarks.paths import REPOSITORY
from benchmarks.regress.measure import Job, Measured

Measure = Callable[[Job], Measured]
COMMAND = [sys.executable, "-m", "benchmarks.regress.measure"]


def in_a_process(job: Job) -> Measured:
    """Measured in a process of its own; what ends it otherwise than well is what failed."""
    started = time.perf_counter()
    ended = subprocess.run(COMMAND, cwd=REPOSITORY, check=False, capture_output=True, input=msgspec.json.encode(job))
    if ended.returncode != 0:
        lines = ended.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return Measured(
            job.benchmark,
            failed=f"its process ended with {ended.returncode}: {lines[-1]}",
            seconds=time.perf_counter() - started,
        )
    return msgspec.json.decode(ended.stdout, type=Measured)


def deal_out(jobs: Iterable[Job], measure: Measure, workers: int | None = None) -> Iterator[Measured]:
    """What each job gives, as they end; so many at a time, as many as there are cores."""
    pool = ThreadPoolExecutor(workers or usable_cores())
    try:
        for done in as_completed([pool.submit(measure, job) for job in jobs]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C no other job begins


@contextmanager
def data_folder(benchmarks: Iterable[str]) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A folder that is filled with the images that these benchmarks' budgets need, as long as the context lasts, and
    what waits until those of a benchmark are there; that raises DataError if they cannot be made.

    Those that take long to make, which are whitened, are made last.
    """
    from benchmarks.regress import budgets, images

    recipes = {name: budgets.budget_of(name).recipe(name) for name in benchmarks}
    keys = {name: (recipe.data.dataset, recipe.data.preprocessing) for name, recipe in recipes.items()}
    one_of_each = {keys[name]: recipe for name, recipe in recipes.items()}
    with tempfile.TemporaryDirectory(prefix="bnn-regress-") as folder:
        pool = ThreadPoolExecutor(1)
        try:
            in_order = sorted(one_of_each.items(), key=lambda item: (images.takes_long(item[1]), item[0]))
            made = {key: pool.submit(images.prepare, recipe, Path(folder)) for key, recipe in in_order}
            yield Path(folder), lambda name: made[keys[name]].result()
        finally:
            pool.shutdown(cancel_futures=True)
