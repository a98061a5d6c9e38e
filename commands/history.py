"""What `table --history ID` prints: error and speed of a benchmark over its runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import RunError
from benchmarks.recipe import load_recipe
from commands.output import announced, echo, print_json
from commands.registry import records_of

if TYPE_CHECKING:
    from results.history import Series


def print_history(benchmark: str, registry: Path, plot: Path | None, as_json: bool) -> None:
    """Print every series of a benchmark with its changes of level, and draw them if `plot` names a PNG.

    Raises:
        RunError: no run of the benchmark has a result that scores.
        RegistryError: the file of accepted changes is not what it must be.
    """
    from results import registry as registries
    from results.change_points import FEWEST
    from results.history import SCHEMA, history, read_accepted

    accepted = read_accepted(registry.parent / "accepted_changes.json")
    found = [run.id for run in records_of(registry) if run.benchmark == benchmark]
    records = (registries.read(registry / benchmark / f"{name}.json") for name in found)
    with announced(f"reading {len(found)} runs and looking for changes of their level"):
        series = history(records, accepted)
    if not series:
        load_recipe(benchmark)  # an unknown one is said to be so
        raise RunError(f"{benchmark}: no scoring run has a result: `python cli.py reproduce {benchmark}` makes one")
    if plot is not None:
        from results.views.plots import histories

        histories(benchmark, series, plot)
    if as_json:
        print_json({"schema": SCHEMA, "benchmark": benchmark, "series": series})
        return
    for one in series:
        for line in _lines(one, FEWEST):
            echo(line)
    if plot is not None:
        echo(f"written: {plot}")


def _lines(series: Series, fewest: int) -> Iterator[str]:
    count = len(series.points)
    yield f"{series.figure}: {series.kind}: {count} run{'s' * (count > 1)}"
    changes = {change.record: change for change in series.changes}
    for point in series.points:
        if (change := changes.get(point.record)) is not None:
            why = f"accepted: {change.accepted}" if change.accepted else "not accepted"
            yield f"  -- from {change.before:,.3f} to {change.after:,.3f} on average (p = {change.p_value:.2g}); {why}"
        commit = (point.commit or "no commit")[:10]
        yield f"  {point.started}  {commit:10}  seed {point.seed:<6} {point.value:10,.3f}  {point.record}"
    if count < fewest:
        yield f"  changes of level are looked for from {fewest} runs on"
    elif not series.changes:
        yield "  no change of level"
