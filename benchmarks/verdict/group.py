"""The verdict on a registered group of runs: a table of rules over the numbers of results/statistics.py.

The question: does the expected test error of the recipe, over seeds, on this test set, lie within the margin around the
published one? It is answered by two one-sided tests; docs/verdicts.md says it for readers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from benchmarks.recipe import Target
from results import statistics
from results.entries import Run
from results.groups import Group
from results.members import Members, Seed
from results.record import first_bits
from results.registered import Registration
from results.statistics import Interval, Variance

GROUP_RULE = 1  # goes up when what follows changes, so that a verdict that somebody quoted can be told from today's
TWO_LOOKS = {True: 0.037, False: 0.029}  # one-sided level of each of two looks: with the images' seed noise, without
DIVERGED_SHARE = 0.1  # more diverged runs than that block "reproduced": any of five, a second one of ten

GroupWord = Literal[
    "reproduced", "reproduced, and better", "suspiciously good", "not reproduced", "inconclusive", "interim",
    "provisional", "superseded", "no published target", "not measured",
]  # fmt: skip


class Bounds(NamedTuple):
    """The interval of the expected error, and the claim - + margin; numbers, or arrays of many simulations."""

    lower: Any
    upper: Any
    floor: Any
    ceiling: Any


# At most one holds; else the verdict is "inconclusive".
RULES: tuple[tuple[GroupWord, Callable[[Bounds], Any]], ...] = (
    ("reproduced", lambda b: (b.lower >= b.floor) & (b.upper <= b.ceiling)),
    ("reproduced, and better", lambda b: (b.upper <= b.ceiling) & (b.lower < b.floor) & (b.upper >= b.floor)),
    ("suspiciously good", lambda b: b.upper < b.floor),
    ("not reproduced", lambda b: b.lower > b.ceiling),
)
REPRODUCED = ("reproduced", "reproduced, and better")


class SeedState(msgspec.Struct, frozen=True, kw_only=True):
    """One seed: how far it got, and the error (percent) and the record where there are."""

    seed: int
    state: str
    test_error: float | None = None
    record: str | None = None
    event: str = ""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the finished runs say of the expected error, in percent.

    deviation: of the runs, ddof 1; None of one. independent_deviation: the seed noise that follows from the images
    (`results.statistics.independent_deviation`), None where the runs count other images or are one; is_independent:
    whether the deviation is no more than that explains, else it is not used. variance (percent squared), degrees:
    pooled of both. binomial_error: what other test images would change; shown, and no part of anything.
    """

    runs: int
    mean: float
    binomial_error: float
    deviation: float | None = None
    independent_deviation: float | None = None
    is_independent: bool | None = None
    variance: float | None = None
    degrees: float | None = None


class GroupVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of one group, with every number it is made of; errors, margin and interval in percent.

    one_sided: level of each of the two tests; look, looks: which of how many this is. diverged_interval: 95 %, of the
    probability that a run diverges. more_seeds: about how many would decide, None if none would or none are needed;
    more_hours: on machines as the runs'. plausible_single_run: whether the claim lies within the 95 % prediction
    interval of one run. best_epoch_mean: of the lowest test errors of any epoch, the result only where the claim was
    chosen so (selection "best_test" or "first_best_test"); last_epoch_mean: of the last epochs' errors. p_value: of the
    test that the word rests on, at the level of one look; holm: the same within a family of verdicts.
    """

    rule: int = GROUP_RULE
    benchmark: str
    engine: str
    precision: str
    digest: str
    registered: str | None
    word: GroupWord
    reason: str = ""
    claim: float | None = None
    decimals: int = 2
    margin: float | None = None
    estimate: Estimate | None = None
    interval: Interval | None = None
    one_sided: float = statistics.ONE_SIDED
    look: int = 1
    looks: int = 1
    seeds: list[SeedState] = []
    diverged: int = 0
    diverged_interval: Interval | None = None
    more_seeds: int | None = None
    more_hours: float | None = None
    machine: str = ""
    plausible_single_run: bool | None = None
    selection: str = ""
    best_epoch_mean: float | None = None
    last_epoch_mean: float | None = None
    p_value: float | None = None
    holm: float | None = None
    left_out: list[dict[str, Any]] = []
    notes: list[str] = []

    @property
    def counts_as(self) -> GroupWord:
        """The word, unless Holm's correction within the family takes it back."""
        is_lost = self.holm is not None and self.holm > statistics.ONE_SIDED
        return "inconclusive" if is_lost else self.word


def word_of(bounds: Bounds) -> GroupWord:
    """The one word whose rule holds."""
    return next((word for word, holds in RULES if holds(bounds)), "inconclusive")


def estimate(runs: Sequence[Run]) -> Estimate | None:
    """Of finished runs; None without any."""
    counted = [run.results.counted for run in runs if run.results is not None]
    if not counted:
        return None
    errors, images = [one.test_error for one in counted], counted[0].test_images
    n, mean = len(errors), sum(sorted(errors)) / len(errors)
    binomial = statistics.binomial_standard_error(mean / 100 * images, images)
    if n == 1:
        return Estimate(runs=n, mean=mean, binomial_error=binomial)
    sample = sum((error - mean) ** 2 for error in sorted(errors)) / (n - 1)
    outcomes = _outcomes(runs)
    independent = holds = None
    if outcomes is not None:
        independent = statistics.independent_deviation(statistics.differing_share(outcomes, images), images)
        holds = statistics.is_independent(sample, n, independent)
    prior = statistics.PRIOR_DEGREES if holds else 0
    variance = statistics.pooled_variance(sample, n, independent or 0.0, prior)
    return Estimate(
        runs=n, mean=mean, binomial_error=binomial, deviation=sample**0.5, independent_deviation=independent,
        is_independent=holds, variance=variance.value, degrees=variance.degrees,
    )  # fmt: skip


def _outcomes(runs: Sequence[Run]) -> list[int] | None:
    """The outcomes of each run: a number with a bit for each counted image; None if a run has none."""
    found = []
    for run in runs:
        if run.test_correct is None or run.results is None:
            return None
        found.append(first_bits(run.test_correct, run.data.test.images, run.results.counted.test_images))
    return found


def judge_group(group: Registration, found: Members, target: Target | None) -> GroupVerdict:
    """The verdict on a registered group, by what there is of it now.

    The last look whose seeds are all there decides. Before, the word is "interim"; so it is between two looks, if the
    first decided nothing.
    """
    first = [seed for seed in found.seeds if seed.seed in group.first_seeds]
    all_there, first_there = _are_there(found.seeds), _are_there(first)
    is_first_look = group.is_extended and first_there and not all_there
    verdict = _judge(group, first if is_first_look else found.seeds, target)
    if not all_there and not (is_first_look and verdict.word not in ("inconclusive", "no published target")):
        missing = sum(not _are_there([seed]) for seed in found.seeds)
        is_begun = any(seed.state != "registered" for seed in found.seeds)
        reason = f"{missing} of {len(found.seeds)} registered seeds are missing"
        reason += "; the first look decided nothing" if is_first_look else ""
        word: GroupWord = "interim" if is_begun else "not measured"
        verdict = msgspec.structs.replace(
            _judge(group, found.seeds, target), word=word, reason=reason, p_value=None, more_seeds=None, more_hours=None
        )
    left_out = [{"record": run.id, "seed": run.seed, "reason": reason} for run, reason in found.left_out]
    return msgspec.structs.replace(
        verdict, look=2 if all_there and group.is_extended else 1, seeds=[_state(seed) for seed in found.seeds],
        left_out=left_out, notes=_notes([seed.run for seed in found.seeds if seed.run is not None]),
    )  # fmt: skip


def judge_unregistered(group: Group, target: Target | None) -> GroupVerdict:
    """Of runs whose seeds nobody registered before: provisional, whatever they say. No interval is looked at."""
    measured = estimate(group.finished)
    word: GroupWord = "no published target" if target is None else "provisional"
    reason, margin = "its seeds were not registered before the first run", None
    if measured is not None and target is not None:
        margin = _margin(target, group.finished)
        inside = abs(measured.mean - target.percent) <= margin
        reason = f"{'within' if inside else 'not within'} the margin; {reason}"
    states = [SeedState(seed=r.seed, state=r.outcome, test_error=_error(r), record=r.id) for r in group.runs]
    return GroupVerdict(
        benchmark=group.key.benchmark, engine=group.key.engine, precision=group.key.precision, digest=group.key.digest,
        registered=None, word=word, reason=reason, claim=None if target is None else target.percent,
        decimals=_decimals(target, group.runs), margin=margin, estimate=measured, seeds=states,
        diverged=len(group.runs) - len(group.finished), selection=_selection(group.runs),
        best_epoch_mean=_mean_at("best_test", group.finished), last_epoch_mean=_mean_at("last", group.finished),
        notes=_notes(group.runs),
        left_out=[{"record": r.id, "seed": r.seed, "reason": "a repetition of its seed"} for r in group.repetitions],
    )  # fmt: skip


def _judge(group: Registration, seeds: Sequence[Seed], target: Target | None) -> GroupVerdict:
    """The verdict if exactly these seeds were registered, and all have been run."""
    ended = [seed.run for seed in seeds if seed.run is not None and _are_there([seed])]
    runs = [seed.run for seed in seeds if seed.run is not None and seed.state == "finished"]
    measured, diverged = estimate(runs), len(ended) - len(runs)
    verdict = GroupVerdict(
        benchmark=group.key.benchmark, engine=group.key.engine, precision=group.key.precision, digest=group.key.digest,
        registered=group.time, word="no published target", looks=1 + group.is_extended, estimate=measured,
        claim=None if target is None else target.percent, decimals=_decimals(target, ended), diverged=diverged,
        diverged_interval=statistics.clopper_pearson(diverged, len(ended)) if ended else None,
        selection=_selection(ended), best_epoch_mean=_mean_at("best_test", runs),
        last_epoch_mean=_mean_at("last", runs), machine=_machine(runs),
    )  # fmt: skip
    if target is None:
        return verdict
    if measured is None or measured.variance is None or measured.degrees is None:
        word, reason = _of_one_or_none(measured, diverged, target, runs)
        margin = _margin(target, runs) if runs else None
        return msgspec.structs.replace(verdict, word=word, reason=reason, margin=margin)
    level = TWO_LOOKS[bool(measured.is_independent)] if group.is_extended else statistics.ONE_SIDED
    variance, margin = Variance(measured.variance, measured.degrees), _margin(target, runs)
    interval = statistics.interval(measured.mean, variance, measured.runs, level)
    bounds = Bounds(*interval, target.percent - margin, target.percent + margin)
    word, reason = word_of(bounds), ""
    p_value = _p_value(word, measured.mean, variance, measured.runs, bounds)
    if variance.value == 0:
        word, reason = "inconclusive", "all runs got the very same images right: the seed changes nothing"
    elif word in REPRODUCED and diverged > DIVERGED_SHARE * len(ended):
        word, reason = "inconclusive", f"{diverged} of {len(ended)} runs diverged, which is a failure of the method"
    distance = measured.mean - target.percent
    wanted = word == "inconclusive" and not reason
    more = statistics.more_runs(distance, margin, variance, measured.runs) if wanted else None
    return msgspec.structs.replace(
        verdict, word=word, reason=reason, margin=margin, interval=interval, one_sided=level, more_seeds=more,
        more_hours=None if more is None else more * _hours(runs),
        plausible_single_run=abs(distance) <= statistics.plausible_distance(variance, measured.runs),
        p_value=None if p_value is None or word == "inconclusive" else min(1.0, p_value * statistics.ONE_SIDED / level),
    )  # fmt: skip


def _of_one_or_none(
    measured: Estimate | None, diverged: int, target: Target, runs: Sequence[Run]
) -> tuple[GroupWord, str]:
    if diverged:
        return "not reproduced", f"{diverged} of {diverged + len(runs)} runs diverged"
    if measured is None:
        return "not measured", ""
    inside = abs(measured.mean - target.percent) <= _margin(target, runs)
    return "provisional", f"one seed, {'within' if inside else 'not within'} the margin"


def _p_value(word: GroupWord, mean: float, variance: Variance, runs: int, bounds: Bounds) -> float | None:
    """The p-value of the test that a word rests on; of two one-sided tests the larger one."""
    below_ceiling = statistics.tail(bounds.ceiling - mean, variance, runs)
    above_floor = statistics.tail(mean - bounds.floor, variance, runs)
    return {
        "reproduced": max(below_ceiling, above_floor),
        "reproduced, and better": below_ceiling,
        "suspiciously good": statistics.tail(bounds.floor - mean, variance, runs),
        "not reproduced": statistics.tail(mean - bounds.ceiling, variance, runs),
    }.get(word)


def in_family(verdicts: Sequence[GroupVerdict]) -> list[GroupVerdict]:
    """The verdicts with Holm's correction: of those that rest on a test, the adjusted p-value."""
    tested = [i for i, verdict in enumerate(verdicts) if verdict.p_value is not None]
    adjusted = dict(zip(tested, statistics.holm([verdicts[i].p_value or 0.0 for i in tested]), strict=True))
    return [msgspec.structs.replace(verdict, holm=adjusted.get(i)) for i, verdict in enumerate(verdicts)]


def _are_there(seeds: Sequence[Seed]) -> bool:
    return all(seed.state in ("finished", "diverged") for seed in seeds)


def _state(seed: Seed) -> SeedState:
    run = seed.run
    error, record = (None, None) if run is None else (_error(run), run.id)
    return SeedState(seed=seed.seed, state=seed.state, test_error=error, record=record, event=seed.event)


def _error(run: Run) -> float | None:
    return None if run.results is None or run.outcome != "finished" else run.results.counted.test_error


def _margin(target: Target, runs: Sequence[Run]) -> float:
    results = runs[0].results
    assert results is not None
    return target.margin(results.counted.test_images)


def _decimals(target: Target | None, runs: Sequence[Run]) -> int:
    return target.decimals if target is not None else runs[0].target.decimals if runs else 2


def _selection(runs: Sequence[Run]) -> str:
    return runs[0].recipe.selection if runs else ""


def _mean_at(point: str, runs: Sequence[Run]) -> float | None:
    """The mean test error of the runs' "last" or "best_test" epoch."""
    errors = [getattr(run.results, point).test_error for run in runs if run.results is not None]
    return sum(sorted(errors)) / len(errors) if errors else None


def _machine(runs: Sequence[Run]) -> str:
    """The processor, if one made all runs."""
    names = {sitting.machine.processor for run in runs for sitting in run.sittings if sitting.machine is not None}
    return names.pop() if len(names) == 1 else ""


def _hours(runs: Sequence[Run]) -> float:
    """What a run takes, in the mean."""
    return sum(sitting.seconds for run in runs for sitting in run.sittings) / len(runs) / 3600


def _notes(runs: Sequence[Run]) -> list[str]:
    """What a reader must know of the runs that entered."""
    notes = [f"seed {run.seed}: mixed {kind}, its sittings had different ones" for run in runs for kind in run.mixtures]
    codes = {sitting.code_sha256 for run in runs for sitting in run.sittings if sitting.code_sha256 is not None}
    if len(codes) > 1:
        notes.append(f"the runs were made by {len(codes)} versions of the code")
    return notes
