"""The rows of the results table: one row a group of runs, derived from the records.

Only scoring runs count: those at exactly the published settings. The same records give the same rows.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, NotRequired, Protocol, TypedDict

from results.entries import Run
from results.groups import Group, Key, groups
from results.members import Members, registered_runs
from results.record import BEST_OF_TEST
from results.registered import Registration
from results.statistics import binomial_standard_error

NOT_RUN = "not run"


class Benchmark(TypedDict):
    """What the table needs to know of a benchmark that may have no record; `kind` as in `RecordedTarget`.

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
# The verdict on a registered group, with how many of its seeds are there if not all are.
JudgeGroup = Callable[[Registration, Members], str]


class Row(NamedTuple):
    """One group of a benchmark's recorded runs; errors in percent, None where there is nothing to say.

    runs: finished scoring runs, one a seed; test_error: their mean; seed_deviation: their standard deviation, None for
    one; binomial_error: the mean's binomial standard error, what other test images would change. diverged: scoring runs
    that diverged, no part of it. repetitions: further runs of the same seeds, and those that are not of the registered
    group, no part of it either. train_error: mean over the runs of that of the training images, in
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
    seed_deviation: float | None
    binomial_error: float | None
    verdict: str
    engine: str
    date: str
    train_error: float | None
    precision: str
    repetitions: int
    notes: str


def rows(
    records: Iterable[Run],
    judge: Judge,
    benchmarks: Iterable[Benchmark] = (),
    registrations: Iterable[Registration] = (),
    judge_group: JudgeGroup | None = None,
) -> list[Row]:
    """The table: first `benchmarks`, in their order, then the other recorded ones by id; a row for each group.

    Of a registered group that has a run, the row is of its runs alone, and `judge_group` gives the verdict.
    """
    registered = {group.key: group for group in registrations} if judge_group is not None else {}
    of_benchmark: dict[str, list[Group]] = {}
    for group in groups(records):
        of_benchmark.setdefault(group.key.benchmark, []).append(group)
    known = {benchmark["id"]: benchmark for benchmark in benchmarks}
    others = sorted(of_benchmark.keys() - known.keys())
    known |= {name: _benchmark_of(of_benchmark[name][0].runs[0]) for name in others}
    return [
        _row(benchmark, group, judge, registered, judge_group)
        for name, benchmark in known.items()
        for group in _current_first(benchmark, of_benchmark.get(name, []))
    ]


def _current_first(benchmark: Benchmark, found: list[Group]) -> Sequence[Group | None]:
    """Superseded groups last, the larger ones of the others first; a row without one where there is none."""
    found.sort(key=lambda group: (_is_superseded(benchmark, group), -len(group.runs), group.key))
    return found or [None]


def _is_superseded(benchmark: Benchmark, group: Group) -> bool:
    return benchmark.get("digest", group.key.digest) != group.key.digest


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


def _row(
    benchmark: Benchmark,
    group: Group | None,
    judge: Judge,
    registered: Mapping[Key, Registration],
    judge_group: JudgeGroup | None,
) -> Row:
    word = None
    if group and judge_group is not None:
        group, found = registered_runs(group, registered.get(group.key))
        word = judge_group(registered[group.key], found) if found else None
    runs = group.runs if group else []
    measured = group.finished if group else []
    errors = [record.results.counted.test_error for record in measured if record.results]
    train_errors = [record.train_error for record in measured if record.train_error is not None]
    verdict = word or _verdict([judge(record) for record in runs])
    notes = [f"mixed {kind}" for kind in group.mixtures] if group else []
    if group and _is_superseded(benchmark, group):
        verdict, notes = "superseded", ["settings corrected since", *notes]
    notes += _best_of_test(measured, benchmark.get("decimals", 2))
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
        seed_deviation=statistics.stdev(errors) if len(errors) > 1 else None,
        binomial_error=_binomial_error(measured, errors),
        verdict=verdict,
        engine=", ".join(sorted({f"{record.engine.name} {record.engine.device}" for record in runs})),
        date=max((sitting.started[:10] for record in runs for sitting in record.sittings), default=""),
        train_error=statistics.fmean(train_errors) if train_errors else None,
        precision=group.key.precision if group else "",
        repetitions=len(group.repetitions) if group else 0,
        notes=", ".join(notes),
    )


def _best_of_test(measured: Sequence[Run], decimals: int) -> list[str]:
    """What must be said of errors that are the lowest of all epochs, and what the last epochs have."""
    of_last = [r.results.last.test_error for r in measured if r.results and r.recipe.selection in BEST_OF_TEST]
    if not of_last:
        return []
    return [f"best epoch on the test images, as claimed: the last has {statistics.fmean(of_last):.{decimals + 1}f}"]


def _binomial_error(measured: Sequence[Run], errors: Sequence[float]) -> float | None:
    images = [record.results.counted.test_images for record in measured if record.results]
    return binomial_standard_error(statistics.fmean(errors) / 100 * images[0], images[0]) if images else None


def _verdict(verdicts: Sequence[Verdict]) -> str:
    """The runs' verdict: one word if they agree, else how many have which."""
    if not verdicts:
        return NOT_RUN
    words = Counter(verdict.word for verdict in verdicts).most_common()
    text = words[0][0] if len(words) == 1 else ", ".join(f"{count} {word}" for word, count in sorted(words))
    judged = any(word not in ("no published target", "not scored") for word, _ in words)
    return f"{text} (provisional)" if judged and all(verdict.provisional for verdict in verdicts) else text
