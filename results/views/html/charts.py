"""Small pictures as SVG that stands in a page: where our mean lies beside the claim, and errors against bits or cost.

Colors come from the page's style by classes, so that they follow dark mode and print; every text is escaped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from results.views.html.numbers import count
from results.views.html.svg import element
from results.views.leaderboard import Benchmark

REACH = 2.0  # margins to each side of the claim; what lies beyond is an arrow at the edge
WIDTH, HEIGHT, DOT = 150, 26, 3
WIDE, LABELS = 3.0, 18  # the larger picture, of a benchmark's own page, has the numbers below


def axis(benchmark: Benchmark, *, wide: bool = False) -> Markup:
    """The row's picture: the claim in the middle, its margin as a band, a dot a seed, the interval as a line."""
    claim, group = benchmark.claim, benchmark.group
    if claim is None:
        return Markup("")
    width, middle = WIDTH * (WIDE if wide else 1.0), HEIGHT / 2

    def x(error: float) -> float:
        distance = (error - claim.test_error) / claim.margin
        return round(width / 2 * (1 + max(-REACH, min(REACH, distance)) / REACH * 0.94), 1)

    ends = (claim.test_error - claim.margin, claim.test_error + claim.margin)
    band = {"x": x(ends[0]), "width": round(x(ends[1]) - x(ends[0]), 1)}
    parts = [
        element("rect", class_="band", y=4, height=HEIGHT - 8, **band),
        element("line", class_="claim", x1=width / 2, x2=width / 2, y1=2, y2=HEIGHT - 2),
    ]
    said = f"claim {claim.text} %, margin {claim.margin:.3f}"
    if group is not None and group.interval is not None:
        low, high = group.interval
        parts.append(element("line", class_="interval", x1=x(low), x2=x(high), y1=middle, y2=middle))
        said += f"; interval {low:.3f} to {high:.3f}"
    errors = [seed.test_error for seed in group.seeds if seed.test_error is not None] if group is not None else []
    if errors:
        parts += [_dot((error - claim.test_error) / claim.margin, x(error), middle) for error in errors]
        said += f"; {len(errors)} seed{'' if len(errors) == 1 else 's'}: {' '.join(f'{error:.3f}' for error in errors)}"
    height = HEIGHT + (LABELS if wide else 0)
    if wide:
        parts += [
            element("text", f"{error:.{claim.decimals + 1}f}", x=x(error), y=height - 4, text_anchor="middle")
            for error in (ends[0], claim.test_error, ends[1])
        ]
    size = {"width": width, "height": height, "viewBox": f"0 0 {width:g} {height}"}
    return element("svg", element("title", said), *parts, class_="axis", role="img", **size)


def _dot(distance: float, x: float, y: float) -> Markup:
    """A dot, or an arrow at the edge of a picture that ends before its place; distance: from the claim, in margins."""
    if abs(distance) <= REACH:
        return element("circle", class_="seed", cx=x, cy=y, r=DOT)
    tip = x + math.copysign(4, distance)
    return element("path", class_="seed", d=f"M{tip:g} {y:g}L{x:g} {y - 4:g}V{y + 4:g}Z")


class Scatter(NamedTuple):
    """One picture of plots.html: its heading, the SVG, and the same numbers for who cannot see it."""

    title: str
    svg: Markup
    rows: list[tuple[str, str, float, str]]


class _Point(NamedTuple):
    benchmark: Benchmark
    x: float
    error: float
    is_ours: bool


X_AXES: tuple[tuple[str, str, Callable[[Benchmark], float]], ...] = (
    ("size of the weights", "bytes", lambda benchmark: float(benchmark.network.bytes)),
    ("multiply-adds of one image", "", lambda benchmark: float(benchmark.network.multiply_adds)),
)


def scatters(benchmarks: Iterable[Benchmark]) -> list[Scatter]:
    """For each data set the errors against the size of the weights, and against the cost of an image."""
    of_data: dict[str, list[Benchmark]] = defaultdict(list)
    for benchmark in benchmarks:
        if benchmark.claim is not None or (benchmark.group and benchmark.group.mean is not None):
            of_data[benchmark.data].append(benchmark)
    return [
        _scatter(f"{data}: test error (%) against {name}", name, unit, value, found)
        for data, found in sorted(of_data.items())
        for name, unit, value in X_AXES
    ]


def _scatter(
    title: str, name: str, unit: str, value: Callable[[Benchmark], float], benchmarks: Sequence[Benchmark]
) -> Scatter:
    points = []
    for benchmark in benchmarks:
        if benchmark.claim is not None:
            points.append(_Point(benchmark, value(benchmark), benchmark.claim.test_error, False))
        if benchmark.group is not None and benchmark.group.mean is not None:
            points.append(_Point(benchmark, value(benchmark), benchmark.group.mean, True))
    return Scatter(title, _drawn(title, f"{name} {f'({unit})' if unit else ''}".strip(), points), [
        (point.benchmark.id, "ours" if point.is_ours else "claim", point.error, f"{point.x:,.0f}") for point in points
    ])  # fmt: skip


WIDTH_2, HEIGHT_2, LEFT, BOTTOM, RIGHT, TOP = 640, 340, 52, 44, 16, 12


def _drawn(title: str, name: str, points: Sequence[_Point]) -> Markup:
    x, x_ticks = log_axis([point.x for point in points], LEFT, WIDTH_2 - RIGHT)
    y, y_ticks = log_axis([point.error for point in points], HEIGHT_2 - BOTTOM, TOP)
    circles = []
    for point in points:
        said = f"{point.benchmark.id}: {'ours' if point.is_ours else 'claim'} {point.error:.3f} %"
        kind, place = "ours" if point.is_ours else "claimed", {"cx": x(point.x), "cy": y(point.error)}
        circle = element("circle", element("title", said), class_=kind, r=5, **place)
        circles.append(element("a", circle, href=f"benchmark/{point.benchmark.id}.html"))
    names = axis_names(name, "test error (%)")
    return plot(*grid(x, x_ticks, y, y_ticks), names, *circles, role="group", aria_label=title)


def plot(*parts: Markup, **attributes: object) -> Markup:
    """The picture that such parts make."""
    return element("svg", *parts, class_="plot", viewBox=f"0 0 {WIDTH_2} {HEIGHT_2}", **attributes)


def axis_names(x_name: str, y_name: str) -> Markup:
    """What stands at both axes."""
    down = f"translate(14 {(TOP + HEIGHT_2 - BOTTOM) / 2:g}) rotate(-90)"
    return element("text", x_name, x=(LEFT + WIDTH_2 - RIGHT) / 2, y=HEIGHT_2 - 6, text_anchor="middle") + element(
        "text", y_name, transform=down, text_anchor="middle"
    )


def log_axis(values: Sequence[float], start: float, end: float) -> tuple[Callable[[float], float], list[float]]:
    """From a value to its place between `start` and `end`, by its logarithm; and round values for ticks."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    padding = max(0.04, 0.04 * (high - low))
    low, high = low - padding, high + padding

    def place(value: float) -> float:
        return round(start + (math.log10(max(value, 10**low)) - low) / (high - low) * (end - start), 1)

    steps = (1, 1.5, 2, 3, 4, 5, 7) if high - low < 1 else (1, 2, 5) if high - low < 2.5 else (1,)
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return place, [tick for tick in ticks if low <= math.log10(tick) <= high]


def grid(
    x: Callable[[float], float], x_ticks: Iterable[float], y: Callable[[float], float], y_ticks: Iterable[float]
) -> list[Markup]:
    """Lines and numbers of both axes."""
    bottom, right = HEIGHT_2 - BOTTOM, WIDTH_2 - RIGHT
    parts = []
    for tick in x_ticks:
        parts.append(element("line", class_="grid", x1=x(tick), x2=x(tick), y1=TOP, y2=bottom))
        parts.append(element("text", count(tick), x=x(tick), y=bottom + 16, text_anchor="middle"))
    for tick in y_ticks:
        parts.append(element("line", class_="grid", x1=LEFT, x2=right, y1=y(tick), y2=y(tick)))
        parts.append(element("text", count(tick), x=LEFT - 6, y=y(tick), dy=4, text_anchor="end"))
    return parts
