"""compare: two runs or groups beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.errors import RunError
from commands.options import check_png, data_option, json_option, registry_option, remember_runs_of, runs_option
from commands.output import announced, echo, print_json
from commands.registry import check_registry, records_of

if TYPE_CHECKING:
    from benchmarks.verdict.comparison import Change, Comparison, Pair, Side
    from results.record import Record

MOST_IMAGES = 100  # of a picture's half
WIDEST = 48  # characters of a value that differs


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw all learning curves as one PNG.")
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the images they disagree on as PNG."
)
@data_option
@runs_option
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, first: str, second: str, plot: Path | None, picture: Path | None, data_root: Path,
    runs_root: Path, registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Compare two runs, or two groups of runs: settings, versions, machines, errors, speed.

    A and B are each a record (its file, or the beginning of its id), a run's folder, or a benchmark: all its scoring
    runs that may be averaged. A benchmark with several such groups takes words behind @ that choose: its engine,
    precision or device, or the beginning of its recipe digest, as in binaryconnect-mnist@torch,float32.
    """
    from benchmarks.run.selection import select
    from benchmarks.verdict.comparison import compare

    for path in filter(None, (plot, picture)):
        check_png(path)
    check_registry(ctx, registry)
    recorded = records_of(registry)
    with announced("reading and comparing the runs"):
        sides = []
        for text in (first, second):
            remember_runs_of(runs_root, text)
            sides.append(select(text, recorded, registry, runs_root))
        comparison = compare((first, second), *sides)
    if plot is not None:
        from results.views.plots import learning_curves

        learning_curves(
            [(name, [r.curve for r in side]) for name, side in zip((first, second), sides, strict=True)], plot
        )
    if picture is not None:
        _draw(comparison, sides[0][0], data_root, picture)
    if as_json:
        print_json(comparison)
        return
    for line in _lines(comparison):
        echo(line)
    for path in filter(None, (plot, picture)):
        echo(f"written: {path}")


def _draw(comparison: Comparison, record: Record, data_root: Path, path: Path) -> None:
    import data_prep

    if not comparison.pairs:
        raise RunError(f"no picture: {comparison.obstacles[0]}")
    pair, sides = comparison.pairs[0], (comparison.first, comparison.second)
    alone = pair.first_alone, pair.second_alone
    halves = [
        (f"right in {side.name}, seed {seed}, alone: {len(found)}", found[:MOST_IMAGES])
        for side, seed, found in zip(sides, pair.seeds, alone, strict=True)
    ]
    data_prep.picture_of_tests(record.data.test.dataset, data_root, halves, path)


# -- text --------------------------------------------------------------------------------------------------------------


def _lines(comparison: Comparison) -> Iterator[str]:
    for letter, side in (("A", comparison.first), ("B", comparison.second)):
        yield f"{letter}  {_in_words(side)}"
    for title, changes in (
        ("settings that differ", comparison.settings),
        ("data that differ", comparison.data),
        ("what computed them differs in", comparison.computing),
    ):
        yield from _changes(title, changes)
    yield ""
    if comparison.obstacles:
        yield "errors are not compared:"
        yield from (f"  {obstacle}" for obstacle in comparison.obstacles)
    else:
        yield from _errors(comparison)
    yield (
        f"speed: A trained {comparison.first.images_per_second:,.0f} images/s, B"
        f" {comparison.second.images_per_second:,.0f}: {comparison.speed_ratio:.2f} times as fast"
    )
    yield from (f"note: {note}" for note in comparison.notes)


def _in_words(side: Side) -> str:
    seeds = f"seed{'s' * (len(side.seeds) > 1)} {', '.join(map(str, side.seeds))}"
    errors = " ".join(f"{error:.2f}" for error in side.errors)
    mean = f", mean {side.mean:.3f} %" if len(side.errors) > 1 else ""
    return f"{side.name}: {side.benchmark}, {seeds}: {errors} %{mean}"


def _changes(title: str, changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        yield f"{title}: nothing"
        return
    yield f"{title}:"
    lines = [[_short(text) for text in (change.key, change.first, change.second)] for change in changes]
    width, first, _ = (max(map(len, column)) for column in zip(*lines, strict=True))
    for key, one, other in lines:
        yield f"  {key:{width}}  A {one:{first}}  B {other}"


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def _errors(comparison: Comparison) -> Iterator[str]:
    if (between := comparison.mean_difference) is not None:
        low, high = between.interval.lower, between.interval.upper
        shown = "a difference is shown" if low > 0 or high < 0 else "no difference is shown"
        yield (
            f"errors: mean of A - mean of B = {between.value:+.3f} points,"
            f" 95 % interval {low:+.3f} to {high:+.3f}: {shown}"
        )
    yield f"the same {comparison.images:,} images, run by run:"
    yield from (f"  {_of_pair(pair, len(comparison.pairs) > 1)}" for pair in comparison.pairs)


def _of_pair(pair: Pair, is_one_of_several: bool) -> str:
    seeds = f"seed {pair.seeds[0]}" if pair.seeds[0] == pair.seeds[1] else f"seeds {pair.seeds[0]} and {pair.seeds[1]}"
    shown = "a difference is shown" if pair.adjusted_p_value < 0.05 else "no difference is shown"
    adjusted = f", {pair.adjusted_p_value:.3g} adjusted by Holm" if is_one_of_several else ""
    return (
        f"{seeds}: both right {pair.both_right:,}, A alone {len(pair.first_alone):,}, B alone"
        f" {len(pair.second_alone):,}, both wrong {pair.both_wrong:,}; A - B {pair.difference:+.3f} points"
        f" ({pair.interval.lower:+.3f} to {pair.interval.upper:+.3f}), McNemar's p = {pair.p_value:.3g}{adjusted}:"
        f" {shown}"
    )
