"""Options that several commands have, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks import hints
from benchmarks.engine import AUTO, COMPILE, DEVICES, ENGINES, PRECISIONS, Choice, check_engine, choose
from benchmarks.paths import DATA, REGISTRY, RUNS
from benchmarks.recipe import Recipe, load_recipe

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
        click.option("--device", type=click.Choice((AUTO, *DEVICES)), default=AUTO, show_default=True,
                     help="auto: a GPU for the torch engine, where there is one."),
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


def group_option(command: Command) -> Command:
    """--seeds 3|5|10."""
    return click.option(
        "--seeds", "size", type=click.Choice(["3", "5", "10"]),
        help="Register a group of 5 seeds (1234, 1 to 4), or of 3; extend it once, to 10, or to 5; run what is missing;"
        " judge it.",
    )(command)  # fmt: skip


def at_once_option(command: Command) -> Command:
    """--at-once N."""
    return click.option(
        "--at-once", type=click.IntRange(1), default=1, show_default=True, metavar="N",
        help="Of several runs, so many at a time, a process each (bench --at-once says whether that is faster).",
    )(command)  # fmt: skip


def recipe_options(command: Command) -> Command:
    """--set, --epochs, --limit-train."""
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, for example train.epochs=2."
    )(command)
    command = click.option("--epochs", metavar="N", help="Short for --set train.epochs=N.")(command)
    return click.option("--limit-train", metavar="N", help="Short for --set data.train_images=N.")(command)


def folders(ctx: click.Context) -> dict[str, Path]:
    """The folders that the user has named: those of a default or a variable are those of another process too."""
    named = click.core.ParameterSource.COMMANDLINE
    parameters = ("data_root", "runs_root", "registry")
    return {name: ctx.params[name] for name in parameters if ctx.get_parameter_source(name) is named}


def remember_runs_of(runs_root: Path, run: str) -> None:
    """Have commands in messages find a run that was named by its path, where that is not in the folder of runs."""
    path = Path(run).resolve()
    if (path / "run.json").exists() and path.parents[1] != runs_root.resolve():
        hints.use_folder(click.get_current_context(), "--runs", path.parents[1])


def check_png(path: Path) -> None:
    """Refuse the name of a picture that is no PNG, before anything is computed."""
    if path.suffix.lower() != ".png":
        raise click.UsageError(f"{path}: pictures are written as PNG: expected a name that ends in .png")


def choose_engine(recipe: Recipe, engine: str, device: str, precision: str) -> Choice:
    """What "auto" stands for, said aloud; and a precision that is not the papers'."""
    choice = choose(engine, device, recipe.model.architecture)
    if AUTO in (engine, device):
        click.echo(f"engine {choice.engine} on {choice.device}: {choice.reason}", err=True)
    check_engine(choice.engine, precision, recipe.model.architecture)
    if precision != PRECISIONS[0]:
        click.echo(f"precision {precision}: docs/gpu.md says what is rounded", err=True)
    return choice


def chosen_recipe(benchmark: str, overrides: Sequence[str], epochs: str | None, limit_train: str | None) -> Recipe:
    """The benchmark with the settings that `recipe_options` changed."""
    options: list[str | tuple[str, str]] = [*overrides]
    if epochs is not None:
        options.append((f"train.epochs={epochs}", "--epochs"))
    if limit_train is not None:
        options.append((f"data.train_images={limit_train}", "--limit-train"))
    return load_recipe(benchmark, options)
