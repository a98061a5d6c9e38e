#!/usr/bin/env python
"""The command line: do binary-neural-network papers reproduce?

Commands parse, call one room and print. Nothing heavy is imported before the command that needs it runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from benchmarks.engine import DEVICES, ENGINES
from benchmarks.errors import EngineError, RecipeError, RunError
from benchmarks.machine import usable_cores
from benchmarks.recipe import Recipe, benchmark_ids, flatten, load_recipe
from data_prep.errors import DataError
from results.errors import RegistryError

if TYPE_CHECKING:
    from benchmarks.runner import Outcome
    from data_prep import Prepared
    from results.table import Benchmark, Row

REPOSITORY = Path(__file__).resolve().parent
INTERRUPTED = 130  # what shells report of a command that Ctrl-C ended
Command = TypeVar("Command", bound=Callable[..., Any])


class Commands(click.Group):
    """The group of all commands: an error that a user can mend is one line and a fixed exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (RecipeError, DataError, EngineError, RunError, RegistryError) as error:
            self._fail(str(error), error.exit_code)
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
        except OSError as error:
            self._fail(f"{error.filename or 'input/output'}: {error.strerror or error}", 1)

    @staticmethod
    def _fail(message: str, exit_code: int) -> None:
        click.echo(f"error: {message}", err=True)
        sys.exit(exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Do binary-neural-network papers reproduce?

    Exit codes: 0 done, 1 failed, 2 wrong usage, 7 registry invalid, 130 interrupted.
    """


def data_option(command: Command) -> Command:
    """--data DIR."""
    return click.option(
        "--data", "data_root", type=click.Path(path_type=Path, file_okay=False), envvar="BNN_DATA",
        default=REPOSITORY / "data", show_default="data/", help="Folder of the prepared data (or $BNN_DATA).",
    )(command)  # fmt: skip


def runs_option(command: Command) -> Command:
    """--runs DIR."""
    return click.option(
        "--runs", "runs_root", type=click.Path(path_type=Path, file_okay=False), envvar="BNN_RUNS",
        default=REPOSITORY / "runs", show_default="runs/", help="Folder of the runs (or $BNN_RUNS).",
    )(command)  # fmt: skip


def registry_option(command: Command) -> Command:
    """--registry DIR."""
    return click.option(
        "--registry", type=click.Path(path_type=Path, file_okay=False), envvar="BNN_REGISTRY",
        default=REPOSITORY / "results" / "runs", show_default="results/runs/", help="Folder of the records.",
    )(command)  # fmt: skip


def json_option(command: Command) -> Command:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def engine_options(command: Command) -> Command:
    """--engine, --device, --threads."""
    command = click.option("--engine", type=click.Choice(list(ENGINES)), default="gluon", show_default=True)(command)
    command = click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True)(command)
    return click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all usable cores]")(command)


def recipe_options(command: Command) -> Command:
    """--set, --epochs, --limit-train."""
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, for example train.epochs=2."
    )(command)
    command = click.option("--epochs", metavar="N", help="Short for --set train.epochs=N.")(command)
    return click.option("--limit-train", metavar="N", help="Short for --set data.train_images=N.")(command)


def _recipe(benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None) -> Recipe:
    options = dict.fromkeys(overrides, "--set")
    if epochs is not None:
        options[f"train.epochs={epochs}"] = "--epochs"
    if limit_train is not None:
        options[f"data.train_images={limit_train}"] = "--limit-train"
    return load_recipe(benchmark, options)


def _print_json(value: Any) -> None:
    import msgspec

    click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def _table_rows(registry: Path, benchmarks: Sequence[str]) -> list[Row]:
    from results.registry import read_all
    from results.table import rows

    return rows(
        (record for _, record in read_all(registry)), [_table_benchmark(load_recipe(name)) for name in benchmarks]
    )


def _table_benchmark(recipe: Recipe) -> Benchmark:
    entry: Benchmark = {"id": recipe.id, "paper": recipe.paper.name, "data": recipe.data.dataset, "target": None}
    if recipe.target is not None:
        target = recipe.target
        entry |= {"target": target.percent, "decimals": target.decimals, "kind": target.provenance}
    return entry


# -- what there is -----------------------------------------------------------------------------------------------------


@cli.command("list")
@click.option("--paper", help="Only benchmarks of this paper (a part of its name).")
@click.option("--data", "dataset", help="Only benchmarks on this data set.")
@click.option("--verdict", help="Only benchmarks with this verdict (a part of it), for example 'not run'.")
@registry_option
@json_option
def list_benchmarks(paper: str | None, dataset: str | None, verdict: str | None, registry: Path, as_json: bool) -> None:
    """List the benchmarks: paper, data, target, recorded result, verdict."""
    from results.table import to_json, to_rich

    rows = _table_rows(registry, benchmark_ids())
    rows = [row for row in rows if row.benchmark in benchmark_ids()]
    for wanted, column in ((paper, "paper"), (dataset, "data"), (verdict, "verdict")):
        if wanted is not None:
            rows = [row for row in rows if wanted.lower() in getattr(row, column).lower()]
    if as_json:
        click.echo(to_json(rows), nl=False)
    elif rows:
        _console().print(to_rich(rows))
    else:
        click.echo("no benchmark fits")


@cli.command()
@click.argument("benchmark", metavar="ID")
@recipe_options
@json_option
def show(benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None, as_json: bool) -> None:
    """Show a benchmark: its settings, each with its source, its target, its cost, and what would run."""
    from benchmarks.cost import cost

    recipe = _recipe(benchmark, overrides, epochs, limit_train)
    if as_json:
        _print_json({
            "id": recipe.id, "title": recipe.title, "paper": recipe.paper, "target": recipe.target, "digest":
            recipe.digest, "scoring": recipe.scoring, "settings": recipe.settings, "sources": recipe.sources,
            "differences": recipe.differences, "cost": cost(recipe),
        })  # fmt: skip
        return
    click.echo(f"{recipe.id}: {recipe.title}")
    click.echo(f"  {recipe.paper.title}, {recipe.paper.url}")
    click.echo(f"  code: {recipe.paper.code}")
    if recipe.target is None:
        click.echo("  target: none published")
    else:
        click.echo(f"  target: {recipe.target.test_error} %{recipe.target.mark} test error; {recipe.target.source}")
        if recipe.target.note:
            click.echo(f"          {recipe.target.note}")
    published, width = flatten(recipe.published), max(map(len, recipe.sources))
    click.echo("\nsettings")
    for key, value in flatten(recipe.settings).items():
        changed = f"  <- published: {published[key]} ({recipe.overrides[key]})" if value != published[key] else ""
        click.echo(f"  {key:{width}}  {value!s:16}{changed}  [{recipe.sources.get(key, 'default')}]")
    click.echo("\ncost")
    for line in cost(recipe).lines():
        click.echo(f"  {line}")
    click.echo(
        f"\nrecipe digest {recipe.digest[:16]}; {'scores' if recipe.scoring else 'does not score: not as published'}"
    )
    changes = "".join(f" --set {difference.key}={difference.value}" for difference in recipe.differences)
    click.echo(f"it would run: python cli.py reproduce {recipe.id}{changes}")


@cli.command()
@click.option("--verify", is_flag=True, help="Also prove the prepared data against their digests.")
@data_option
@runs_option
@json_option
def doctor(verify: bool, data_root: Path, runs_root: Path, as_json: bool) -> None:
    """Say what works on this machine, and which command mends what does not."""
    from benchmarks.doctor import examine

    findings = examine(data_root, runs_root, verify=verify)
    if as_json:
        _print_json(findings)
    else:
        for finding in findings:
            click.secho(
                f"{finding.status:5}", fg={"ok": "green", "warn": "yellow"}.get(finding.status, "red"), nl=False
            )
            click.echo(f" {finding.name}: {finding.detail}" + (f"\n      mend: {finding.mend}" if finding.mend else ""))
    sys.exit(any(finding.status == "fail" for finding in findings))


# -- doing -------------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("dataset", metavar="DATASET", required=False)
@click.option("--variant", metavar="NAME", help="A stored preprocessing, for example gcn_zca of cifar10.")
@click.option(
    "--source", type=click.Path(path_type=Path), help="Folder with the official files, instead of the network."
)
@click.option("--check", "check_only", is_flag=True, help="Only prove what is stored against its digest.")
@click.option("--list", "list_only", is_flag=True, help="Only say what is stored, from where, and how large.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Write a contact sheet as PNG.")
@data_option
@json_option
def prepare(
    dataset: str | None, variant: str | None, source: Path | None, check_only: bool, list_only: bool,
    picture: Path | None, data_root: Path, as_json: bool,
) -> None:  # fmt: skip
    """Fetch a data set, prove that it is the right bytes, and store it.

    A variant, a preprocessing that is too expensive to repeat for every run, is stored beside it. With --picture:
    the first images, as published and as VARIANT (or any other preprocessing) gives them.
    """
    import data_prep

    if list_only:
        stored = data_prep.listing(data_root)
        if as_json:
            _print_json([_stored(prepared) for prepared in stored])
        for prepared in [] if as_json else stored:
            _print_stored(prepared)
        if not stored and not as_json:
            click.echo(f"nothing is stored in {data_root}: `python cli.py prepare DATASET` changes that")
        return
    if dataset is None:
        raise click.UsageError(f"expected DATASET, one of {', '.join(data_prep.DATASETS)}, or --list")
    if picture is not None:
        data_prep.picture(dataset, data_root, variant or "unit", picture)
        click.echo(f"{dataset}, {variant or 'unit'}: {picture}")
        return
    if check_only:
        prepared = data_prep.check(dataset, data_root, variant)
    else:
        prepared = data_prep.prepare(dataset, data_root, source, data_prep.RichProgress(), variant)
    if as_json:
        _print_json(_stored(prepared))
    else:
        _print_stored(prepared)


def _stored(prepared: Prepared) -> dict[str, Any]:
    return {**vars(prepared), "path": str(prepared.path)}


def _print_stored(prepared: Prepared) -> None:
    name = prepared.dataset + (f", {prepared.variant}" if prepared.variant else "")
    counts = ", ".join(f"{count:,} {split}" for split, count in prepared.counts.items())
    click.echo(f"{name}: {counts} images in {prepared.path} ({prepared.bytes:,} bytes)")
    click.echo(f"  from {prepared.origin}; digest {prepared.digest[:16]}")
    facts = prepared.settings | {key: round(value, 6) for key, value in prepared.statistics.items()}
    if facts:
        click.echo("  " + ", ".join(f"{key} {value}" for key, value in facts.items()))


@cli.command()
@click.argument("benchmark", metavar="ID")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=1234, show_default=True, help="Of all random draws.")
@recipe_options
@engine_options
@data_option
@runs_option
@registry_option
@json_option
def reproduce(
    benchmark: str, seed: int, overrides: Sequence[str], epochs: str | None, limit_train: str | None, engine: str,
    device: str, threads: int | None, data_root: Path, runs_root: Path, registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Train a benchmark by its published rules, measure its test error, and judge it.

    Prepares the data if they are absent. A run may be interrupted at any moment: `resume` goes on with it. With
    settings
    that are not the published ones the run does not score: it is kept, but never judged nor ranked.
    """
    recipe = _recipe(benchmark, overrides, epochs, limit_train)
    _prepare_if_absent(recipe, data_root)
    from benchmarks import runner

    _carry_out(
        lambda reporter: runner.reproduce(
            recipe, data_root=data_root, runs_root=runs_root, registry=registry, seed=seed, engine=engine,
            device=device, threads=threads, reporter=reporter,
        ),
        as_json,
    )  # fmt: skip


@cli.command()
@click.argument("run", metavar="RUN")
@data_option
@runs_option
@registry_option
@json_option
def resume(run: str, data_root: Path, runs_root: Path, registry: Path, as_json: bool) -> None:
    """Go on with an interrupted run from its last whole epoch; on a CPU to the very bits of an uninterrupted one.

    RUN is a run's folder, its name as `reproduce` printed it, or the benchmark if it has one run only.
    """
    from benchmarks import runner
    from benchmarks.run_folder import find_run

    folder = find_run(runs_root, run)
    _carry_out(
        lambda reporter: runner.resume(folder, data_root=data_root, registry=registry, reporter=reporter), as_json
    )


@cli.command()
@click.argument("run", metavar="RUN")
@data_option
@runs_option
@json_option
def evaluate(run: str, data_root: Path, runs_root: Path, as_json: bool) -> None:
    """Measure a run's test error again, from its saved weights and the data; exit code 1 if the record has another."""
    from benchmarks.run_folder import find_run
    from benchmarks.runner import evaluate_run

    evaluated = evaluate_run(find_run(runs_root, run), data_root=data_root)
    if as_json:
        _print_json(vars(evaluated))
    else:
        click.echo(
            f"{evaluated.run}: epoch {evaluated.epoch}: test error {evaluated.test_error:.3f} %"
            f" ({evaluated.test_wrong} of {evaluated.test_images:,} images wrong)"
        )
        click.echo(
            "as recorded, image by image"
            if evaluated.agrees
            else f"recorded: {evaluated.recorded_error:.3f} %: differs"
        )
    sys.exit(not evaluated.agrees)


@cli.command()
@click.argument("benchmark", metavar="ID")
@recipe_options
@engine_options
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True, help="Timed blocks.")
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="Training steps a block.")
@click.option("--baseline", is_flag=True, help="Also time Gluon's layers and operators as they come, in turn.")
@json_option
def bench(
    benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None, engine: str, device: str,
    threads: int | None, repeats: int, steps: int, baseline: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure the speed of training and evaluation, beside what this machine's processor and memory allow."""
    # NumPy's matrix products, the yardstick, read their number of threads when they are first used.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads or usable_cores()))
    from benchmarks import bench as measuring

    recipe = _recipe(benchmark, overrides, epochs, limit_train)
    result = measuring.bench(recipe, engine, device, threads, repeats, steps, compare_baseline=baseline)
    if as_json:
        _print_json(result)
    else:
        click.echo(measuring.to_text(result), nl=False)


# -- results -----------------------------------------------------------------------------------------------------------


@cli.command()
@click.option(
    "--format", "style", type=click.Choice(["text", "markdown", "csv", "json"]), default="text", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option("--all", "all_benchmarks", is_flag=True, help="Also benchmarks without a record.")
@click.option("--write", is_flag=True, help="Also bring results/table.csv and the README's table up to date.")
@registry_option
def table(style: str, as_json: bool, all_benchmarks: bool, write: bool, registry: Path) -> None:
    """Print the table of results, derived from the records."""
    from results import table as tables

    rows = _table_rows(registry, benchmark_ids())
    if not all_benchmarks:
        rows = [row for row in rows if row.runs or row.diverged]
    if write:
        tables.write_csv(registry, registry.parent / "table.csv")
        tables.write_section(registry.parent.parent / "README.md", tables.to_markdown(rows))
    if as_json:
        style = "json"
    if style == "text":
        _console().print(tables.to_rich(rows))
        _console().print(tables.NOTE, highlight=False)
    else:
        click.echo(
            {"markdown": tables.to_markdown, "csv": tables.to_csv, "json": tables.to_json}[style](rows), nl=False
        )


@cli.command()
@registry_option
@json_option
def verify(registry: Path, as_json: bool) -> None:
    """Check every record: schema, hash, internal consistency, verdict, and that results/table.csv follows from them."""
    from benchmarks.verdict import check_record
    from results.registry import verify as verify_registry
    from results.table import check_csv

    problems = verify_registry(registry, [check_record]) or check_csv(registry, registry.parent / "table.csv")
    count = len(list(registry.glob("*/*.json")))
    if as_json:
        _print_json(
            {
                "records": count,
                "problems": [{"path": str(p.path), "field": p.field, "message": p.message} for p in problems],
            }
        )
    else:
        for problem in problems:
            click.echo(str(problem))
        click.echo(f"{count} records, {len(problems)} problems" if problems else f"{count} records, all valid")
    sys.exit(RegistryError.exit_code if problems else 0)


# -- helpers -----------------------------------------------------------------------------------------------------------


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    stream_is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if stream_is_terminal else 200)


def _prepare_if_absent(recipe: Recipe, data_root: Path) -> None:
    """The data set, and its variant if the recipe's preprocessing is one."""
    import data_prep

    dataset, preprocessing = recipe.data.dataset, recipe.data.preprocessing
    variant = preprocessing if preprocessing in data_prep.variants(dataset) else None
    if data_prep.status(dataset, data_root, variant) is None:
        data_prep.prepare(dataset, data_root, None, data_prep.RichProgress(), variant)


def _carry_out(run: Callable[[Any], Outcome], as_json: bool) -> None:
    """Show a run while it lasts; a termination signal ends it as Ctrl-C does."""
    from benchmarks.display import LiveReporter

    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    reporter = LiveReporter(_console(stderr=True))
    try:
        with reporter:
            outcome = run(reporter)
    except KeyboardInterrupt:
        if reporter.folder is None:
            click.echo("interrupted before the run began", err=True)
        else:
            click.echo(f"interrupted; go on with: python cli.py resume {reporter.folder.name}", err=True)
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # at once: the engine's threads may be in the middle of a step
    if as_json:
        _print_json(outcome.record)
    else:
        _print_outcome(outcome)
    sys.exit(outcome.record.outcome == "diverged")


def _print_outcome(outcome: Outcome) -> None:
    record, verdict = outcome.record, outcome.record.verdict
    click.echo(f"{record.benchmark}: {record.outcome} after {len(record.curve.epoch)} epochs")
    if record.results is not None:
        point, counted, places = record.results.declared, record.results.counted, record.target.decimals + 1
        click.echo(
            f"  test error {counted.test_error:.{places}f} % +- {verdict.standard_error:.{places}f} (binomial standard"
            f" error on {counted.test_images:,} images) at epoch {point.epoch},"
            f" the best on validation ({point.valid_error:.2f} %)"
        )
        if counted.test_images != point.test_images:
            click.echo(
                f"  over all {point.test_images:,} test images, where the authors count {counted.test_images:,}:"
                f" {point.test_error:.{places}f} %"
            )
        click.echo(
            f"  last epoch {record.results.last.test_error:.{places}f} %, lowest ever seen"
            f" {record.results.best_test.test_error:.{places}f} % (neither is the result)"
        )
    provisional = " (provisional)" if verdict.provisional and verdict.word not in ("not scored", "no target") else ""
    click.echo(f"  verdict: {verdict.word}{provisional}: {verdict.explanation}")
    click.echo(f"  record: {outcome.registered or outcome.folder.record_path}")


if __name__ == "__main__":
    cli(prog_name="python cli.py")
