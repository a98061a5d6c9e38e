"""What a benchmark would take here, said before anything begins: work, seeds, time, disk, what is there already.

Nothing is written: no folder, no registration, no index, no lock.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

import data_prep
from benchmarks.bench import estimate
from benchmarks.bench.measured import Machine, measured
from benchmarks.engine import Choice
from benchmarks.errors import EngineError
from benchmarks.machine.facts import usable_cores
from benchmarks.recipe import Recipe
from benchmarks.recipe.cost import steps_per_epoch
from benchmarks.recipe.settings import named_settings
from benchmarks.run.listing import LocalRun, local_run, manifest_of, run_folders
from results import registered, registry
from results.members import members
from results.record import Record
from results.registered import SEEDS, USUAL_SIZE, Registration

SCHEMA = 1  # of what `plan --json` prints
# Engine -> the module whose `find_kept` says where machine code of its loops is kept.
KEPT = {"gluon": "bnn_gluon.kernels.compiled"}


class Asked(NamedTuple):
    """What is planned: recipe, engine, threads, precision, seeds of a group (None: as registered, or five); folders.

    options: those of `reproduce` that the user has given, which the commands repeat.
    """

    recipe: Recipe
    choice: Choice
    threads: int
    precision: str
    size: int | None
    options: Sequence[str]
    data_root: Path
    runs_root: Path
    registry: Path


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run. multiply_adds: of a training image, both gradients included."""

    epochs: int
    steps_per_epoch: int
    steps: int
    batch_size: int
    multiply_adds: int


class PlannedSeed(msgspec.Struct, frozen=True, kw_only=True):
    """state: "new", or as in `results.members.Seed`. run: a local one that is not over; epoch: how far it is."""

    seed: int
    state: str
    record: str | None = None
    run: str | None = None
    epoch: int = 0
    running: bool = False

    @property
    def is_missing(self) -> bool:
        return self.state not in ("finished", "diverged")


class Time(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds as (least, most), equal where they were measured; None where nothing can be said, `source` says why.

    kind: "measured": by the run or record that `source` names; "projected": from the recipe's products.
    """

    kind: str
    source: str
    run: tuple[float, float] | None = None
    missing: tuple[float, float] | None = None


class StoredData(msgspec.Struct, frozen=True, kw_only=True):
    """A file of images; bytes as it is, or as it would be, but for what is downloaded first."""

    name: str
    prepared: bool
    bytes: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that `plan` says. registered: of the group; recorded_elsewhere: ids of scoring records that are not of it.

    compiled: functions that are kept as machine code; None where the engine keeps none of its own. free: bytes, on the
    disks of data and runs. commands: what to type, and what each does.
    """

    schema: int = SCHEMA
    benchmark: str
    scoring: bool
    engine: str
    device: str
    threads: int
    precision: str
    work: Work
    registered: bool
    seeds: list[PlannedSeed]
    recorded_elsewhere: list[str]
    time: Time
    data: list[StoredData]
    disk: estimate.Disk
    free: dict[str, int]
    compiled: int | None
    commands: list[tuple[str, str]]


def plan(asked: Asked) -> Plan:
    """Find out what a benchmark would take.

    Raises:
        DataError: stored data that cannot be read.
        RegistryError: a file of registered groups that is damaged.
    """
    recipe, choice = asked.recipe, asked.choice
    group, seeds, elsewhere = seeds_of(asked)
    data = _data(recipe, asked.data_root)
    return Plan(
        benchmark=recipe.id,
        scoring=recipe.scoring,
        engine=choice.engine,
        device=choice.device,
        threads=asked.threads,
        precision=asked.precision,
        work=Work(
            epochs=recipe.train.epochs,
            steps_per_epoch=steps_per_epoch(recipe),
            steps=estimate.training_steps(recipe),
            batch_size=recipe.train.batch_size,
            multiply_adds=estimate.multiply_adds(recipe),
        ),
        registered=group is not None,
        seeds=seeds,
        recorded_elsewhere=elsewhere,
        time=_time(asked, seeds),
        data=data,
        disk=estimate.disk(recipe),
        free={"data": _free(asked.data_root), "runs": _free(asked.runs_root)},
        compiled=_compiled(choice.engine),
        commands=_commands(asked, seeds, data),
    )


# -- seeds -------------------------------------------------------------------------------------------------------------


def seeds_of(asked: Asked) -> tuple[Registration | None, list[PlannedSeed], list[str]]:
    """The registered group, if there is one; the seeds that are wanted; scoring records of the recipe beside it."""
    recipe = asked.recipe
    begun = _begun(asked)
    if not recipe.scoring:
        return None, [_planned(SEEDS[0], "new", None, begun)], []
    found = registry.read_all(asked.registry, lambda _: None, recipe.id)  # what is wrong with others, `verify` says
    records = [record for _, record in found]
    group = _group(asked)
    if group is None:
        elsewhere = [record.id for record in records if _is_of(record, asked)]
        seeds = SEEDS[: asked.size or USUAL_SIZE]
        return None, [_planned(seed, "new", None, begun) for seed in seeds], elsewhere
    seeds_there = members(group, records).seeds
    planned = [_planned(seed.seed, seed.state, seed.run.id if seed.run else None, begun) for seed in seeds_there]
    if asked.size == group.extended_size and not group.is_extended:
        planned += [_planned(seed, "new", None, begun) for seed in SEEDS[len(planned) : asked.size]]
    own = {seed.record for seed in planned}
    return group, planned, [record.id for record in records if _is_of(record, asked) and record.id not in own]


def _planned(seed: int, state: str, record: str | None, begun: dict[int, LocalRun]) -> PlannedSeed:
    run = begun.get(seed) if record is None else None
    if run is None:
        return PlannedSeed(seed=seed, state=state, record=record)
    return PlannedSeed(seed=seed, state=state, run=run.name, epoch=run.epoch, running=run.state == "running")


def _group(asked: Asked) -> Registration | None:
    """The latest registered group of this recipe, engine and precision; its data are those of the machine, unproved."""
    what = (asked.recipe.digest, asked.choice.engine, asked.precision)
    groups = registered.read(asked.registry, asked.recipe.id)
    fits = [group for group in groups if (group.key.digest, group.key.engine, group.key.precision) == what]
    return fits[-1] if fits else None


def _is_of(record: Record, asked: Asked) -> bool:
    what = (record.recipe.digest, record.engine.name, record.engine.precision)
    return record.recipe.scoring and what == (asked.recipe.digest, asked.choice.engine, asked.precision)


def _begun(asked: Asked) -> dict[int, LocalRun]:
    """Local runs of the same settings, engine and precision that are not over, the latest of each seed."""
    recipe, found = asked.recipe, {}
    wanted = (named_settings(recipe.settings, recipe.stated), asked.choice.engine, asked.precision)
    for path in run_folders(asked.runs_root, recipe.id):
        run = local_run(path, asked.registry)
        if run.state in ("running", "interrupted") and run.seed is not None:
            manifest = manifest_of(path)
            if (manifest.settings, manifest.engine, manifest.precision) == wanted:
                found[run.seed] = run
    return found


# -- time, disk, what is there -----------------------------------------------------------------------------------------


def _time(asked: Asked, seeds: Sequence[PlannedSeed]) -> Time:
    recipe, choice = asked.recipe, asked.choice
    machine = Machine.here(choice.engine, choice.device, asked.threads, asked.precision)
    epochs = recipe.train.epochs
    epochs_missing = sum(epochs - seed.epoch for seed in seeds if seed.is_missing)
    found = measured(recipe, machine, asked.runs_root, asked.registry)
    if found is not None:
        seconds, source = (found.epoch_seconds * epochs,) * 2, f"the median of {found.epochs} epochs of {found.of}"
    else:
        try:
            speed = estimate.machine_speed(recipe, choice.engine, choice.device, asked.threads, asked.precision)
        except EngineError as error:
            return Time(kind="unknown", source=str(error))
        seconds = estimate.projected_seconds(recipe, speed, choice.engine, choice.device)
        source = f"{speed.gflops:,.0f} GFLOP/s of matrix products and {speed.copy:,.1f} GB/s of copies, measured now"
        if (load := os.getloadavg()[0]) >= usable_cores():
            source += f", beside a load of {load:.1f}"
    least, most = (second * epochs_missing / epochs for second in seconds)
    return Time(kind="measured" if found else "projected", source=source, run=seconds, missing=(least, most))


def _data(recipe: Recipe, root: Path) -> list[StoredData]:
    """The files that `reproduce` would train from: the published images, and their preprocessing if that is stored."""
    dataset, preprocessing = recipe.data.dataset, recipe.data.preprocessing
    variants = [preprocessing] if preprocessing in data_prep.variants(dataset) else []
    found = []
    for variant in (None, *variants):
        prepared = data_prep.status(dataset, root, variant)
        size = estimate.data_bytes(recipe, stored_preprocessing=variant is not None)
        found.append(
            StoredData(
                name=f"{dataset} {variant}" if variant else dataset,
                prepared=prepared is not None,
                bytes=prepared.bytes if prepared else size,
            )
        )
    return found


def _free(folder: Path) -> int:
    """Bytes free on the disk of a folder, or of what is there above it."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if os.path.isdir(path))).free


def _compiled(engine: str) -> int | None:
    """How many functions of an engine's present sources are kept as machine code; None if that is not known."""
    if engine not in KEPT:
        return None
    folder = importlib.import_module(KEPT[engine]).find_kept()
    return len(list(folder.iterdir())) if folder else 0


# -- commands ----------------------------------------------------------------------------------------------------------


def _commands(asked: Asked, seeds: Sequence[PlannedSeed], data: Sequence[StoredData]) -> list[tuple[str, str]]:
    """What to type, and what it does, in order."""
    recipe = asked.recipe
    reproduce = " ".join(["python cli.py reproduce", recipe.id, *asked.options])
    missing = [seed for seed in seeds if seed.is_missing]
    new = [seed for seed in missing if seed.run is None]
    found = []
    if not all(file.prepared for file in data):  # a preprocessing that is stored prepares the images first
        dataset, _, variant = data[-1].name.partition(" ")
        prepare = f"python cli.py prepare {dataset}{f' --variant {variant}' if variant else ''}"
        found.append((prepare, "fetch and store the data, as `reproduce` would"))
    for seed in missing:
        if seed.run and not seed.running:
            found.append((f"python cli.py resume {seed.run}", f"go on with seed {seed.seed} after epoch {seed.epoch}"))
    if not recipe.scoring:
        return [*found, (reproduce, "one run, which does not score")] if new else found
    if new:
        of_seed = "" if new[0].seed == SEEDS[0] else f" --seed {new[0].seed}"
        found.append((f"{reproduce}{of_seed}", "one run"))
    if missing:
        what = "all of the group" if len(new) == len(seeds) else "all that is missing"
        found.append((f"{reproduce} --seeds {len(seeds)}", f"{what}, one run after the other, and the verdict"))
    return [*found, (f"python cli.py check {recipe.id}", "the verdict, with every number")]
