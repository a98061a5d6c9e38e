"""`regress`: whether this is still the code that reproduces."""

from __future__ import annotations

import fnmatch
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.engine import ENGINES
from benchmarks.hints import as_typed
from benchmarks.recipe import benchmark_ids
from benchmarks.regress.figures import KINDS
from commands.options import json_option, registry_option
from commands.output import echo
from commands.registry import check_registry
from commands.running import end_as_by_ctrl_c

if TYPE_CHECKING:
    from benchmarks.regress.figures import Figure, Kind, Report
    from benchmarks.regress.suite import Suite


class Kinds(click.ParamType):
    """Some of KINDS, with commas between them."""

    name = "kinds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if unknown := [word for word in words if word not in KINDS]:
            self.fail(f"{unknown[0]!r}: expected some of {','.join(KINDS)}", param, ctx)
        return tuple(kind for kind in KINDS if kind in words)


@click.command("regress")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="gluon", show_default=True, help="Which trains.")
@click.option("--only", multiple=True, metavar="GLOB", help="Only these benchmarks, as 'rwth-*'. May be repeated.")
@click.option("--changed-since", "since", metavar="REV", help="Only what the change since that commit can touch.")
@click.option("--kind", "kinds", type=Kinds(), default=KINDS, show_default=",".join(KINDS), metavar="KIND[,KIND...]",
              help="Only these kinds of figures.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**62), metavar="N",
              help="First of the fresh seeds.  [default: drawn; a figure names those that it has]")  # fmt: skip
@click.option("--update", is_flag=True, help="Measure new references; those in force go to the history.")
@click.option("--reason", metavar="TEXT", help="Of --update: why; it is stored with the references.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write JUnit XML.")
@click.option("--github", is_flag=True, help="Also GitHub's annotations, and a summary of the step.")
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    engine: str,
    only: Sequence[str],
    since: str | None,
    kinds: tuple[Kind, ...],
    seed: int | None,
    update: bool,
    reason: str | None,
    registry: Path,
    as_json: bool,
    junit: Path | None,
    github: bool,
) -> None:
    """Compare every benchmark, at a small fixed budget, with what it gave when its reference was measured.

    Exit codes: 0 nothing changed, 5 an alarm, 6 no benchmark could be compared, or not the bits of each where those of
    others could, 1 something failed.
    """
    from benchmarks.regress import outputs

    _check_usage(ctx, kinds, update, reason, since)
    _check_fresh(seed)
    if junit is not None and (junit.is_dir() or not junit.resolve().parent.is_dir()):  # said now: a run takes minutes
        raise click.UsageError(f"--junit {junit}: expected a file in a folder that is there", ctx)
    end_as_by_ctrl_c(signal.SIGTERM)  # or the folder of images would stay
    chosen = _chosen(only)
    if update:
        assert reason is not None
        _update(engine, chosen, reason)
        return
    untouched = _untouched(since, engine, chosen)
    if "registry" in kinds:
        check_registry(ctx, registry, environment_too=True)
    chosen = [name for name in chosen if name not in untouched]
    report = _report(engine, chosen, kinds, seed, registry if "registry" in kinds else None, untouched)
    for line in [outputs.to_json(report)] if as_json else map(as_typed, outputs.lines(report)):
        click.echo(line)
    try:
        _write(report, junit, github)
    except OSError as error:  # an alarm is an alarm, whoever cannot be told
        echo(f"error: {error.filename or 'input/output'}: {error.strerror or error}", err=True)
        sys.exit(report.exit_code or 1)
    sys.exit(report.exit_code)


def _check_usage(
    ctx: click.Context, kinds: tuple[str, ...], update: bool, reason: str | None, since: str | None
) -> None:
    if update and (reason is None or not reason.strip()):
        raise click.UsageError('--update needs --reason "...": it is stored beside the new references', ctx)
    if reason is not None and not update:
        raise click.UsageError("--reason is of --update: expected both or neither", ctx)
    if update and kinds != KINDS:
        raise click.UsageError("--update measures all kinds of figures: leave out --kind", ctx)
    if update and since is not None:
        raise click.UsageError("--update measures what --only names: leave out --changed-since", ctx)


def _check_fresh(seed: int | None) -> None:
    from benchmarks.regress.rules import REFERENCE_SEEDS

    if seed is not None and seed <= REFERENCE_SEEDS:
        expected = f"expected one above {REFERENCE_SEEDS}: seeds up to that are the references' own, and no fresh ones"
        raise click.UsageError(f"--seed {seed}: {expected}")


def _chosen(only: Sequence[str]) -> list[str]:
    known = benchmark_ids()
    for pattern in only:
        if not fnmatch.filter(known, pattern):
            raise click.UsageError(f"--only {pattern}: no benchmark has such a name; `python cli.py list` names them")
    return [name for name in known if not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only)]


def _untouched(since: str | None, engine: str, chosen: Sequence[str]) -> dict[str, str]:
    """Those that the change since a commit cannot touch, with the reason.

    Raises:
        CodeError: that is not known.
    """
    if since is None:
        return {}
    from benchmarks.regress.changed import touched

    _, left_out = touched(since, engine)
    return {name: reason for name, reason in left_out.items() if name in chosen}


def _suite(engine: str, chosen: Sequence[str], **options: Any) -> tuple[Suite, dict[str, str]]:
    """The suite of what the engine can train, and the others with the reason.

    Raises:
        EngineError: the engine is not installed.
    """
    from benchmarks.engine import installed_engines
    from benchmarks.engine.choice import PACKAGES
    from benchmarks.errors import EngineError
    from benchmarks.regress.suite import Suite, can_train

    if engine not in installed_engines():
        raise EngineError(f"engine {engine!r} is not installed: run `{PACKAGES[engine][1]}`")
    able, left_out = can_train(engine, chosen)
    notify = lambda line: click.echo(line, err=True)  # noqa: E731
    return Suite(engine, able, notify=notify, **options), left_out


def _report(
    engine: str,
    chosen: Sequence[str],
    kinds: tuple[Kind, ...],
    seed: int | None,
    registry: Path | None,
    untouched: dict[str, str],
) -> Report:
    from benchmarks.machine.facts import cpu_model
    from benchmarks.regress.figures import Report
    from benchmarks.regress.reference import Reference, read
    from benchmarks.run.provenance import code_version

    started, code = time.perf_counter(), code_version()
    figures = [] if registry is None else [_registry_figure(engine, registry)]
    left_out: dict[str, str] = {}
    of_benchmarks = tuple(kind for kind in kinds if kind != "registry")
    if of_benchmarks:
        options: dict[str, Any] = {"kinds": of_benchmarks} | ({} if seed is None else {"seed": seed})
        suite, left_out = _suite(engine, chosen, **options)
        figures += suite.run(read(engine) or Reference(engine, [], {}))
    return Report(
        engine=engine,
        commit=code.commit,
        changed=code.dirty,
        processor=cpu_model(),
        seconds=time.perf_counter() - started,
        figures=figures,
        left_out=untouched | left_out,
    )


def _registry_figure(engine: str, registry: Path) -> Figure:
    from benchmarks.regress.figures import Figure
    from commands.verify import problems_of

    started = time.perf_counter()
    verified, problems = problems_of(registry)
    return Figure(
        benchmark="",
        kind="registry",
        engine=engine,
        word="alarm" if problems else "ok" if verified.records else "not comparable",
        measured=f"{len(problems)} problems in {verified.records} records",
        expected="0 problems",
        detail=str(problems[0]) if problems else "" if verified.records else "there is nothing to check",
        seconds=time.perf_counter() - started,
    )


def _write(report: Report, junit: Path | None, github: bool) -> None:
    """What machines read of a report, besides the JSON."""
    from benchmarks.regress import outputs

    if junit is not None:
        junit.write_text(outputs.to_junit(report), encoding="utf-8")
    if github:
        for line in outputs.to_annotations(report):
            click.echo(line, err=True)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with open(summary, "a", encoding="utf-8") as stream:
                stream.write(outputs.to_github_summary(report))


def _update(engine: str, chosen: Sequence[str], reason: str) -> None:
    """Measure references anew, and put in force those that could be measured; exit code 1 if one could not."""
    import msgspec

    from benchmarks.machine.facts import cpu_model
    from benchmarks.regress import reference
    from benchmarks.run.provenance import code_version

    reference.read(engine)  # that it is damaged is said before minutes of measuring
    code = code_version()
    suite, left_out = _suite(engine, chosen)
    for name, why in left_out.items():
        echo(f"left out: {name}: {why}", err=True)
    measured = suite.measured_for_reference()
    benchmarks, failures = {}, []
    for name, one in measured.items():
        try:
            benchmarks[name] = reference.benchmark_of(one)
        except reference.ReferenceFileError as error:
            failures.append(str(error))
    for failure in failures:
        echo(f"error: {failure}", err=True)
    if not benchmarks:
        sys.exit(1)
    origin = reference.Origin(
        date=datetime.now(UTC).date().isoformat(),
        reason=reason.strip(),
        commit=None if code.dirty else code.commit,
        processor=cpu_model(),
        factors={},
    )
    new = reference.read(engine)  # now: another process may have measured other benchmarks meanwhile
    for factors, names in reference.by_factors(measured[name] for name in benchmarks):
        of_these = msgspec.structs.replace(origin, factors=factors)
        new = reference.merged(new, engine, of_these, {name: benchmarks[name] for name in names})
    assert new is not None
    kept = reference.replace(new)
    click.echo(f"{len(benchmarks)} references of {engine}: {reason.strip()}")
    if kept is not None:
        click.echo(f"those before are kept as {kept.name}")
    sys.exit(1 if failures else 0)
