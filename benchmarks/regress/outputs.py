"""A regression run's report for people and for machines: lines, JUnit XML, JSON, and what GitHub shows.

Text of figures may be anything, such as the message of an error: each format escapes it by its own rules. The worst
figure comes first everywhere.

Sources: the schema that Jenkins reads (junit-10.xsd of its xunit-plugin) and GitHub's test reporters with it; GitHub's
"Workflow commands for GitHub Actions", escaping as in actions/toolkit, packages/core/src/command.ts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args
from xml.etree import ElementTree

import msgspec

from benchmarks.regress.figures import Figure, Kind, Report, Word
from results.escape import for_json, for_markdown, for_terminal

WORST_FIRST: tuple[Word, ...] = ("alarm", "not measured", "not comparable", "ok")
# JUnit's element of a figure that is not "ok".
JUNIT: dict[Word, str] = {"alarm": "failure", "not measured": "error", "not comparable": "skipped"}
CELL = 300  # characters of a text in GitHub's summary, which has 1 MiB in all: the whole texts are in the JSON
SUMMARY_BYTES = 900_000
ANNOTATIONS = 10  # errors that GitHub shows of a step; it drops the others without a word


def worst_first(figures: Iterable[Figure]) -> list[Figure]:
    """The figures in the order in which they are read: the same for the same figures."""
    return sorted(
        figures,
        key=lambda one: (WORST_FIRST.index(one.word), -_finite(one.excess), one.benchmark, one.kind, one.engine),
    )


def _finite(value: float) -> float:
    """Infinity and NaN, which no order and no JSON has, as the largest number."""
    return value if math.isfinite(value) else math.copysign(1e308, value)


def _name(figure: Figure) -> str:
    return figure.benchmark or "registry"


def _text(figure: Figure) -> str:
    """What was measured, what was expected, and why."""
    values = f"{figure.measured}, expected {figure.expected}" if figure.expected else figure.measured
    return "; ".join(text for text in (values, figure.detail) if text)


def _counts(figures: Sequence[Figure]) -> str:
    """As "1 alarm, 3 ok"."""
    counts = {word: sum(figure.word == word for figure in figures) for word in WORST_FIRST}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no figures"


def _heading(report: Report) -> str:
    commit = f" at {report.commit[:12]}{' with changes' if report.changed else ''}" if report.commit else ""
    return f"{_counts(report.figures)}: {report.engine}{commit} on {report.processor}, {report.seconds:.0f} s"


def _left_out(report: Report) -> list[str]:
    """A line for each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in sorted(report.left_out.items()):
        names.setdefault(reason, []).append(name)
    return [f"left out, {reason} ({len(those)}): {', '.join(those)}" for reason, those in names.items()]


# -- for people --------------------------------------------------------------------------------------------------------


def lines(report: Report) -> list[str]:
    """A line for each figure, then what was left out, then a summary with the exit code."""
    found = [f"{one.word}: {_name(one)} {one.kind}: {_text(one)}" for one in worst_first(report.figures)]
    nothing = "; no benchmark was compared" if report.exit_code == 6 else ""
    if report.stale:
        nothing = f"; measure new references of {len(report.stale)} with --update: bits of others were compared"
    return [
        for_terminal(line)
        for line in (*found, *_left_out(report), f"{_heading(report)}{nothing} (exit code {report.exit_code})")
    ]


# -- for machines ------------------------------------------------------------------------------------------------------


def to_json(report: Report) -> str:
    """The report, worst figure first, with its exit code; `msgspec` reads a Report from it again."""
    figures = [msgspec.structs.replace(one, excess=_finite(one.excess)) for one in worst_first(report.figures)]
    content: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(report, figures=figures))
    return for_json(json.dumps(content | {"exit_code": report.exit_code}, indent=2, ensure_ascii=False))


def to_junit(report: Report) -> str:
    """JUnit XML: a suite for each kind, a test case for each figure; times in seconds."""
    root = ElementTree.Element("testsuites", {"name": "regress"} | _junit_totals(report.figures))
    for kind in get_args(Kind):
        figures = [figure for figure in worst_first(report.figures) if figure.kind == kind]
        if not figures:
            continue
        totals = _junit_totals(figures) | {"skipped": str(sum(one.word == "not comparable" for one in figures))}
        suite = ElementTree.SubElement(root, "testsuite", {"name": kind} | totals)
        for figure in figures:
            _add_test_case(suite, figure)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _junit_totals(figures: Sequence[Figure]) -> dict[str, str]:
    return {
        "tests": str(len(figures)),
        "failures": str(sum(figure.word == "alarm" for figure in figures)),
        "errors": str(sum(figure.word == "not measured" for figure in figures)),
        "time": f"{sum(figure.seconds for figure in figures):.3f}",
    }


def _add_test_case(suite: ElementTree.Element, figure: Figure) -> None:
    """What XML has no character for is written as `\\x1b`."""
    text, name = for_terminal(_text(figure)), for_terminal(_name(figure))
    attributes = {"classname": f"regress.{for_terminal(figure.engine)}.{figure.kind}", "name": name}
    case = ElementTree.SubElement(suite, "testcase", attributes | {"time": f"{figure.seconds:.3f}"})
    if figure.word == "ok":
        ElementTree.SubElement(case, "system-out").text = text
        return
    details = {"message": text, "type": figure.word}
    ElementTree.SubElement(case, JUNIT[figure.word], details).text = f"{figure.word}: {name} {figure.kind}: {text}"


# -- GitHub ------------------------------------------------------------------------------------------------------------


def to_github_summary(report: Report) -> str:
    """Markdown for the file that $GITHUB_STEP_SUMMARY names: a table of what is not "ok", and of the rest, folded."""
    ordered = worst_first(report.figures)
    bad = [figure for figure in ordered if figure.word != "ok"]
    parts = [f"### Regression: {for_markdown(_heading(report))}\n", *_table(bad)]
    if good := ordered[len(bad) :]:
        parts += ["<details><summary>What is as it was</summary>\n", *_table(good), "</details>\n"]
    parts += [f"{for_markdown(_cut(line))}\n" for line in _left_out(report)]
    return "\n".join(parts)


def _cut(text: str) -> str:
    return text if len(text) <= CELL else f"{text[: CELL - 1]}\N{HORIZONTAL ELLIPSIS}"


def _table(figures: Sequence[Figure]) -> list[str]:
    if not figures:
        return []
    rows, size = ["| | benchmark | figure | measured | expected | why |", "|---|---|---|---|---|---|"], 0
    for number, one in enumerate(figures):
        cells = (one.word, _name(one), one.kind, one.measured, one.expected, one.detail)
        row = f"| {' | '.join(for_markdown(_cut(cell)) for cell in cells)} |"
        size += len(row.encode())
        if size > SUMMARY_BYTES // 2:
            rows.append(f"\nand {len(figures) - number} more")
            break
        rows.append(row)
    return [*rows, ""]


def to_annotations(report: Report) -> list[str]:
    """Workflow commands to print, a line each: an error of each alarm and failure, one warning of the incomparable."""
    ordered = worst_first(report.figures)
    bad = [figure for figure in ordered if figure.word in ("alarm", "not measured")]
    shown = bad if len(bad) <= ANNOTATIONS else bad[: ANNOTATIONS - 1]
    found = [_command("error", f"{one.word}: {_name(one)} {one.kind}", _text(one)) for one in shown]
    if len(shown) < len(bad):
        found.append(_command("error", "more", f"{len(bad) - len(shown)} more: see the summary of this step"))
    if others := [figure for figure in ordered if figure.word == "not comparable"]:
        first = f"{_name(others[0])} {others[0].kind}: {_text(others[0])}"
        found.append(_command("warning", f"{len(others)} not comparable here", first))
    return found


def _command(name: str, title: str, message: str) -> str:
    return f"::{name} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    """GitHub's escapes; what else is no printable character is written as `\\x1b`."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return for_terminal(escaped)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
