"""A measurement as text, for people."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from benchmarks.bench.model import BenchResult, Spread, Together

if TYPE_CHECKING:
    pass

from benchmarks.bench.limits import SQUARE


def to_text(result: BenchResult) -> str:
    """The result as a table and a few lines."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.run.display import duration

    columns = {
        "training": result.training,
        "evaluation": result.evaluation,
        "plain training": result.baseline,
        "plain, torch.compile": result.compiled,
    }
    speeds = {name: speed for name, speed in columns.items() if speed is not None}
    table = Table("median (min to max)", *(f"{name}\na batch of {speed.work.images}" for name, speed in speeds.items()))
    for label, attribute, form in (
        ("ms a batch", "ms", ".2f"),
        ("images/s", "images_per_second", ",.0f"),
        ("GFLOP/s", "gflops", ".1f"),
        ("of peak sgemm", "of_sgemm", ".1%"),
        ("floor, ms", "floor_ms", ".2f"),
        ("of the floor's speed", "of_floor", ".1%"),
        ("floor of tables, ms", "tables_floor_ms", ".2f"),
        ("of that floor's speed", "of_tables_floor", ".1%"),
    ):
        found = [getattr(speed, attribute) for speed in speeds.values()]
        if any(found):
            table.add_row(label, *("" if spread is None else _text(spread, form) for spread in found))
    other = f" ({result.sgemm_threads} threads, the engine {result.threads})" * (result.sgemm_threads != result.threads)
    run, total = result.full_run, duration(result.full_run.total_seconds)
    lines: list[str | Table] = [
        f"{result.benchmark}: {result.repeats} rounds of {result.steps} training steps, on {result.data}",
        f"{result.engine['name']} on {result.engine['device_name']}, {result.threads} threads,"
        f" {result.engine['precision']}",
        table,
        f"sgemm {SQUARE} x {SQUARE}: {_text(result.sgemm_square, '.1f')} GFLOP/s{other}",
        f"sgemm at the dense layers' shapes: {_text(result.sgemm_network, '.1f')} GFLOP/s{other}",
        f"copy: {_text(result.copy, '.1f')} GB/s read and written",
        *([] if result.lines is None else [_lines_text(result.lines)]),
        f"peak memory {result.peak_memory_mib:,.0f} MiB without a data set; opened in {result.open_seconds:.1f} s,"
        f" first steps and evaluation {result.warm_up_seconds:.1f} s with compilation",
        f"a whole run by these medians: {total} (training {duration(run.training_seconds)},"
        f" evaluation {duration(run.evaluation_seconds)})",
    ]
    if result.device_memory_mib is not None:
        lines.append(f"peak memory on the GPU {result.device_memory_mib:,.0f} MiB; its own products and copies above")
    for plain, times in (
        ("plain layers and operators", result.speedup),
        ("with torch.compile", result.compiled_speedup),
    ):
        if times is not None:
            lines.append(f"{plain} take {_text(times, '.2f')} times as long as the engine")
    if result.together is not None:
        lines += _together_lines(result.together)
    buffer = io.StringIO()
    console = Console(file=buffer, width=120, highlight=False, markup=False)
    for line in lines:
        console.print(line, soft_wrap=True)
    return buffer.getvalue()


def _lines_text(lines: Spread) -> str:
    return f"lines loaded from the first-level cache: {_text(lines, '.2f')} x 10^9 a second"


def _together_lines(together: Together) -> list[str]:
    lines = [
        f"{together.runs} runs at once, {together.threads} threads each: {_text(together.images_per_second, ',.0f')}"
        f" images/s together, {_text(together.gain, '.2f')} times those of one alone"
    ]
    if together.taking_turns is not None:
        lines.append(f"they take turns on the GPU: {together.taking_turns}")
    return lines


def _text(spread: Spread, form: str) -> str:
    return f"{spread.median:{form}} ({spread.min:{form}} to {spread.max:{form}})"
