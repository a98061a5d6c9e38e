"""One record as the leaderboard shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import UNSET

from benchmarks.recipe import Recipe
from benchmarks.recipe.settings import setting_text
from benchmarks.verdict import check_record, judge_run
from results.record import BEST_OF_TEST, Record, RecordedEngine, Sitting
from results.verification import check_file
from results.views.leaderboard import Run

Facts = list[tuple[str, str]]


def run(record: Record, recipe: Recipe | None, path: Path, root: Path) -> Run:
    """Of a record in the file `path` of the registry at `root`; `recipe`: the catalog's today."""
    counted = None if record.results is None else record.results.counted
    verdict = judge_run(record, None if recipe is None else recipe.target)
    published = record.published_weights
    return Run(
        id=record.id,
        benchmark=record.benchmark,
        seed=record.seed,
        outcome=record.outcome,
        scoring=record.recipe.scoring,
        test_error=None if counted is None else counted.test_error,
        engine=record.engine.name,
        device=device_of(record),
        precision=record.engine.precision,
        started=record.sittings[0].started,
        harness=record.harness,
        weights=None if published is UNSET else published.sha256,
        verdict=f"{verdict.word}{' (provisional)' if verdict.provisional else ''}: {verdict.explanation}",
        facts=list(_facts(record)),
        problems=[f"{field}: {message}" for field, message in check_file(path, root, [check_record]).problems],
    )


def device_of(record: Record) -> str:
    """What computed it: "H100 80GB HBM3 (gpu)" or "AMD EPYC (cpu, 2 threads)"."""
    engine = record.engine
    threads = "" if engine.device == "gpu" else f", {engine.threads} thread{'' if engine.threads == 1 else 's'}"
    return f"{engine.device_name} ({engine.device}{threads})"


def _facts(record: Record) -> Iterator[tuple[str, Facts]]:
    yield "Result", list(_result(record))
    yield "Settings", [(key, setting_text(_value(value))) for key, value in _flat(record.recipe.settings)]
    if record.recipe.differences:
        changes = record.recipe.differences
        yield "Not as published", [(d.key, f"{d.value}, published: {d.published} ({d.source})") for d in changes]
    splits = {"training": record.data.train, "validation": record.data.valid, "test": record.data.test}
    yield (
        "Data",
        [
            (name, f"{split.dataset}, {split.preprocessing}, {split.images:,} images, SHA-256 {split.digest}")
            for name, split in splits.items()
        ],
    )
    for number, sitting in enumerate(record.sittings, 1):
        yield f"Sitting {number} of {len(record.sittings)}", list(_sitting(sitting))
    hours = [f"{seconds / 3600:.2f} h" for seconds in (record.times.train_seconds, record.times.evaluate_seconds)]
    yield (
        "Cost",
        [("training", hours[0]), ("evaluation", hours[1]), ("peak memory", f"{record.peak_memory_mib:,.0f} MiB")],
    )


def _result(record: Record) -> Iterator[tuple[str, str]]:
    yield "outcome", record.outcome
    yield "seeds", ", ".join(f"{name} {seed}" for name, seed in record.seeds.items())
    found = record.results
    if found is not None:
        images = found.counted.test_images
        yield "test error", f"{found.counted.test_error:.3f} %: {found.counted.test_wrong:,} of {images:,} images wrong"
        yield "at epoch", f"{found.declared.epoch} of {len(record.curve.epoch)} ({record.recipe.selection})"
        if found.declared.valid_error is not None:
            yield "validation error there", f"{found.declared.valid_error:.3f} %"
        yield "test error of the last epoch", f"{found.last.test_error:.3f} %"
        yield "lowest of any epoch", f"{found.best_test.test_error:.3f} %, {_use_of_lowest(record)}"
    yield "recipe", f"version {record.recipe.version}, digest {record.recipe.digest}"
    yield "harness", record.harness
    yield "SHA-256 of the weights", record.weights_sha256 or "none"
    if record.published_weights is not UNSET:
        yield (
            "published weights",
            f"{record.published_weights.bytes:,} bytes, SHA-256 {record.published_weights.sha256}",
        )


def _use_of_lowest(record: Record) -> str:
    return "the result, as the claim was chosen" if record.recipe.selection in BEST_OF_TEST else "never the result"


def _sitting(sitting: Sitting) -> Iterator[tuple[str, str]]:
    yield "epochs", f"{sitting.first_epoch} to {sitting.last_epoch}"
    yield "started", f"{sitting.started}, {sitting.seconds / 3600:.2f} h"
    dirty = ", with uncommitted changes" if sitting.dirty else ""
    yield "commit", f"{sitting.commit or 'not known'}{dirty}"
    yield "SHA-256 of the code", sitting.code_sha256 or "not recorded"
    if sitting.machine is not None:
        machine = sitting.machine
        yield "machine", f"{machine.processor}, {machine.cores} cores, {machine.memory_mib:,} MiB"
    if sitting.engine is not None:
        yield from _engine(sitting.engine)


def _engine(engine: RecordedEngine) -> Iterator[tuple[str, str]]:
    yield (
        "engine",
        f"{engine.name} on {engine.device_name} ({engine.device}), {engine.threads} threads, {engine.precision}",
    )
    yield "versions", ", ".join(f"{name} {version}" for name, version in sorted(engine.versions.items()))
    yield "features", ", ".join(engine.features)
    if engine.driver:
        yield "driver", engine.driver
    yield "determinism", ", ".join(f"{name}: {value}" for name, value in sorted(engine.determinism.items()))


def _flat(settings: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for group, values in settings.items():
        for key, value in values.items():
            yield f"{group}.{key}", value


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
