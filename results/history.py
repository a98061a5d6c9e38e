"""How a benchmark's error and speed went from run to run: over commits and time, with the changes of level.

A series holds runs of one kind: errors of one group, speeds of one group on one kind of machine. Where a change is
intended, `results/accepted_changes.json` says so, with the reason; it is then shown as accepted.
"""

from __future__ import annotations

import statistics
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import msgspec

from results.change_points import change_points
from results.errors import RegistryError
from results.files import read_whole
from results.groups import key_of
from results.record import Record
from results.registry import Problem

ERROR, SPEED = "test error (%)", "training images/s"
SCHEMA = 1  # of what `table --history --json` prints, and of the file of accepted changes


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a series. started: UTC, ISO 8601. commit: None outside a git checkout."""

    record: str
    seed: int
    started: str
    commit: str | None
    value: float


class LevelChange(msgspec.Struct, frozen=True, kw_only=True):
    """From this record on the mean is another. accepted: the reason why it was meant to change, or None."""

    record: str
    before: float
    after: float
    p_value: float
    accepted: str | None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one kind in the order of their start. figure: what their values are."""

    figure: str
    kind: str
    points: list[HistoryPoint]
    changes: list[LevelChange]


class AcceptedChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of level that was meant: the first record after it, of which figure, and why."""

    record: str
    figure: str
    reason: str


class _Accepted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    changes: list[AcceptedChange]


def history(records: Iterable[Record], accepted: Sequence[AcceptedChange] = ()) -> list[Series]:
    """The series of the scoring runs that have a result, by figure, then by kind in the order of their first runs."""
    finished = [r for r in records if r.recipe.scoring and r.outcome == "finished" and r.results is not None]
    finished.sort(key=lambda record: (record.sittings[0].started, record.id))
    found = [*_series(ERROR, finished, accepted), *_series(SPEED, finished, accepted)]
    return [series for series in found if series.points]


def read_accepted(path: Path) -> list[AcceptedChange]:
    """The accepted changes that a file holds; none if there is no file.

    Raises:
        RegistryError: it is not what it must be.
    """
    try:
        content = read_whole(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RegistryError(f"{path}: {error.strerror}") from error
    try:
        found = msgspec.json.decode(content, type=_Accepted)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RegistryError(f"{path}: {error}; docs/verdicts.md shows what it must hold") from error
    if found.schema != SCHEMA or any(change.figure not in (ERROR, SPEED) for change in found.changes):
        raise RegistryError(f"{path}: expected schema {SCHEMA}, and as a figure {ERROR!r} or {SPEED!r}")
    return found.changes


def accepted_problems(path: Path, records: Container[str]) -> list[Problem]:
    """What is wrong with a file of accepted changes: what it holds, and the records that it names and that are not."""
    try:
        changes = read_accepted(path)
    except RegistryError as error:
        return [Problem(path, "changes", str(error).removeprefix(f"{path}: "))]
    return [
        Problem(path, f"changes[{index}].record", f"there is no record {change.record!r}: expected the whole id of one")
        for index, change in enumerate(changes)
        if change.record not in records
    ]


def _series(figure: str, records: Sequence[Record], accepted: Sequence[AcceptedChange]) -> list[Series]:
    kinds: dict[str, list[HistoryPoint]] = {}
    for record in records:
        kinds.setdefault(_kind(figure, record), []).append(_point(figure, record))
    reasons = {change.record: change.reason for change in accepted if change.figure == figure}
    return [
        Series(figure=figure, kind=kind, points=points, changes=_changes(points, reasons))
        for kind, points in kinds.items()
    ]


def _kind(figure: str, record: Record) -> str:
    """What runs of a series have in common, in words."""
    key, engine = key_of(record), record.engine
    kind = f"{key.engine} {key.precision}, recipe {key.digest[:8]}"
    if figure == SPEED:
        threads = f"{engine.threads} thread{'s' * (engine.threads > 1)}"
        kind += f", {engine.device_name}" + (f", {threads}" if engine.device == "cpu" else "")
    return kind


def _point(figure: str, record: Record) -> HistoryPoint:
    assert record.results is not None
    error, speed = record.results.counted.test_error, statistics.median(record.curve.images_per_second)
    return HistoryPoint(
        record=record.id,
        seed=record.seed,
        started=record.sittings[0].started,
        commit=record.sittings[-1].commit,
        value=error if figure == ERROR else speed,
    )


def _changes(points: Sequence[HistoryPoint], reasons: dict[str, str]) -> list[LevelChange]:
    return [
        LevelChange(
            record=points[change.position].record,
            before=change.before,
            after=change.after,
            p_value=change.p_value,
            accepted=reasons.get(points[change.position].record),
        )
        for change in change_points([point.value for point in points])
    ]
