"""`queue add`: choosing, registering, freezing the code, queueing."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from benchmarks.engine import AUTO, check_engine, choose
from benchmarks.errors import RecipeError
from benchmarks.hints import as_typed
from benchmarks.machine import environment
from benchmarks.machine.facts import usable_cores
from benchmarks.recipe import Recipe, benchmark_ids
from benchmarks.recipe.expected import nearest
from commands.group_runs import GroupRun, is_decided, judged, registered_group
from commands.options import chosen_recipe
from commands.output import byte_size, echo, note, print_json
from commands.running import prepare_if_absent, settle_code

if TYPE_CHECKING:
    from benchmarks.queue.adding import Added, Options
    from benchmarks.queue.folder import QueueFolder
    from benchmarks.queue.plan import Asked, Plan

SCHEMA = 1  # of what `queue add --json` prints
SHOWN = 10  # seeds that a line names


def add_runs(ctx: click.Context, given: dict[str, Any]) -> None:
    """Queue what the options ask for, or say what it would take."""
    from benchmarks.queue.adding import Options
    from benchmarks.queue.folder import QueueFolder

    size = _size(ctx, given)
    recipes = [
        chosen_recipe(name, given["overrides"], given["epochs"], given["limit_train"])
        for name in _benchmarks(given["patterns"])
    ]
    settle_code()
    asked = [_asked(recipe, given, size) for recipe in recipes]
    queue = QueueFolder(given["queue_root"])
    if given["dry_run"]:
        _say_cost(queue, asked, given)
        return
    from benchmarks.queue.frozen import freeze, present_commit

    commit = present_commit()
    options = Options(
        commit, {name: given[name] for name in ("epochs", "limit_train", "threads", "compile")}
        | {"overrides": tuple(given["overrides"])}, given["executor"], given["allow_change"],
    )  # fmt: skip
    freeze(queue.code_of(commit), commit)
    _add(queue, asked, size, given, options)


def _size(ctx: click.Context, given: dict[str, Any]) -> int | None:
    """Of the groups; None where seeds are named."""
    named = ctx.get_parameter_source("seeds") is click.core.ParameterSource.COMMANDLINE
    size = given["size"]
    if (size is None) != named:
        raise RecipeError(
            "expected --seeds 5 (or 3, or 10), registered groups, or --seed N[,N...], runs of these seeds"
        )
    if size is not None and (given["overrides"] or given["epochs"] or given["limit_train"]):
        raise RecipeError("--seeds is of registered groups, at the published settings: with others, expected --seed N")
    return None if size is None else int(size)


def _benchmarks(patterns: Sequence[str]) -> list[str]:
    """The benchmarks that fit, each once.

    Raises:
        RecipeError: a pattern that fits none.
    """
    known, found = benchmark_ids(), dict[str, None]()
    for pattern in patterns:
        fits = [name for name in known if fnmatchcase(name, pattern)]
        if not fits:
            raise RecipeError(f"no benchmark {pattern!r}{nearest(pattern, known)}; `python cli.py list` shows all")
        found |= dict.fromkeys(fits)
    return list(found)


def _asked(recipe: Recipe, given: dict[str, Any], size: int | None) -> Asked:
    """Raises EngineError if the engine cannot be had here, or does not have the network."""
    from benchmarks.queue.plan import Asked

    choice = choose(given["engine"], given["device"], recipe.model.architecture)
    if AUTO in (given["engine"], given["device"]):
        note(f"{recipe.id}: engine {choice.engine} on {choice.device}: {choice.reason}")
    check_engine(choice.engine, given["precision"], recipe.model.architecture)
    threads = given["threads"] or usable_cores()
    return Asked(
        recipe, choice, threads, given["precision"], size, (), given["data_root"], given["runs_root"],
        given["registry"],
    )  # fmt: skip


def _add(queue: QueueFolder, asked: Sequence[Asked], size: int | None, given: dict[str, Any], options: Options) -> None:
    from benchmarks.queue.adding import Added, Known, Passed, new_runs
    from benchmarks.queue.executors import open_executor

    executor = open_executor(options.executor, queue)
    known, added = Known(queue, given["registry"]), Added([], [])
    for one in asked:
        if size is not None and (verdict := _registered(one, size)):
            added.passed.append(Passed(one.recipe.id, verdict))
            continue
        found = new_runs(queue, known, one, None if size is not None else given["seeds"], options)
        added.runs.extend(found.runs)
        added.passed.extend(found.passed)
    if added.runs:
        queue.add(added.runs)
        try:
            queue.keep_handles(options.executor, executor.submit(added.runs))
        except BaseException:  # else they would be queued already, and carried out by nobody
            queue.cancel(run.name for run in added.runs)
            raise
    _say(added, given)


def _registered(asked: Asked, size: int) -> str:
    """Register, or extend, the group; if its verdict is decided already, what it is, else ""."""
    recipe = asked.recipe
    prepare_if_absent(recipe, asked.data_root)
    run = GroupRun(
        recipe, asked.choice, asked.precision, {}, {}, asked.data_root, asked.runs_root, asked.registry, False
    )
    verdict = judged(run, registered_group(run, size))
    return f"its verdict is there: {verdict.word}" if is_decided(verdict) else ""


def _say(added: Added, given: dict[str, Any]) -> None:
    if given["as_json"]:
        print_json({"schema": SCHEMA, "queued": added.runs, "passed_over": [one._asdict() for one in added.passed]})
        return
    alike: dict[tuple[str, str], list[str]] = {}
    for one in added.passed:
        alike.setdefault((one.benchmark, one.reason), []).extend([] if one.seed is None else [str(one.seed)])
    for (benchmark, reason), seeds in alike.items():
        more = f" and {len(seeds) - SHOWN:,} more" if len(seeds) > SHOWN else ""
        echo(as_typed(f"passed over: {benchmark}{', seed ' * bool(seeds)}{', '.join(seeds[:SHOWN])}{more}: {reason}"))
    count = len(added.runs)
    click.echo(f"{count} run{'s' * (count != 1)} queued in {given['queue_root']}, {len(added.passed)} passed over")
    if count and given["executor"] == "local":
        note("`python cli.py queue work` carries them out, on each machine that is to; `python cli.py queue status`")


# -- what it would take ------------------------------------------------------------------------------------------------


def _say_cost(queue: QueueFolder, asked: Sequence[Asked], given: dict[str, Any]) -> None:
    # NumPy's matrix products, the yardstick, read their number of threads when they are first used.
    environment.put("OPENBLAS_NUM_THREADS", str(given["threads"] or usable_cores()))
    from benchmarks.queue.plan import plan

    seeds = None if given["size"] is not None else given["seeds"]
    found = [(one, plan(one)) for one in asked]
    if given["as_json"]:
        print_json({"schema": SCHEMA, "plans": [planned for _, planned in found]})
        return
    total = [0.0, 0.0]
    runs, unknown = 0, False
    for _, planned in found:
        missing = len(seeds) if seeds is not None else sum(seed.is_missing for seed in planned.seeds)
        runs += missing
        echo(f"{planned.benchmark}: {missing} runs, {_cost(planned, missing)}")
        if planned.time.run is None:
            unknown = True
        else:
            total = [sum_ + missing * each for sum_, each in zip(total, planned.time.run, strict=True)]
    _say_total(runs, (total[0], total[1]), unknown)


def _cost(planned: Plan, missing: int) -> str:
    from commands.plan import span

    if planned.time.run is None:
        time = f"time not known: {planned.time.source}"
    else:
        least, most = planned.time.run
        time = f"{span(least, most)} each, {span(missing * least, missing * most)} together, {planned.time.kind}"
    return f"{time}; {byte_size(planned.disk.training)} of disk each"


def _say_total(runs: int, total: tuple[float, float], unknown: bool) -> None:
    from commands.plan import span

    more = ", and what is not known" if unknown else ""
    click.echo(f"{runs} runs: {span(*total)}{more}, one after the other on this machine; nothing is queued")
