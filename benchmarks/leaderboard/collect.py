"""The whole leaderboard: every benchmark of the catalog, every paper, every record of a registry.

The same catalog and registry give the same values: no clock, no machine and no order of files is in them.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import UNSET

from benchmarks.errors import RecipeError
from benchmarks.leaderboard import groups, runs
from benchmarks.leaderboard.images import test_images
from benchmarks.paths import CATALOG
from benchmarks.recipe import Recipe, benchmark_ids, catalog_folder, flatten, load_recipe
from benchmarks.recipe.cost import Cost as Counted
from benchmarks.recipe.cost import cost
from benchmarks.recipe.layerwise import layer_activations, layer_weights
from benchmarks.recipe.networks import NETWORKS
from benchmarks.recipe.settings import DATASETS, setting_text
from benchmarks.recipe.versions import versions
from benchmarks.recipe.words import words_of
from benchmarks.run.published_curve import published_curve
from benchmarks.verdict.every import as_family, judge_all, optimism
from benchmarks.verdict.group import GroupVerdict, judge_unregistered
from benchmarks.version import harness_version
from results import registered
from results.groups import groups as all_groups
from results.members import members
from results.record import Record
from results.registered import Registration
from results.registry import file_content
from results.views.leaderboard import (
    SCHEMA,
    Benchmark,
    Claim,
    Correction,
    Cost,
    Curves,
    Leaderboard,
    Network,
    Paper,
    Setting,
)

README = "README.md"


def leaderboard(
    found: Sequence[tuple[Path, Record]], root: Path, warn: Callable[[str], None], data_root: Path | None = None
) -> Leaderboard:
    """Everything that a site shows of a registry.

    Args:
        found: its records, as `results.registry.read_all` reads them.
        root: of the registry.
        warn: is told of each file that is passed over: of registered groups, or of a benchmark without a record.
        data_root: folder of prepared data; of a set that is there, pages show errors by class and images.
    """
    records = [record for _, record in found]
    again = groups.measured_elsewhere(records, root)
    recipes = _recipes({record.benchmark for record in records}, warn)
    registrations = registered.read_all(root, warn)
    targets = {name: recipe.target for name, recipe in recipes.items()}
    verdicts = as_family(judge_all(records, registrations, targets, list(recipes)))
    of_benchmark: dict[str, list[GroupVerdict]] = defaultdict(list)
    for verdict in [*verdicts, *_before_registration(records, registrations, recipes)]:
        of_benchmark[verdict.benchmark].append(verdict)
    speed = _gigaflops(records, recipes)
    own: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        own[record.benchmark].append(record)
    return Leaderboard(
        schema=SCHEMA,
        harness=harness_version(),
        benchmarks=[
            _benchmark(recipe, of_benchmark[name], own[name], again, speed, data_root)
            for name, recipe in recipes.items()
        ],
        papers=_papers(recipes),
        runs=[runs.run(record, recipes.get(record.benchmark), path, root) for path, record in found],
        corrections=list(_corrections()),
        optimism=optimism(verdicts),
        curves={name: _curves(recipe, own[name]) for name, recipe in recipes.items()},
        files={record.id: file_content(path) for path, record in found},
    )


def _recipes(recorded: Collection[str], warn: Callable[[str], None]) -> dict[str, Recipe]:
    """Those of the catalog. Raises RecipeError if one with records is not as it must be."""
    recipes = {}
    for name in benchmark_ids():
        try:
            recipes[name] = load_recipe(name)
        except RecipeError as error:
            if name in recorded:
                raise
            warn(str(error))
    return recipes


def _before_registration(
    records: Iterable[Record], registrations: Iterable[Registration], recipes: Mapping[str, Recipe]
) -> list[GroupVerdict]:
    """Runs that are older than the registration of their group: what is known as long as none of its own is there."""
    empty = {
        group.key for group in registrations if not any(seed.run is not None for seed in members(group, records).seeds)
    }
    return [
        judge_unregistered(group, recipes[group.key.benchmark].target)
        for group in all_groups(records)
        if group.key in empty and group.key.benchmark in recipes
    ]


def _benchmark(
    recipe: Recipe, verdicts: Sequence[GroupVerdict], own: Sequence[Record], again: Collection[str],
    speed: float | None, data_root: Path | None,
) -> Benchmark:  # fmt: skip
    images = test_images(recipe.data.dataset, data_root) if own and data_root is not None else None
    found = [
        groups.group(verdict, own, recipe.digest, images) for verdict in verdicts if verdict.engine != "any engine"
    ]
    main = min(range(len(found)), key=lambda index: groups.rank(found[index], index), default=None)
    shown = {seed.record for seed in found[main].seeds} if main is not None else set()
    sources, absent, counted = recipe.sources, set(recipe.defaults), cost(recipe)
    return Benchmark(
        id=recipe.id,
        title=recipe.title,
        paper=catalog_folder(recipe.id).name,
        data=recipe.data.dataset,
        claim=_claim(recipe),
        network=_network(recipe, counted),
        cost=_cost(counted, [record for record in own if record.id in shown], speed),
        settings=[
            Setting(key=key, value=setting_text(value), source=sources.get(key, ""))
            for key, value in flatten(recipe.settings).items()
            if key in sources or key not in absent
        ],
        tier=groups.tier(None if main is None else found[main], again),
        main=main,
        groups=found,
        command=f"python cli.py reproduce {recipe.id} --seeds 5",
        file=f"benchmarks/catalog/{catalog_folder(recipe.id).name}/{recipe.id}.yaml",
    )


def _claim(recipe: Recipe) -> Claim | None:
    target = recipe.target
    if target is None:
        return None
    return Claim(
        text=target.test_error,
        test_error=target.percent,
        decimals=target.decimals,
        kind=target.provenance,
        source=target.source,
        note=target.note,
        margin=target.margin(DATASETS[recipe.data.dataset].test_images),
    )


def _network(recipe: Recipe, counted: Counted) -> Network:
    model, parameters = recipe.model, counted.parameters
    weights, activations = words_of("model.weights"), words_of("model.activation")
    bits = {weights[word].bits or 32 for word in layer_weights(model)}
    if model.evaluation_weights == "real":  # what is tested is the real-valued network
        bits = {32}
    of_activations = (
        {32} if model.architecture in NETWORKS else {activations[w].bits or 32 for w in layer_activations(model)}
    )
    size = parameters.weights * 4 if bits == {32} else parameters.binary_bytes + 4 * parameters.real_weights
    return Network(
        weight_bits=sorted(bits),
        activation_bits=sorted(of_activations) or [32],
        parameters=parameters.total,
        bytes=size,
        multiply_adds=counted.multiply_adds,
    )


def _cost(counted: Counted, records: Iterable[Record], speed: float | None) -> Cost:
    """What one run takes: as the shown ones took, or as it would at the speed of what ran on a CPU."""
    steps, tera = counted.training_steps, counted.training_flop / 1e12
    finished = [record for record in records if record.outcome == "finished"]
    if finished:
        hours = statistics.median(map(_seconds, finished)) / 3600
        device = ", ".join(sorted({runs.device_of(record) for record in finished}))
        return Cost(steps=steps, training_tflop=tera, hours=hours, is_measured=True, device=device)
    projected = None if speed is None else tera * 1000 / speed / 3600
    return Cost(steps=steps, training_tflop=tera, hours=projected, device="a CPU as those of the records")


def _gigaflops(records: Iterable[Record], recipes: Mapping[str, Recipe]) -> float | None:
    """GFLOP/s of training, evaluation and waiting included: the median over finished scoring runs on CPUs."""
    speeds = [
        cost(recipes[record.benchmark]).training_flop / 1e9 / _seconds(record)
        for record in records
        if record.benchmark in recipes and record.recipe.scoring and record.outcome == "finished"
        if record.engine.device == "cpu" and _seconds(record) > 0
    ]
    return statistics.median(speeds) if speeds else None


def _seconds(record: Record) -> float:
    return record.times.train_seconds + record.times.evaluate_seconds


def _papers(recipes: Mapping[str, Recipe]) -> list[Paper]:
    of_folder: dict[str, list[Recipe]] = defaultdict(list)
    for recipe in recipes.values():
        of_folder[catalog_folder(recipe.id).name].append(recipe)
    return [
        Paper(
            slug=folder,
            name=entries[0].paper.name,
            title=entries[0].paper.title,
            authors=entries[0].paper.authors,
            url=entries[0].paper.url,
            code=entries[0].paper.code,
            story=_story(folder),
            benchmarks=[recipe.id for recipe in entries],
        )
        for folder, entries in sorted(of_folder.items())
    ]


def _story(folder: str) -> str:
    path = CATALOG / folder / README
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _corrections() -> Iterable[Correction]:
    """What later versions of catalog entries changed, oldest first within a benchmark."""
    known = versions()
    for (benchmark, number), version in sorted(known.items()):
        before = known.get((benchmark, number - 1))
        if before is None:
            continue
        parts = []
        if before.test_error != version.test_error:
            parts.append(f"published test error {before.test_error or 'none'} became {version.test_error or 'none'}")
        if before.digest != version.digest:
            parts.append(f"settings corrected: recipe {before.digest[:8]} became {version.digest[:8]}")
        yield Correction(benchmark=benchmark, version=number, what="; ".join(parts) or "description corrected")


def _curves(recipe: Recipe, records: Iterable[Record]) -> Curves:
    digest = recipe.digest
    own = [record for record in records if record.recipe.digest == digest and record.recipe.scoring]
    by_validation = bool(recipe.data.valid_images)
    return Curves(
        of="validation" if by_validation else "test",
        runs={
            record.id: list(record.curve.valid_error)
            if record.curve.valid_error is not UNSET
            else list(record.curve.test_error)
            for record in own
        },
        authors=published_curve(recipe),
    )
