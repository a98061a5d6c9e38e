"""Learning curves as a PNG: of a run, finished or under way, or of several runs beside each other."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from results.files import write_atomically
from results.record import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from results.history import Series

TRAIN, VALID, TEST, MARK = "#7f7f7f", "#1f77b4", "#d62728", "#2ca02c"
PUBLISHED = "#ffb55a"  # the authors' own validation curve
HEIGHTS = (4, 3, 1.2)  # of the panels: errors, losses, learning rate
FEW_EPOCHS = 30  # up to so many, every epoch is a dot: a line of one point would not be seen


def learning_curve(
    curve: Curve,
    declared: int,
    path: Path,
    title: str,
    target: float | None,
    published: list[float] | None = None,
) -> None:
    """Draw errors (percent), losses and learning rate against the epoch into the PNG `path`, replaced atomically.

    The `declared` epoch is marked, and `target`, the published test error in percent, is a line. `published` are the
    authors' validation errors in percent, epoch by epoch: drawn behind the run's, as far as it has come. Raises
    RegistryFileError if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    errors, losses, rate = figure.subplots(3, 1, sharex=True, height_ratios=HEIGHTS)
    figure.suptitle(title)
    for axes, name in ((errors, "error (%)"), (losses, "loss"), (rate, "learning rate")):
        axes.set_ylabel(name)
        axes.grid(True, alpha=0.3)
    colors = {"training": TRAIN, "validation": VALID, "test": TEST}
    theirs = {"validation, authors": (published[: len(curve.epoch)], PUBLISHED)} if published else {}
    error_columns = {"training": curve.train_error, "validation": curve.valid_error, "test": curve.test_error}
    _draw(errors, curve.epoch, theirs | _lines(error_columns, colors))
    _mark(errors, curve, declared, target)
    loss_columns = {"training": curve.train_loss, "validation": curve.valid_loss, "test": curve.test_loss}
    _draw(losses, curve.epoch, _lines(loss_columns, colors))
    _draw(rate, curve.epoch, {"learning rate": (curve.lr, "black")})
    for axes, height in zip((errors, losses, rate), HEIGHTS, strict=True):
        _plain_ticks(axes, height / HEIGHTS[0])
    for axes in (errors, losses):  # above the axes, where no curve can be hidden
        columns = 4 if len(axes.get_lines()) <= 5 else 3  # wider, it would push the axes aside
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, borderaxespad=0.1)
    rate.set_xlabel("epoch")
    rate.set_xlim(0.5, max(curve.epoch, default=1) + 0.5)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _write(figure, path)


def learning_curves(sides: Sequence[tuple[str, Sequence[Curve]]], path: Path) -> None:
    """Draw the errors (percent) of several runs against the epoch into the PNG `path`, replaced atomically.

    A color a side; test errors are whole lines, validation errors thin. Raises RegistryFileError if the file cannot
    be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, curves), color in zip(sides, (VALID, TEST), strict=True):
        for place, curve in enumerate(curves):
            label = f"{name}, test error" if place == 0 else None
            axes.plot(curve.epoch, curve.test_error, color=color, linewidth=1.2, label=label)
            if curve.valid_error is not UNSET:
                label = f"{name}, validation error" if place == 0 else None
                axes.plot(curve.epoch, curve.valid_error, color=color, linewidth=0.8, linestyle=":", label=label)
    if all(error > 0 for _, curves in sides for curve in curves for error in curve.test_error):
        axes.set_yscale("log")
    _plain_ticks(axes, 1)
    axes.grid(True, alpha=0.3)
    axes.set_xlabel("epoch")
    axes.set_ylabel("error (%)")
    axes.legend(frameon=False)
    _write(figure, path)


def histories(title: str, series: Sequence[Series], path: Path) -> None:
    """Draw series of runs, a panel each, into the PNG `path`, replaced atomically; changes of level are lines.

    Raises RegistryFileError if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 2.5 * len(series)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, one in zip(figure.subplots(len(series), squeeze=False)[:, 0], series, strict=True):
        places = {point.record: place for place, point in enumerate(one.points)}
        axes.plot(list(places.values()), [point.value for point in one.points], "o", color=VALID, markersize=5)
        for change in one.changes:
            color = MARK if change.accepted else TEST
            axes.axvline(places[change.record] - 0.5, color=color, linestyle="--", linewidth=1.2)
        axes.set_title(one.kind, fontsize=9)
        axes.set_ylabel(one.figure)
        axes.grid(True, alpha=0.3)
        texts = [f"{point.started[:10]}\n{(point.commit or '-')[:7]}" for point in one.points]
        step = max(1, len(texts) // 8)  # more would overlap
        axes.set_xticks(range(0, len(texts), step), texts[::step], fontsize=7)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})  # no version in it: same curve, same bytes
    write_atomically(path, image.getvalue())


def _lines(columns: dict[str, list[float] | UnsetType], colors: dict[str, str]) -> dict[str, tuple[list[float], str]]:
    """The columns that the curve has, by label, each with its color."""
    return {label: (values, colors[label]) for label, values in columns.items() if values is not UNSET}


def _mark(axes: Axes, curve: Curve, declared: int, target: float | None) -> None:
    """The published error as a line, the declared epoch as a point."""
    if target is not None:
        axes.axhline(target, color=MARK, linestyle="--", linewidth=1.2, label=f"published: {target:g} %")
    if declared:
        error = curve.test_error[declared - 1]
        axes.axvline(declared, color="black", linestyle=":", linewidth=1)
        label = f"declared: {error:g} % (epoch {declared})"
        axes.plot([declared], [error], "o", color="black", markersize=5, label=label)


def _draw(axes: Axes, epochs: list[int], lines: dict[str, tuple[list[float], str]]) -> None:
    """Lines by label, each from the first epoch on; on a log axis wherever that is possible: the end is of interest."""
    marker = "." if len(epochs) <= FEW_EPOCHS else ""
    for label, (values, color) in lines.items():
        axes.plot(epochs[: len(values)], values, color=color, linewidth=1.2, marker=marker, label=label)
    if epochs and min(min(values) for values, _ in lines.values()) > 0:
        axes.set_yscale("log")


def _plain_ticks(axes: Axes, height: float) -> None:
    """Ticks that are plain numbers on a log axis, as many a decade as its span and relative height leave room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if axes.get_yscale() != "log":
        return
    low, high = axes.get_ylim()
    decades = math.log10(high / low) / height
    ticks: Sequence[float] = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
