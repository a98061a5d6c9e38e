#!/usr/bin/env python
"""The command line: do binary-neural-network papers reproduce?

Commands parse, call one room and print. Nothing heavy is imported before the command that needs it runs.
"""

# Old Pythons must understand this file, to be told which one it needs: no syntax in it is of a later one than 3.8.
from __future__ import annotations

import sys

try:
    from benchmarks import start

    start.check_python()
    if __name__ == "__main__":
        start.end_at_once_on_ctrl_c()

    import contextlib
    import json
    import os
    import shlex
    import shutil
    import signal
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TYPE_CHECKING, Any, TypeVar

    import click

    from benchmarks import hints
    from benchmarks.engine import AUTO, COMPILE, DEVICES, ENGINES, PRECISIONS, Choice, check_engine, choose
    from benchmarks.errors import EngineError, RecipeError, RunError
    from benchmarks.hints import as_typed
    from benchmarks.machine import environment
    from benchmarks.machine.facts import usable_cores
    from benchmarks.paths import DATA, REGISTRY, RUNS
    from benchmarks.recipe import Recipe, Summary, benchmark_ids, flatten, load_recipe, summaries
    from benchmarks.recipe.expected import nearest
    from benchmarks.recipe.settings import setting_text
    from benchmarks.start import INTERRUPTED
    from data_prep.errors import DataError
    from results.errors import RegistryError
    from results.escape import for_json, for_terminal
except ImportError as error:
    start.refuse_import(error)
except KeyboardInterrupt:
    sys.exit(130)

if TYPE_CHECKING:
    from benchmarks.run.runner import Outcome
    from benchmarks.verdict import Verdict
    from data_prep import Prepared
    from results.entries import Run
    from results.record import Record
    from results.views.table import Benchmark, Row

# Verdict -> exit code of a run that has it, with --fail-on.
FAIL_ON = {"not reproduced": 3, "suspiciously good": 3, "inconclusive": 4}
Command = TypeVar("Command", bound=Callable[..., Any])


class Seeds(click.ParamType):
    """A whole number below 2^63, or several with commas between them."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        seeds = tuple(int(word) for word in words if word.strip().isdecimal())
        if len(seeds) < len(words) or len(set(seeds)) < len(seeds) or max(seeds) >= 2**63:
            self.fail(f"{value!r}: expected different whole numbers from 0 to 2^63 - 1, as in 1234,1,2", param, ctx)
        return seeds


class Commands(click.Group):
    """The group of all commands: an error that a user can mend is one line and a fixed exit code, never a traceback."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _one_line_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line_errors():
            result = super().invoke(ctx)
            sys.stdout.flush()  # a full disk is found here, not when Python has ended
            return result


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (RecipeError, DataError, EngineError, RunError, RegistryError) as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        raise  # click ends quietly when nobody reads on
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}", 1)
    except MemoryError as error:
        _fail(f"not enough memory{f': {error}' if str(error) else ''}: {_memory_limit()}", 1)
    except SystemError as error:
        # C code that was refused memory ends with it; without a limit it is a fault to be reported whole.
        if not _is_memory_limited():
            raise
        _fail(f"{error}, probably for want of memory: {_memory_limit()}", 1)


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"error: {as_typed(chr(10).join(map(for_terminal, message.split(chr(10)))))}", err=True)
    sys.exit(exit_code)


def _is_memory_limited() -> bool:
    try:
        import resource
    except ImportError:  # not on Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _memory_limit() -> str:
    if _is_memory_limited():
        return "expected a higher limit of this shell's, `ulimit -v unlimited` takes it away"
    return "expected more of it to be free, or a smaller network or batch"


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from benchmarks.version import harness_version

        click.echo(f"bnn-reproducibility {harness_version()}")
        ctx.exit()


def _note(message: str) -> None:
    """One line for the user, on the standard error stream."""
    click.echo(as_typed(message), err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="Print the version and exit.")  # fmt: skip
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Do binary-neural-network papers reproduce?

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not reproduced and 4 inconclusive (with --fail-on), 7 registry
    invalid, 130 interrupted.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    environment.clear()  # before any command loads a library that computes


def data_option(command: Command) -> Command:
    """--data DIR."""
    return click.option(
        "--data", "data_root", type=click.Path(path_type=Path, file_okay=False), envvar="BNN_DATA",
        default=DATA, show_default="data/", callback=hints.remember_folder,
        help="Folder of the prepared data (or $BNN_DATA).",
    )(command)  # fmt: skip


def runs_option(command: Command) -> Command:
    """--runs DIR."""
    return click.option(
        "--runs", "runs_root", type=click.Path(path_type=Path, file_okay=False), envvar="BNN_RUNS",
        default=RUNS, show_default="runs/", callback=hints.remember_folder,
        help="Folder of the runs (or $BNN_RUNS).",
    )(command)  # fmt: skip


def registry_option(command: Command) -> Command:
    """--registry DIR."""
    return click.option(
        "--registry", type=click.Path(path_type=Path, file_okay=False, resolve_path=True), envvar="BNN_REGISTRY",
        default=REGISTRY, show_default="results/runs/",
        callback=hints.remember_folder, help="Folder of the records (or $BNN_REGISTRY).",
    )(command)  # fmt: skip


def json_option(command: Command) -> Command:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def fail_on_option(command: Command) -> Command:
    """--fail-on VERDICT."""
    return click.option(
        "--fail-on", multiple=True, type=click.Choice(list(FAIL_ON)), metavar="VERDICT",
        help=f"Exit with another code than 0 if that is a run's verdict, one of: {_codes()}. May be repeated.",
    )(command)  # fmt: skip


def _codes() -> str:
    return ", ".join(f"{word!r} ({code})" for word, code in FAIL_ON.items())


def engine_options(command: Command) -> Command:
    """--engine, --device, --threads, --precision, --compile."""
    for option in (
        click.option("--compile", type=click.Choice(COMPILE), default=AUTO, show_default=True,
                     help="Of the torch engine: compile the training step; auto: where that works."),
        click.option("--precision", type=click.Choice(PRECISIONS), default=PRECISIONS[0], show_default=True,
                     help="Of products; other than float32 with the torch engine."),
        click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all usable cores]"),
        click.option("--device", type=click.Choice((AUTO, *DEVICES)), default=AUTO, show_default=True),
        click.option("--engine", type=click.Choice((AUTO, *ENGINES)), default=AUTO, show_default=True,
                     help="auto: torch where there is an NVIDIA GPU, else gluon where mxnet is installed."),
    ):  # fmt: skip
        command = option(command)
    return command


def seed_option(command: Command) -> Command:
    """--seed N[,N...]."""
    return click.option(
        "--seed", "seeds", type=Seeds(), default="1234", show_default=True, metavar="N[,N...]",
        help="Of all random draws; several: a run for each.",
    )(command)  # fmt: skip


def at_once_option(command: Command) -> Command:
    """--at-once N."""
    return click.option(
        "--at-once", type=click.IntRange(1), default=1, show_default=True, metavar="N",
        help="Of several runs, so many at a time, a process each (bench --at-once says whether that is faster).",
    )(command)  # fmt: skip


def _choose(recipe: Recipe, engine: str, device: str, precision: str) -> Choice:
    """What "auto" stands for, said aloud; and a precision that is not the papers'."""
    choice = choose(engine, device, recipe.model.architecture)
    if AUTO in (engine, device):
        click.echo(f"engine {choice.engine} on {choice.device}: {choice.reason}", err=True)
    check_engine(choice.engine, precision, recipe.model.architecture)
    if precision != PRECISIONS[0]:
        click.echo(f"precision {precision}: docs/gpu.md says what is rounded", err=True)
    return choice


def recipe_options(command: Command) -> Command:
    """--set, --epochs, --limit-train."""
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, for example train.epochs=2."
    )(command)
    command = click.option("--epochs", metavar="N", help="Short for --set train.epochs=N.")(command)
    return click.option("--limit-train", metavar="N", help="Short for --set data.train_images=N.")(command)


def _recipe(benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None) -> Recipe:
    options: list[str | tuple[str, str]] = [*overrides]
    if epochs is not None:
        options.append((f"train.epochs={epochs}", "--epochs"))
    if limit_train is not None:
        options.append((f"data.train_images={limit_train}", "--limit-train"))
    return load_recipe(benchmark, options)


def _print_json(value: Any) -> None:
    import msgspec

    click.echo(for_json(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)))


def _echo(line: str, err: bool = False) -> None:
    """Print a line that has text of a record in it."""
    click.echo(for_terminal(line), err=err)


def _records(registry: Path) -> Sequence[Run]:
    """What the table needs of the registry's records; a warning for each that is passed over."""
    from results.index import entries

    return entries(registry, lambda line: _echo(f"warning: {line}", err=True))


def _table_rows(
    records: Sequence[Run], *, all_benchmarks: bool = True, benchmarks: Sequence[Summary] | None = None
) -> list[Row]:
    """The rows of all benchmarks, or of those that have a record."""
    from benchmarks.verdict import judge_run, target_of
    from results.views.table import rows

    known_ones = {summary.id: summary for summary in (summaries() if benchmarks is None else benchmarks)}

    def judge(record: Run) -> Verdict:
        known = known_ones.get(record.benchmark)
        return judge_run(record, target_of(record) if known is None else known.target)

    recorded = {record.benchmark for record in records}
    listed = (_table_benchmark(b) for b in known_ones.values() if all_benchmarks or b.id in recorded)
    return [row for row in rows(records, judge, listed) if all_benchmarks or row.runs or row.diverged]


def _table_benchmark(summary: Summary) -> Benchmark:
    from benchmarks.recipe.versions import current

    entry: Benchmark = {"id": summary.id, "paper": summary.paper, "data": summary.dataset, "target": None}
    if (version := current(summary.id)) is not None:
        entry["digest"] = version.digest
    if summary.target is not None:
        target = summary.target
        entry |= {"target": target.percent, "decimals": target.decimals, "kind": target.provenance}
    return entry


# -- what there is -----------------------------------------------------------------------------------------------------


@cli.command("list")
@click.option("--paper", help="Only of this paper: a part of its name, title, authors, arXiv number, or of the id.")
@click.option("--data", "dataset", help="Only benchmarks on this data set.")
@click.option("--verdict", help="Only benchmarks with this verdict (a part of it), for example 'not run'.")
@registry_option
@json_option
@click.pass_context
def list_benchmarks(
    ctx: click.Context, paper: str | None, dataset: str | None, verdict: str | None, registry: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """List the benchmarks: paper, data, target, recorded result, verdict."""
    from results.views.table import to_columns, to_json, to_rich

    _check_registry(ctx, registry)
    entries = {entry.id: entry for entry in summaries(_warn)}
    wanted = {
        "--paper": (paper, {name: entry.searched for name, entry in entries.items()}),
        "--data": (dataset, {name: entry.dataset for name, entry in entries.items()}),
    }
    fits = set(entries).intersection(*(_fitting(option, *search) for option, search in wanted.items()))
    if verdict is not None and not any(verdict.lower() in word for word in _verdict_words()):
        known = _verdict_words()
        raise RecipeError(f"--verdict {verdict}: expected (a part of) {', '.join(known)}{nearest(verdict, known)}")
    rows = _table_rows(_records(registry), benchmarks=list(entries.values()))
    rows = [row for row in rows if row.benchmark in fits]
    rows = [row for row in rows if verdict is None or verdict.lower() in row.verdict.lower()]
    if as_json:
        click.echo(to_json(rows), nl=False)
    elif rows:
        text = to_columns(rows)
        if max(map(len, text.splitlines())) <= _width():
            click.echo(text, nl=False)
        else:
            _console().print(to_rich(rows))
        if any(row.target is None for row in rows):
            click.echo("Target -: no published target")
    else:
        click.echo("no benchmark fits")


def _warn(message: str) -> None:
    click.echo(as_typed(f"warning: {message}"), err=True)


def _check_registry(ctx: click.Context, registry: Path, *, environment_too: bool = False) -> None:
    """A folder that is named must be there; the default one may not be, before the first record.

    That of the environment is one that `reproduce` makes: it must be there for what says that all is well in it.
    """
    sources = click.core.ParameterSource
    named = {sources.COMMANDLINE: "--registry "} | ({sources.ENVIRONMENT: "$BNN_REGISTRY "} if environment_too else {})
    source = ctx.get_parameter_source("registry")
    if source in named and not registry.is_dir():
        _fail(f"{named[source]}{registry}: there is no such folder: expected one with records", 1)


def _fitting(option: str, wanted: str | None, texts: Mapping[str, str]) -> set[str]:
    """Ids of the benchmarks whose text has what is wanted in it.

    Raises:
        RecipeError: none has.
    """
    fits = {name for name, text in texts.items() if wanted is None or wanted.lower() in text.lower()}
    if fits:
        return fits
    words = {word.strip("(),:;").lower() for text in texts.values() for word in text.split()}
    few = sorted(set(texts.values()))
    expected = f": expected (a part of) {', '.join(few)}" if option == "--data" else ""
    near = nearest(str(wanted).lower(), words)
    raise RecipeError(f"{option} {wanted}: no benchmark has that{expected}{near}; `python cli.py list` shows all")


def _verdict_words() -> tuple[str, ...]:
    """Every verdict that `list` can show."""
    from typing import get_args

    from benchmarks.verdict import Word
    from results.views.table import NOT_RUN

    return (NOT_RUN, "provisional", *get_args(Word))


@cli.command()
@click.argument("benchmark", metavar="ID")
@recipe_options
@json_option
def show(benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None, as_json: bool) -> None:
    """Show a benchmark: its settings, each with its source, its target, its cost, and what would run."""
    from benchmarks.recipe.cost import cost

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
        click.echo("  no published target")
    else:
        click.echo(f"  target: {recipe.target.test_error} %{recipe.target.mark} test error; {recipe.target.source}")
        if recipe.target.note:
            click.echo(f"          {recipe.target.note}")
        if recipe.target.validation_errors:
            click.echo(
                f"          Validation error of every epoch of theirs: {recipe.target.validation_errors.source}."
            )
    published, width = flatten(recipe.published), max(map(len, [*recipe.sources, *recipe.overrides]))
    click.echo("\nsettings")
    absent = []
    for key, value in flatten(recipe.settings).items():
        if key not in recipe.sources and value == published[key]:
            absent.append(f"{key}={setting_text(value)}")
            continue
        changed = ""
        if value != published[key]:
            changed = f"  <- published: {setting_text(published[key])} ({recipe.overrides[key]})"
        click.echo(f"  {key:{width}}  {setting_text(value):16}{changed}  [{recipe.sources.get(key, 'default')}]")
    if absent:
        click.echo(f"  and without, at their defaults: {', '.join(absent)}")
    click.echo("\ncost")
    for line in cost(recipe).lines():
        click.echo(f"  {line}")
    click.echo(
        f"\nrecipe digest {recipe.digest[:16]}; {'scores' if recipe.scoring else 'does not score: not as published'}"
    )
    changes = "".join(f" --set {shlex.quote(f'{d.key}={setting_text(d.value)}')}" for d in recipe.differences)
    click.echo(as_typed(f"it would run: python cli.py reproduce {recipe.id}{changes}"))


@cli.command()
@click.argument("benchmark", metavar="ID")
@click.option("--from", "origin", required=True, metavar="ID", help="The benchmark that it is most like.")
@click.option("--folder", metavar="NAME", help="Folder of its paper in the catalog.  [default: that of --from]")
def new(benchmark: str, origin: str, folder: str | None) -> None:
    """Begin a benchmark: write a commented draft of its catalog file, in which each source is to be filled in."""
    from benchmarks.recipe import catalog_folder
    from benchmarks.recipe.draft import write_draft

    if benchmark in benchmark_ids():
        _fail(f"{benchmark} is in the catalog already: expected the id of a new benchmark", RecipeError.exit_code)
    recipe, home = load_recipe(origin), catalog_folder(origin)
    place = home.parent / (folder or home.name)
    path = write_draft(benchmark, recipe, place, same_paper=place == home)
    file = shlex.quote(start.relative(str(path)))
    click.echo(as_typed(f"{file}: a draft; what is still to be done, says: python cli.py validate {file}"))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def validate(file: Path, as_json: bool) -> None:
    """Say all that is wrong with a catalog file, or that nothing is. Exit code 2 if something is."""
    from benchmarks.recipe import catalog_file, other_file

    problems: list[str] = []
    try:
        catalog_file.read(file)
    except catalog_file.CatalogError as error:
        problems += error.problems
    if (other := other_file(file)) is not None:
        problems.append(f"id: {other.parent.name}/{other.name} has it already: rename or remove one of them")
    if as_json:
        _print_json({"file": str(file), "problems": problems})
    else:
        for problem in problems:
            _echo(problem)
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "nothing is wrong with it"
        _echo(f"{file}: {count}")
    sys.exit(RecipeError.exit_code if problems else 0)


@cli.command()
@click.option("--verify", is_flag=True, help="Also prove the prepared data against their digests.")
@data_option
@runs_option
@json_option
def doctor(verify: bool, data_root: Path, runs_root: Path, as_json: bool) -> None:
    """Say what works on this machine, and which command mends what does not."""
    import msgspec

    from benchmarks.doctor import examine

    findings = [
        msgspec.structs.replace(finding, mend=finding.mend and as_typed(finding.mend), detail=as_typed(finding.detail))
        for finding in examine(data_root, runs_root, verify=verify)
    ]
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
    "--source",
    type=click.Path(path_type=Path),
    help="Folder with the official files, or CIFAR-10's archive, instead of the network.",
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
            click.echo(as_typed(f"nothing is stored in {data_root}: `python cli.py prepare DATASET` changes that"))
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
@seed_option
@at_once_option
@recipe_options
@engine_options
@fail_on_option
@data_option
@runs_option
@registry_option
@json_option
@click.pass_context
def reproduce(
    ctx: click.Context, benchmark: str, seeds: tuple[int, ...], at_once: int, overrides: Sequence[str],
    epochs: str | None, limit_train: str | None, engine: str, device: str, threads: int | None, precision: str,
    compile: str, fail_on: tuple[str, ...], data_root: Path, runs_root: Path, registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Train a benchmark by its published rules, measure its test error, and judge it.

    Prepares the data if they are absent. A run may be interrupted at any moment: `resume` goes on with it. With
    settings that are not the published ones the run does not score: it is kept, but never judged nor ranked.
    """
    recipe = _recipe(benchmark, overrides, epochs, limit_train)
    _settle_code()
    choice = _choose(recipe, engine, device, precision)
    _prepare_if_absent(recipe, data_root)
    if len(seeds) > 1:
        options = {
            "engine": choice.engine, "device": choice.device, "at_once": 1,
            "threads": threads or max(1, usable_cores() // min(at_once, len(seeds))),
        }  # fmt: skip
        commands = {f"seed {seed}": _same_command(ctx, seeds=seed, **options) for seed in seeds}
        exit_code = _carry_out_all(commands, at_once, choice.device, as_json)
        if recipe.scoring and not as_json:
            _print_row(benchmark, registry)
        sys.exit(exit_code)
    from benchmarks.run import runner

    _carry_out(
        lambda reporter: runner.reproduce(
            recipe, data_root=data_root, runs_root=runs_root, registry=registry, seed=seeds[0], engine=choice.engine,
            device=choice.device, threads=threads, reporter=reporter, precision=precision, compile=compile,
        ),
        as_json, fail_on,
    )  # fmt: skip


@cli.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--allow-change", is_flag=True, help="Go on though code, versions or machine changed; the record tells it."
)
@at_once_option
@fail_on_option
@data_option
@runs_option
@registry_option
@json_option
@click.pass_context
def resume(
    ctx: click.Context, runs: tuple[str, ...], allow_change: bool, at_once: int, fail_on: tuple[str, ...],
    data_root: Path, runs_root: Path, registry: Path, as_json: bool,
) -> None:  # fmt: skip
    """Go on with an interrupted run from its last stored epoch; on a CPU to the very bits of an uninterrupted one.

    RUN is a run's folder, its name as `reproduce` printed it, or the benchmark if it has one run only.
    """
    _settle_code()
    from benchmarks.run import runner
    from benchmarks.run.folder import find_run

    folders = {folder.name: folder for folder in (find_run(runs_root, run) for run in runs)}
    if len(folders) > 1:
        device = "gpu" if any(folder.manifest().device == "gpu" for folder in folders.values()) else "cpu"
        commands = {name: _same_command(ctx, runs=(folder.path,), at_once=1) for name, folder in folders.items()}
        sys.exit(_carry_out_all(commands, at_once, device, as_json))
    (folder,) = folders.values()
    if folder.path.parents[1] != runs_root.resolve():
        hints.use_folder(ctx, "--runs", folder.path.parents[1])  # it was named by its path
    _carry_out(
        lambda reporter: runner.resume(
            folder, data_root=data_root, registry=registry, reporter=reporter, allow_change=allow_change
        ),
        as_json,
        fail_on,
    )


@cli.command()
@click.argument("run", metavar="RUN", required=False)
@click.option("--pretrained", metavar="ID", help="A record with published weights (or its benchmark), instead of RUN.")
@click.option("--first", type=click.IntRange(1), metavar="N", help="On the first N training images instead.")
@click.option("--weights", type=click.Choice(["binary", "real"]), help="Evaluate with other weights than the recipe's.")
@click.option("--engine", type=click.Choice(list(ENGINES)), help="[default: the recorded one, where it is installed]")
@click.option("--device", type=click.Choice(DEVICES), help="[default: the recorded one, where there is one]")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: as recorded, up to all usable cores]")
@click.option(
    "--wrong",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.csv",
    help="Write which images are classified wrongly: index from 0, label, predicted; with --json in it too.",
)
@data_option
@runs_option
@registry_option
@json_option
def evaluate(
    run: str | None, pretrained: str | None, first: int | None, weights: str | None, engine: str | None,
    device: str | None, threads: int | None, wrong: Path | None, data_root: Path, runs_root: Path, registry: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure a run's test error again, from its saved weights and the data; exit code 1 if the record has another.

    With --pretrained: from the weights that are published with a record, without a run. With --first: the error on
    training images, with the labels that the run was trained on.

    Every image must come out as recorded. Where anything else computes than what recorded it (engine, processor,
    versions, threads), up to 1 in 1,000 images, and 2 at least, may differ; what differs is said.
    """
    if (run is None) == (pretrained is None):
        raise click.UsageError("expected either RUN or --pretrained ID")
    if pretrained is not None and (first is not None or weights is not None):
        raise click.UsageError("--first and --weights are for a RUN: published weights are for the test images")
    from benchmarks.run import evaluation

    if wrong is not None:
        evaluation.check_folder(wrong)
    asked = evaluation.Asked(engine, device, threads)
    if pretrained is not None:
        path = evaluation.find_published(registry, pretrained)
        evaluated = evaluation.evaluate_published(
            path, registry=registry, data_root=data_root, asked=asked, notify=_note
        )
    else:
        from benchmarks.run.folder import find_run

        folder = find_run(runs_root, str(run))
        folder.notify = _note
        evaluated = evaluation.evaluate_run(folder, data_root=data_root, first=first, weights=weights, asked=asked)
    if wrong is not None:
        evaluation.write_wrong_images(evaluated, wrong)
    if as_json:
        _print_json(evaluated.as_json() | ({} if wrong is None else {"wrong": evaluated.wrong_images()}))
    else:
        _echo(
            f"{evaluated.run}: epoch {evaluated.epoch}: {evaluated.kind} error {evaluated.error:.3f} %"
            f" ({evaluated.wrong} of {evaluated.images:,} images wrong), with {evaluated.weights} weights"
        )
        _echo(evaluated.comparison)
    sys.exit(not evaluated.agrees)


@cli.command()
@click.argument("benchmark", metavar="ID")
@recipe_options
@engine_options
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True, help="Timed blocks.")
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="Training steps a block.")
@click.option("--baseline", is_flag=True, help="Also time the framework's layers as they come, in turn.")
@click.option("--at-once", type=click.IntRange(1), default=1, metavar="N", help="Also time N runs side by side.")
@json_option
def bench(
    benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None, engine: str, device: str,
    threads: int | None, precision: str, compile: str, repeats: int, steps: int, baseline: bool, at_once: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure the speed of training and evaluation, beside what this machine's processor and memory allow."""
    # NumPy's matrix products, the yardstick, read their number of threads when they are first used.
    environment.put("OPENBLAS_NUM_THREADS", str(threads or usable_cores()))
    from benchmarks import bench as measuring

    recipe = _recipe(benchmark, overrides, epochs, limit_train)
    choice = _choose(recipe, engine, device, precision)
    result = measuring.bench(
        recipe, choice.engine, choice.device, threads, repeats, steps, compare_baseline=baseline,
        precision=precision, compile=compile, at_once=at_once,
    )  # fmt: skip
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
@click.pass_context
def table(
    ctx: click.Context, style: str, as_json: bool, all_benchmarks: bool, write: bool, registry: Path
) -> None:  # fmt: skip
    """Print the table of results, derived from the records."""
    from results.views import table as tables

    if write:
        _check_registry(ctx, registry, environment_too=True)
    records = _records(registry)
    if write:
        _write_table(_table_rows(records, all_benchmarks=False), registry)
    rows = _table_rows(records, all_benchmarks=all_benchmarks)
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
@click.option("--reevaluate", is_flag=True, help="Also measure again what has published weights; needs the data.")
@registry_option
@data_option
@json_option
@click.pass_context
def verify(ctx: click.Context, reevaluate: bool, registry: Path, data_root: Path, as_json: bool) -> None:
    """Check every record: schema, hash, consistency; and that results/table.csv and the README follow from them."""
    from benchmarks.verdict import check_record
    from results import verification
    from results.views.table import check_csv, check_section

    _check_registry(ctx, registry, environment_too=True)
    benchmark_ids()  # what is wrong with the catalog itself is no problem of any record
    verified = verification.verify(registry, [check_record])
    problems, lines = verified.problems, []
    if not problems:
        table = _table_rows(verified.entries, all_benchmarks=False)
        problems = [
            *check_csv(table, registry.parent / "table.csv"),
            *check_section(table, registry.parent.parent / "README.md"),
        ]
    if reevaluate:
        from benchmarks.run.evaluation import reevaluate as evaluate_again

        for line, problem in evaluate_again(verified.entries, registry=registry, data_root=data_root):
            lines.append(line)
            if not as_json:
                click.echo(line)
            if problem is not None:
                problems.append(problem)
    if as_json:
        listed = [{"path": str(p.path), "field": p.field, "message": p.message} for p in problems]
        _print_json({"records": verified.records, "problems": listed} | ({"reevaluated": lines} if reevaluate else {}))
    else:
        for problem in problems:
            click.echo(str(problem))
        count = verified.records
        click.echo(f"{count} records, {len(problems)} problems" if problems else f"{count} records, all valid")
    sys.exit(RegistryError.exit_code if problems else 0)


# -- helpers -----------------------------------------------------------------------------------------------------------


def _write_table(recorded: Sequence[Row], registry: Path) -> None:
    """Bring the README and table.csv that belong to a registry up to date; not every registry has a README."""
    from results.views import table as tables

    readme = registry.parent.parent / "README.md"
    if readme.exists():
        tables.write_section(readme, tables.to_markdown(recorded))
    else:
        click.echo(f"note: there is no {readme} to write the table to: only table.csv is written", err=True)
    tables.write_csv(recorded, registry.parent / "table.csv")


def _width() -> int:
    """Characters that a line of the standard output may have."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 200


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    stream_is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if stream_is_terminal else 200)


def _settle_code() -> None:
    """Which code computes is settled before more of it is loaded; that no record can name it is said once."""
    from benchmarks.run.provenance import HANDED_ON, code_at_start

    code = code_at_start()
    if code.commit is None and HANDED_ON not in os.environ:
        mend = f"; mend: {code.mend}" if code.mend else ""
        click.echo(as_typed(f"note: {code.note}: the record cannot say which code made it{mend}"), err=True)


def _prepare_if_absent(recipe: Recipe, data_root: Path) -> None:
    """The data set, and its variant if the recipe's preprocessing is one."""
    import data_prep

    dataset, preprocessing = recipe.data.dataset, recipe.data.preprocessing
    variant = preprocessing if preprocessing in data_prep.variants(dataset) else None
    if data_prep.status(dataset, data_root, variant) is None:
        data_prep.prepare(dataset, data_root, None, data_prep.RichProgress(), variant)


def _carry_out(run: Callable[[Any], Outcome], as_json: bool, fail_on: Sequence[str]) -> None:
    """Show a run while it lasts; a termination signal ends it as Ctrl-C does."""
    from benchmarks.run.display import LiveReporter

    _end_as_by_ctrl_c(signal.SIGTERM)
    reporter = LiveReporter(_console(stderr=True))
    try:
        with reporter:
            outcome = run(reporter)
    except KeyboardInterrupt:
        if reporter.folder is None:
            click.echo("interrupted before the run began", err=True)
        else:
            click.echo(as_typed(f"interrupted; go on with: python cli.py resume {reporter.folder.name}"), err=True)
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # at once: the engine's threads may be in the middle of a step
    from benchmarks.verdict import judge_run

    verdict = judge_run(outcome.record, load_recipe(outcome.record.benchmark).target)
    if as_json:
        _print_json(_with_derived(outcome.record, verdict))
    else:
        _print_outcome(outcome, verdict)
    failed = FAIL_ON[verdict.word] if verdict.word in fail_on else 0
    sys.exit(1 if outcome.record.outcome == "diverged" else failed)


def _end_as_by_ctrl_c(*signals: signal.Signals) -> None:
    """Have them end the command as Ctrl-C does, whose own signal may be ignored: `nohup ... &`."""
    for one in signals:
        signal.signal(one, signal.default_int_handler)


def _same_command(ctx: click.Context, **changes: object) -> list[str]:
    """The arguments of the command that is being carried out, with other values for some parameters.

    Options that the user did not give stay away: their defaults and variables are those of the other process too.
    """
    assert ctx.info_name is not None
    words = [ctx.info_name]
    for parameter in ctx.command.params:
        is_given = ctx.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
        if parameter.name not in changes and not is_given:
            continue
        value = (ctx.params | changes)[str(parameter.name)]
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        if isinstance(parameter, click.Option) and parameter.is_flag:
            words += parameter.opts[:1] * bool(value)
        elif isinstance(parameter, click.Option):
            words += [word for each in values for word in (parameter.opts[0], str(each))]
        else:
            words += map(str, values)
    return words


def _carry_out_all(commands: Mapping[str, Sequence[str]], at_once: int, device: str, as_json: bool) -> int:
    """Carry out runs by commands of their own, by name, so many at a time; --json prints a list. The exit code."""
    from benchmarks.queue.side_by_side import Job, carry_out

    _end_as_by_ctrl_c(signal.SIGTERM, *([] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]))
    ended = carry_out([Job(*command) for command in commands.items()], at_once, device, capture=as_json)
    if as_json:
        _print_json([json.loads(end.output) for end in ended if end.output])
    waiting = [end.name for end in ended if end.exit_code in (None, -signal.SIGTERM)]
    if waiting:
        click.echo(f"interrupted before the run began: {', '.join(waiting)}", err=True)
    codes = {end.name: end.exit_code for end in ended if end.exit_code and end.name not in waiting}
    for name, code in codes.items():
        if code < 0:
            click.echo(f"{name}: ended by {signal.Signals(-code).name}", err=True)
    if waiting or INTERRUPTED in codes.values():
        return INTERRUPTED
    return max(codes.values(), default=0) if set(codes.values()) <= set(FAIL_ON.values()) else 1


def _print_row(benchmark: str, registry: Path) -> None:
    """What all recorded runs of a benchmark come to: its row of `list`."""
    from results.views.table import to_columns

    rows = [row for row in _table_rows(_records(registry), all_benchmarks=False) if row.benchmark == benchmark]
    if rows:
        click.echo(to_columns(rows), nl=False)


def _with_derived(record: Record, verdict: Verdict) -> dict[str, Any]:
    """A record as --json prints it: with what is derived from it."""
    from results.record.canonical import plain

    content: dict[str, Any] = plain(record)
    derived = {"results": record.results, "restarts": record.restarts, "seeds": record.seeds, "verdict": verdict}
    return content | derived


def _print_outcome(outcome: Outcome, verdict: Verdict) -> None:
    record = outcome.record
    _echo(f"{record.benchmark}: {record.outcome} after {len(record.curve.epoch)} epochs")
    if record.results is not None:
        point, counted, places = record.results.declared, record.results.counted, record.target.decimals + 1
        by_validation = record.recipe.settings["protocol"]["selection"] != "last"
        chosen = f"the best on validation ({point.valid_error:.2f} %)" if by_validation else "the last"
        binomial = (
            f"{verdict.standard_error or 0:.{places}f} (binomial standard error on {counted.test_images:,} images)"
        )
        click.echo(f"  test error {counted.test_error:.{places}f} % +- {binomial} at epoch {point.epoch}, {chosen}")
        if record.curve.train_error:
            click.echo(f"  training error {record.curve.train_error[point.epoch - 1]:.{places}f} % at that epoch")
        if counted.test_images != point.test_images:
            click.echo(
                f"  over all {point.test_images:,} test images, where the authors count {counted.test_images:,}:"
                f" {point.test_error:.{places}f} %"
            )
        click.echo(f"  {_beside_the_result(record, places)}")
    if outcome.comparison:
        click.echo(f"  {outcome.comparison}")
    judged = verdict.word not in ("not scored", "no published target")
    provisional = " (provisional)" if verdict.provisional and judged else ""
    mixed = "".join(f"; mixed {kind}: its sittings had different ones" for kind in record.mixtures)
    _echo(f"  verdict: {verdict.word}{provisional}: {verdict.explanation}{mixed}")
    click.echo(f"  record: {outcome.registered or outcome.folder.record_path}")
    folder = outcome.folder.path
    click.echo(f"  learning curve: {folder / 'learning-curve.png'}; TensorBoard log: {folder / 'tensorboard'}")
    if outcome.registered:
        click.echo(as_typed("  to have it in results/table.csv and the README: python cli.py table --write"))
    if record.published_weights and outcome.registered:
        click.echo(as_typed(
            f"  weights: {record.published_weights.bytes:,} bytes beside the record, published when both are committed;"
            f" to evaluate them: python cli.py evaluate --pretrained {record.id}"
        ))  # fmt: skip


def _beside_the_result(record: Record, places: int) -> str:
    """The errors of the last and of the best epoch on the test images, and whether one of them is the result."""
    assert record.results is not None
    declared = record.results.declared.epoch
    others = {"last epoch": record.results.last, "lowest ever seen": record.results.best_test}
    texts = [
        f"{name} {point.test_error:.{places}f} %{' (the result)' if point.epoch == declared else ''}"
        for name, point in others.items()
    ]
    neither = all(point.epoch != declared for point in others.values())
    return ", ".join(texts) + (" (neither is the result)" if neither else "")


if __name__ == "__main__":
    start.settle_streams()
    start.interrupt_on_ctrl_c()
    cli(prog_name=hints.program())
