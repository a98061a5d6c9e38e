"""The learning curves of a benchmark's runs as one SVG: a line a run, the band between them, and the authors' own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from results.views.html.charts import (
    BOTTOM,
    HEIGHT_2,
    LEFT,
    RIGHT,
    TOP,
    WIDTH_2,
    axis_names,
    grid,
    log_axis,
    plot,
)
from results.views.html.numbers import count
from results.views.html.svg import element
from results.views.leaderboard import Curves, Run

POINTS = 240  # a line has no more: a page with ten runs of a thousand epochs stays small
SMALLEST = 0.01  # percent: on an axis of logarithms an error of zero has no place


def draw(curves: Curves, runs: Mapping[str, Run]) -> Markup:
    """Errors against epochs; empty where there is nothing to draw."""
    lines = [errors for errors in curves.runs.values() if errors]
    if not lines and not curves.authors:
        return Markup("")
    everything = [max(SMALLEST, error) for line in [*lines, curves.authors or []] for error in line]
    longest = max(map(len, [*lines, curves.authors or []]))
    y, y_ticks = log_axis(everything, HEIGHT_2 - BOTTOM, TOP)

    def x(epoch: float) -> float:
        return round(LEFT + (epoch - 1) / max(1, longest - 1) * (WIDTH_2 - RIGHT - LEFT), 1)

    parts = grid(x, _epochs(longest), y, y_ticks)
    if len(lines) > 1:
        parts.append(_band(lines, x, y))
    if curves.authors:
        parts.append(_line("authors", curves.authors, x, y, "the authors' run"))
    for name, errors in curves.runs.items():
        seed = f"seed {runs[name].seed}, {runs[name].engine}" if name in runs else name
        parts.append(_line("run", errors, x, y, seed))
    said = f"{curves.of} error, epoch by epoch, of {len(lines)} runs{' and of the authors' if curves.authors else ''}"
    return plot(*parts, axis_names("epoch", f"{curves.of} error (%)"), role="img", aria_label=said)


def _epochs(longest: int) -> list[float]:
    step = next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if longest / step <= 8), 1000)
    return [1.0, *(float(epoch) for epoch in range(step, longest + 1, step) if epoch > 1)]


def _sampled(errors: Sequence[float]) -> list[tuple[int, float]]:
    """(epoch, error): every so many epochs, and the last."""
    step = max(1, -(-len(errors) // POINTS))
    epochs = [*range(1, len(errors) + 1, step)]
    if epochs[-1] != len(errors):
        epochs.append(len(errors))
    return [(epoch, max(SMALLEST, errors[epoch - 1])) for epoch in epochs]


def _line(
    kind: str, errors: Sequence[float], x: Callable[[float], float], y: Callable[[float], float], said: str
) -> Markup:
    last = f"{said}: {count(round(errors[-1], 3))} % at the end" if errors else said
    return element("polyline", element("title", last), class_=kind, points=" ".join(_places(errors, x, y)))


def _band(lines: Sequence[Sequence[float]], x: Callable[[float], float], y: Callable[[float], float]) -> Markup:
    """Between the lowest and the highest run, as far as two of them have come."""
    reach = sorted(map(len, lines))[-2]
    both = [[line[epoch] for line in lines if epoch < len(line)] for epoch in range(reach)]
    upper, lower = (_places([choose(errors) for errors in both], x, y) for choose in (max, min))
    return element("polygon", class_="between", points=" ".join([*upper, *reversed(lower)]))


def _places(errors: Sequence[float], x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    return [f"{x(epoch):g},{y(error):g}" for epoch, error in _sampled(errors)]
