"""Two runs, or two groups of runs, beside each other: what differs in how they were made, and whether the errors do.

Networks that were tested on the same images are compared image by image (McNemar's exact test): what both get wrong is
hard for everybody, and says nothing of a difference. Of two groups the means are compared too, with the noise that
seeds make. What cannot be compared is not: `obstacles` says why.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from results.groups import key_of
from results.record import Record, counted_images, error_percent, first_bits
from results.statistics import Interval, difference, differing_share, holm, independent_deviation, mcnemar

SCHEMA = 1  # of what `compare --json` prints
CONFIDENCE = 0.95


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One run, or the runs of a group, one a seed.

    errors: percent over the compared images, in the order of `seeds`. images_per_second: of training, the median over
    all epochs.
    """

    name: str
    benchmark: str
    records: list[str]
    seeds: list[int]
    errors: list[float]
    mean: float
    images_per_second: float


class Change(msgspec.Struct, frozen=True):
    """What is not the same on both sides; several values on one side stand beside each other."""

    key: str
    first: str
    second: str


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs on the same images: how many both, one and none get right, and which images only one gets right.

    p_value: McNemar's, exact and two-sided, that networks of equal error disagree as unequally or more; adjusted by
    Holm over all pairs. difference: first - second, in percentage points, with its 95 % interval.
    """

    seeds: tuple[int, int]
    both_right: int
    first_alone: list[int]
    second_alone: list[int]
    both_wrong: int
    p_value: float
    adjusted_p_value: float
    difference: float
    interval: Interval


class MeanDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Of two groups' expected errors over seeds: first - second, in percentage points, with its 95 % interval."""

    value: float
    interval: Interval


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be said of two sides. obstacles: why errors are not compared; there are then no pairs.

    images: how many test images are compared, the first of the set. speed_ratio: images/s of the first by those of the
    second.
    """

    schema: int = SCHEMA
    first: Side
    second: Side
    images: int
    settings: list[Change]
    computing: list[Change]
    data: list[Change]
    obstacles: list[str]
    notes: list[str]
    pairs: list[Pair]
    mean_difference: MeanDifference | None
    speed_ratio: float


def compare(names: tuple[str, str], first: Sequence[Record], second: Sequence[Record]) -> Comparison:
    """Compare runs that have results; each side has one, or those of one group.

    Args:
        names: what a user calls the sides.
        first: one run a seed.
        second: as `first`.
    """
    sides = (first, second)
    images = min(_counted(record) for record in (*first, *second))
    obstacles = list(_obstacles(first[0], second[0]))
    pairs = [] if obstacles else _pairs(first, second, images)
    described = [_side(name, records, images) for name, records in zip(names, sides, strict=True)]
    return Comparison(
        first=described[0],
        second=described[1],
        images=images,
        settings=_changes(*([_settings(record) for record in side] for side in sides)),
        computing=_changes(*([_computing(record) for record in side] for side in sides)),
        data=_changes(*([_data(record) for record in side] for side in sides)),
        obstacles=obstacles,
        notes=list(_notes(first, second, images)),
        pairs=pairs,
        mean_difference=None if obstacles else _mean_difference(first, second, images),
        speed_ratio=described[0].images_per_second / described[1].images_per_second,
    )


# -- the errors --------------------------------------------------------------------------------------------------------


def _obstacles(one: Record, other: Record) -> Iterable[str]:
    """Why the errors of two runs say nothing of each other."""
    tested = [record.data.test for record in (one, other)]
    if tested[0].dataset != tested[1].dataset or tested[0].images != tested[1].images:
        texts = [f"{test.images:,} images of {test.dataset}" for test in tested]
        yield f"they were tested on other images: {texts[0]}, and {texts[1]}"
    if _test_labels(one) != _test_labels(other):
        yield "their test images have other labels: random ones, drawn by the run's seed (data.labels, seed)"
    rules = [record.recipe.settings.get("protocol", {}).get("selection", "best_validation") for record in (one, other)]
    if rules[0] != rules[1]:
        yield f"their epochs were selected by different rules: {rules[0]}, and {rules[1]} (protocol.selection)"


def _test_labels(record: Record) -> int | None:
    """The seed by which the labels of the test images were drawn; None: they are those that were published."""
    return record.seed if record.recipe.settings.get("data", {}).get("labels") == "random" else None


def _counted(record: Record) -> int:
    return counted_images(record.recipe.settings, record.data.test.images)


def _outcomes(record: Record, images: int) -> int:
    """The outcomes of the first images: a number with a bit for each, 1 if it is right, the first image the highest."""
    assert record.test_correct is not None
    return first_bits(record.test_correct, record.data.test.images, images)


def _error(record: Record, images: int) -> float:
    return error_percent(images - _outcomes(record, images).bit_count(), images)


def _pairs(first: Sequence[Record], second: Sequence[Record], images: int) -> list[Pair]:
    """The runs of equal seeds; without any, the first of each side."""
    by_seed = {record.seed: record for record in second}
    matched = [(record, by_seed[record.seed]) for record in first if record.seed in by_seed]
    matched = matched or [(first[0], second[0])]
    pairs = [_pair(one, other, images) for one, other in matched]
    adjusted = holm([pair.p_value for pair in pairs])
    return [msgspec.structs.replace(pair, adjusted_p_value=p) for pair, p in zip(pairs, adjusted, strict=True)]


def _pair(one: Record, other: Record, images: int) -> Pair:
    right, others = _outcomes(one, images), _outcomes(other, images)
    alone = right & ~others, others & ~right
    counts = [bits.bit_count() for bits in alone]
    p_value, value = mcnemar(*counts), 100 * (counts[1] - counts[0]) / images
    # The standard error of a difference of paired shares: only images on which they disagree add to it.
    error = 100 * (sum(counts) - (counts[0] - counts[1]) ** 2 / images) ** 0.5 / images
    half = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return Pair(
        seeds=(one.seed, other.seed),
        both_right=(right & others).bit_count(),
        first_alone=_indices(alone[0], images),
        second_alone=_indices(alone[1], images),
        both_wrong=images - (right | others).bit_count(),
        p_value=p_value,
        adjusted_p_value=p_value,
        difference=value,
        interval=Interval(value - half, value + half),
    )


def _indices(bits: int, images: int) -> list[int]:
    """The positions of the ones, from 0 for the highest of `images` bits."""
    return [index for index, bit in enumerate(f"{bits:0{images}b}") if bit == "1"]


def _mean_difference(first: Sequence[Record], second: Sequence[Record], images: int) -> MeanDifference | None:
    """None where a side has one run only: its noise is then not known."""
    if min(len(first), len(second)) < 2:
        return None
    sides = (first, second)
    means = [statistics.fmean(_error(record, images) for record in side) for side in sides]
    outcomes = [[_outcomes(record, images) for record in side] for side in sides]
    deviations = [independent_deviation(differing_share(of_side, images), images) for of_side in outcomes]
    interval = difference((means[0], means[1]), (deviations[0], deviations[1]), (len(first), len(second)), CONFIDENCE)
    return MeanDifference(value=means[0] - means[1], interval=interval)


# -- what else ---------------------------------------------------------------------------------------------------------


def _side(name: str, records: Sequence[Record], images: int) -> Side:
    errors = [_error(record, images) for record in records]
    speeds = itertools.chain.from_iterable(record.curve.images_per_second for record in records)
    return Side(
        name=name,
        benchmark=records[0].benchmark,
        records=[record.id for record in records],
        seeds=[record.seed for record in records],
        errors=errors,
        mean=statistics.fmean(errors),
        images_per_second=statistics.median(speeds),
    )


def _changes(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[Change]:
    """The keys whose values are not the same on both sides, in the order in which they come."""
    keys = dict.fromkeys(key for values in (*first, *second) for key in values)
    found = [Change(key, _values(first, key), _values(second, key)) for key in keys]
    return [change for change in found if change.first != change.second]


def _values(side: Sequence[Mapping[str, Any]], key: str) -> str:
    return ", ".join(sorted({str(values[key]) if key in values else "-" for values in side}))


def _settings(record: Record) -> dict[str, Any]:
    groups = record.recipe.settings.items()
    return {f"{group}.{key}": value for group, values in groups for key, value in values.items()}


def _computing(record: Record) -> dict[str, Any]:
    """What computed a run, by name; several values where its sittings had different ones."""
    sittings = [sitting for sitting in record.sittings if sitting.last_epoch >= sitting.first_epoch]
    engine, machine = record.engine, record.sittings[-1].machine
    described = {
        "harness": record.harness,
        "commit": " then ".join(dict.fromkeys(f"{s.commit or 'unknown'}{' changed' * s.dirty}" for s in sittings)),
        "code": " then ".join(dict.fromkeys((s.code_sha256 or "unknown")[:16] for s in sittings)),
        "engine": engine.name,
        "precision": engine.precision,
        "device": engine.device,
        "device name": engine.device_name,
        "threads": engine.threads,
        "driver": engine.driver or "-",
    }
    if machine is not None:
        described |= {"processor": machine.processor, "cores": machine.cores}
    described |= {f"version of {name}": version for name, version in sorted(engine.versions.items())}
    return described | {f"determinism, {name}": value for name, value in sorted(engine.determinism.items())}


def _data(record: Record) -> dict[str, Any]:
    splits = {"train": record.data.train, "valid": record.data.valid, "test": record.data.test}
    return {
        "benchmark": record.benchmark,
        "catalog version": record.recipe.version,
        **{f"{name} images": split.images for name, split in splits.items()},
        **{f"{name} digest": split.digest[:16] for name, split in splits.items()},
    }


def _notes(first: Sequence[Record], second: Sequence[Record], images: int) -> Iterable[str]:
    """What a reader must know of the comparison, though it does not forbid it."""
    everything = (*first, *second)
    if any(_counted(record) != images for record in everything) or images < everything[0].data.test.images:
        yield f"compared over the first {images:,} test images, which every run counts"
    if key_of(first[0]) == key_of(second[0]) and {r.id for r in first} & {r.id for r in second}:
        yield "both sides have a run in common: it is compared with itself"
    for records in (first, second):
        if not all(record.recipe.scoring for record in records):
            yield f"{records[0].id}: not the published settings: it scores nowhere"
        if mixed := sorted({kind for record in records for kind in record.mixtures}):
            yield f"{', '.join(record.id for record in records)}: mixed {', '.join(mixed)} within a run"
    machines = [{(r.engine.device_name, r.engine.threads) for r in records} for records in (first, second)]
    if machines[0] != machines[1]:
        yield "speeds are of different machines or thread counts: their ratio compares those too"
