"""The results table: one row a group of runs, derived from the records, as CSV, Markdown, text or JSON.

Only scoring runs count: those at exactly the published settings. The same records give the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import stat
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NotRequired, Protocol, TypedDict

from results.entries import Run
from results.errors import RegistryError, StorageError
from results.escape import for_csv, for_json, for_markdown, for_terminal
from results.files import write_atomically
from results.groups import Group, groups
from results.record import standard_error
from results.registry import Problem

if TYPE_CHECKING:
    from rich.table import Table

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
NOT_RUN = "not run"
NOTE = (
    "Errors in percent of the test set, at the epoch of the lowest validation error, or the last where the authors "
    "take that. ± is the binomial standard error on the test set for one run, the standard deviation over the runs for "
    "several. (mem): target not checked against its source; (2nd): target from a secondary source."
)
_HEADINGS = {
    "benchmark": "Benchmark",
    "paper": "Paper",
    "data": "Data",
    "target": "Target (%)",
    "measured": "Test error (%)",
    "runs": "Runs",
    "verdict": "Verdict",
    "engine": "Engine",
    "date": "Last run",
}
_NUMBERS = ("target", "measured", "runs")


class Benchmark(TypedDict):
    """What the table needs to know of a benchmark that may have no record; `kind` as in `results.record.Target`.

    digest: of the settings that are published now, where that is known: runs of others are superseded.
    """

    id: str
    paper: str
    data: str
    target: float | None
    decimals: NotRequired[int]
    kind: NotRequired[str]
    digest: NotRequired[str]


class Verdict(Protocol):
    """The judgement of one run, as `benchmarks.verdict` makes it."""

    @property
    def word(self) -> str: ...

    @property
    def provisional(self) -> bool: ...


Judge = Callable[[Run], Verdict]


class Row(NamedTuple):
    """One group of a benchmark's recorded runs; errors in percent, None where there is nothing to say.

    runs: finished scoring runs, one a seed; test_error: their mean; spread: for one run the binomial standard error,
    for several their standard deviation. diverged: scoring runs that diverged, no part of it. repetitions: further
    runs of the same seeds, no part of it either. train_error: mean over the runs of that of the training images, in
    evaluation mode, where it was measured. notes: what a reader must know, as "mixed code" or "superseded".
    """

    benchmark: str
    paper: str
    data: str
    target: float | None
    target_kind: str
    decimals: int
    runs: int
    diverged: int
    test_error: float | None
    spread: float | None
    verdict: str
    engine: str
    date: str
    train_error: float | None
    precision: str
    repetitions: int
    notes: str


def rows(records: Iterable[Run], judge: Judge, benchmarks: Iterable[Benchmark] = ()) -> list[Row]:
    """The table: first `benchmarks`, in their order, then the other recorded ones by id; a row for each group."""
    of_benchmark: dict[str, list[Group]] = {}
    for group in groups(records):
        of_benchmark.setdefault(group.key.benchmark, []).append(group)
    known = {benchmark["id"]: benchmark for benchmark in benchmarks}
    others = sorted(of_benchmark.keys() - known.keys())
    known |= {name: _benchmark_of(of_benchmark[name][0].runs[0]) for name in others}
    return [
        _row(benchmark, group, judge)
        for name, benchmark in known.items()
        for group in _current_first(benchmark, of_benchmark.get(name, []))
    ]


def _current_first(benchmark: Benchmark, found: list[Group]) -> Sequence[Group | None]:
    """Superseded groups last, the larger ones of the others first; a row without one where there is none."""
    found.sort(key=lambda group: (_is_superseded(benchmark, group), -len(group.runs), group.key))
    return found or [None]


def _is_superseded(benchmark: Benchmark, group: Group) -> bool:
    return benchmark.get("digest", group.key.digest) != group.key.digest


def percent_text(percent: float | None, decimals: int) -> str:
    """A percentage with so many decimals, "-" for None."""
    return "-" if percent is None else f"{percent:.{decimals}f}"


def to_csv(table: Sequence[Row]) -> str:
    """The table for programs: bare numbers, one column a fact, empty where there is none."""
    columns = {
        "benchmark": [row.benchmark for row in table],
        "paper": [row.paper for row in table],
        "data": [row.data for row in table],
        "target": [_number(row.target, row.decimals) for row in table],
        "target_kind": [row.target_kind if row.target is not None else "" for row in table],
        "runs": [row.runs for row in table],
        "diverged": [row.diverged for row in table],
        "test_error": [_number(row.test_error, row.decimals + 1) for row in table],
        "spread": [_number(row.spread, row.decimals + 1) for row in table],
        "verdict": [row.verdict for row in table],
        "engine": [row.engine for row in table],
        "date": [row.date for row in table],
        "train_error": [_number(row.train_error, row.decimals + 1) for row in table],
        "precision": [row.precision for row in table],
        "repetitions": [row.repetitions for row in table],
        "notes": [row.notes for row in table],
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for line in zip(*columns.values(), strict=True):
        writer.writerow([for_csv(cell) if isinstance(cell, str) else cell for cell in line])
    return text.getvalue()


def to_markdown(table: Sequence[Row]) -> str:
    """The table for the README, with a note on how to read it."""
    lines = [_HEADINGS.values(), ("--:" if column in _NUMBERS else "---" for column in _HEADINGS)]
    lines += [map(for_markdown, _cells(row).values()) for row in table]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + f"\n\n{NOTE}\n"


def to_rich(table: Sequence[Row]) -> Table:
    """The table for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    view = Table(box=SIMPLE_HEAD)
    for column, heading in _HEADINGS.items():
        view.add_column(heading, justify="right" if column in _NUMBERS else "left", no_wrap=column == "benchmark")
    for row in table:
        view.add_row(*map(Text, _cells(row).values()))
    return view


def to_columns(table: Sequence[Row]) -> str:
    """The table in aligned columns, its lines as long as they need: made faster than `to_rich`, which wraps."""
    cells = [tuple(_HEADINGS.values()), *(tuple(_cells(row).values()) for row in table)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    align = [str.rjust if column in _NUMBERS else str.ljust for column in _HEADINGS]
    lines = ["  ".join(a(cell, n) for a, cell, n in zip(align, line, widths, strict=True)).rstrip() for line in cells]
    lines.insert(1, "-" * max(map(len, lines)))
    return "".join(f"{line}\n" for line in lines)


def to_json(table: Sequence[Row]) -> str:
    """The table as a JSON list of objects, numbers unrounded."""
    text = json.dumps([row._asdict() for row in table], indent=2, ensure_ascii=False, allow_nan=False)
    return f"{for_json(text)}\n"


def write_csv(table: Sequence[Row], path: Path) -> None:
    """Write `path` (results/table.csv); a file that would not change is not touched."""
    text = to_csv(table).encode()
    if not path.exists() or path.read_bytes() != text:
        write_atomically(path, text)


def replace_section(text: str, markdown: str) -> str:
    """The text with what stands between the two results markers replaced, with the line ends that it has.

    Raises RegistryError if each marker is not there exactly once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise RegistryError(f"no place for the results table: expected one line {BEGIN} and after it one line {END}")
    section = f"{BEGIN}\n{markdown.strip()}\n{END}"
    if "\r\n" in text:
        section = section.replace("\n", "\r\n")
    return f"{before}{section}{after}"


def write_section(path: Path, markdown: str) -> None:
    """`replace_section` in a file, which keeps its mode, and stays a link if it is one.

    A file that would not change is not touched. Raises RegistryError as `replace_section`, StorageError if the file
    cannot be read or written.
    """
    text = _read_text(path)
    replaced = replace_section(text, markdown)
    if replaced != text:
        file = path.resolve()
        write_atomically(file, replaced.encode(), stat.S_IMODE(file.stat().st_mode))


def _read_text(path: Path) -> str:
    """With its line ends as they are."""
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise RegistryError(f"{path}: expected text in UTF-8") from None


def check_csv(table: Sequence[Row], path: Path) -> list[Problem]:
    """Whether `path` (results/table.csv) is this table; for when all records are valid."""
    if not path.exists():
        return [Problem(path, "content", "missing; `python cli.py table --write` makes it")] if table else []
    if path.read_bytes() != to_csv(table).encode():
        return [Problem(path, "content", "does not follow from the records; `python cli.py table --write` mends it")]
    return []


def check_section(table: Sequence[Row], path: Path) -> list[Problem]:
    """Whether the results in `path` (README.md) are this table; nothing where there is no such file."""
    if not path.exists():
        return []
    try:
        text = _read_text(path)
        wrong = replace_section(text, to_markdown(table)) != text
    except RegistryError as error:
        return [Problem(path, "results", str(error))]
    mend = "does not follow from the records; `python cli.py table --write` mends it"
    return [Problem(path, "results", mend)] if wrong else []


def _benchmark_of(record: Run) -> Benchmark:
    target = record.target
    return Benchmark(
        id=record.benchmark,
        paper=record.paper,
        data=record.data.train.dataset,
        target=target.test_error,
        decimals=target.decimals,
        kind=target.kind,
    )


def _row(benchmark: Benchmark, group: Group | None, judge: Judge) -> Row:
    runs = group.runs if group else []
    measured = group.finished if group else []
    errors = [record.results.counted.test_error for record in measured if record.results]
    train_errors = [record.train_error for record in measured if record.train_error is not None]
    verdict = _verdict([judge(record) for record in runs])
    notes = [f"mixed {kind}" for kind in group.mixtures] if group else []
    if group and _is_superseded(benchmark, group):
        verdict, notes = "superseded", ["settings corrected since", *notes]
    return Row(
        benchmark=benchmark["id"],
        paper=benchmark["paper"],
        data=benchmark["data"],
        target=benchmark["target"],
        target_kind=benchmark.get("kind", "read"),
        decimals=benchmark.get("decimals", 2),
        runs=len(measured),
        diverged=len(runs) - len(measured),
        test_error=statistics.fmean(errors) if errors else None,
        spread=_spread(measured, errors),
        verdict=verdict,
        engine=", ".join(sorted({f"{record.engine.name} {record.engine.device}" for record in runs})),
        date=max((sitting.started[:10] for record in runs for sitting in record.sittings), default=""),
        train_error=statistics.fmean(train_errors) if train_errors else None,
        precision=group.key.precision if group else "",
        repetitions=len(group.repetitions) if group else 0,
        notes=", ".join(notes),
    )


def _spread(measured: Sequence[Run], errors: Sequence[float]) -> float | None:
    if len(errors) > 1:
        return statistics.stdev(errors)
    counted = [record.results.counted for record in measured if record.results]
    return standard_error(counted[0].test_wrong, counted[0].test_images) if counted else None


def _verdict(verdicts: Sequence[Verdict]) -> str:
    """The runs' verdict: one word if they agree, else how many have which."""
    if not verdicts:
        return NOT_RUN
    words = Counter(verdict.word for verdict in verdicts).most_common()
    text = words[0][0] if len(words) == 1 else ", ".join(f"{count} {word}" for word, count in sorted(words))
    judged = any(word not in ("no published target", "not scored") for word, _ in words)
    return f"{text} (provisional)" if judged and all(verdict.provisional for verdict in verdicts) else text


def _cells(row: Row) -> Mapping[str, str]:
    """A row as people read it, by column of _HEADINGS, in printable characters."""
    mark = f" ({row.target_kind})" if row.target is not None and row.target_kind != "read" else ""
    spread = "" if row.spread is None else f" ± {percent_text(row.spread, row.decimals + 1)}"
    train = "" if row.train_error is None else f", training {percent_text(row.train_error, row.decimals + 1)}"
    cells = {
        "benchmark": row.benchmark,
        "paper": row.paper,
        "data": row.data,
        "target": percent_text(row.target, row.decimals) + mark,
        "measured": percent_text(row.test_error, row.decimals + 1) + spread + train,
        "runs": f"{row.runs} (+{row.diverged} diverged)" if row.diverged else str(row.runs),
        "verdict": row.verdict + (f"; {row.notes}" if row.notes else ""),
        "engine": (row.engine or "-") + (f", {row.precision}" if row.precision not in ("", "float32") else ""),
        "date": row.date or "-",
    }
    return {column: for_terminal(cell) for column, cell in cells.items()}


def _number(percent: float | None, decimals: int) -> str:
    return "" if percent is None else percent_text(percent, decimals)
