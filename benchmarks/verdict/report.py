"""A group's verdict as people read it: one sentence without statistics, then the numbers, line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmarks.verdict.group import Estimate, GroupVerdict
from results.events import EXTENDED_SIZE
from results.record import BEST_OF_TEST
from results.statistics import ONE_SIDED

# What a word means for somebody who knows no statistics.
MEANING = {
    "reproduced": "Yes: trained anew with other seeds, the network is as good as the paper says.",
    "reproduced, and better": "Yes: it is as good as the paper says, and probably a little better.",
    "suspiciously good": "It is better than the paper says, by more than chance explains: first find out why.",
    "not reproduced": "No: it is worse than the paper says, by more than chance explains.",
    "inconclusive": "Not decided: these runs fit both a yes and a no.",
    "interim": "Not yet: there is no verdict before all registered seeds have been run.",
    "provisional": "A first look: a verdict needs seeds that are registered before the first run.",
    "superseded": "The benchmark was corrected since these runs: nothing of today's is judged by them.",
    "no published target": "The paper has no number to compare with: what was measured is recorded.",
    "not measured": "Nothing was measured yet.",
}
# The same where the mean is far from the claim, but seeds differ by so much more than the margin supposes that a single
# run of ours may have it.
SCATTERED = "but seeds differ so much that a single run may have its number."
MEANING_OF_SCATTERED_SEEDS = {
    "suspiciously good": f"On average it is better than the paper says, {SCATTERED}",
    "not reproduced": f"No: on average it is worse than the paper says, {SCATTERED}",
}
SELECTIONS = {
    "best_validation": "the epoch of the lowest validation error (of several the last)",
    "first_best_validation": "the epoch of the lowest validation error (of several the first)",
    "last": "the last epoch",
    "best_test": "the epoch of the lowest test error (of several the last)",
    "first_best_test": "the epoch of the lowest test error (of several the first)",
}
UNEXPLAINED = "seeds differ by more than independent errors explain, and it is not used"


def meaning(verdict: GroupVerdict) -> str:
    """The verdict in one sentence, without statistics."""
    usual = MEANING[verdict.word]
    return MEANING_OF_SCATTERED_SEEDS.get(verdict.word, usual) if verdict.plausible_single_run else usual


def lines(verdict: GroupVerdict, here: str = "") -> Iterator[str]:
    """The verdict on a group of runs; every line after the first is indented. `here`: this machine's processor."""
    yield from brief(verdict)
    yield from (f"  {line}" for line in [*_seeds(verdict), *_noise(verdict), *_beside(verdict)])
    yield from (f"  {line}" for line in _further(verdict, here))
    for out in verdict.left_out:
        yield f"  left out: {out['record'][:8]} (seed {out['seed']}): {out['reason']}"
    yield from (f"  note: {note}" for note in verdict.notes)


def brief(verdict: GroupVerdict) -> Iterator[str]:
    """What everybody must know: the sentence, the numbers in one line, the reason, and what Holm's correction says."""
    precision = "" if verdict.precision == "float32" else f", {verdict.precision}"
    registered = f"registered {verdict.registered[:10]}" if verdict.registered else "not registered"
    yield f"{verdict.benchmark} ({verdict.engine}{precision}; {registered}): {meaning(verdict)}"
    yield f"  {summary(verdict)}"
    if verdict.reason:
        yield f"  why: {verdict.reason}"
    if verdict.holm is not None:
        is_kept = "holds" if verdict.counts_as == verdict.word else "does not hold: it counts as inconclusive"
        yield f"  among all verdicts shown (Holm): {is_kept}, p = {verdict.holm:.2g}"


def short(verdict: GroupVerdict) -> str:
    """What it counts as, for a table; of a group that is not complete, with how many of its seeds are there."""
    there = sum(seed.state in ("finished", "diverged") for seed in verdict.seeds)
    word = verdict.counts_as
    return word if there == len(verdict.seeds) else f"{word}, {there} of {len(verdict.seeds)} seeds"


def summary(verdict: GroupVerdict) -> str:
    """In one line: "8.41 +- 0.09 (5 seeds: ...), claim 8.27, margin 0.55, 90 % interval 8.26 to 8.56: reproduced".

    +- is the standard error of the mean, as the interval has it.
    """
    found = verdict.estimate
    if found is None:
        return f"{_claim(verdict)}: {verdict.word}"
    parts = [f"{_percent(verdict, found.mean)}{_error_of_mean(verdict, found)} ({_errors(verdict)})", _claim(verdict)]
    if verdict.margin is not None:
        parts.append(f"margin {_percent(verdict, verdict.margin)}")
    if verdict.interval is not None:
        low, high = (_percent(verdict, end) for end in verdict.interval)
        parts.append(f"{100 * (1 - 2 * verdict.one_sided):g} % interval {low} to {high}")
    return f"{', '.join(parts)}: {verdict.word}"


def _error_of_mean(verdict: GroupVerdict, found: Estimate) -> str:
    if found.variance is None:
        return ""
    return f" +- {_percent(verdict, (found.variance / found.runs) ** 0.5)}"


def _errors(verdict: GroupVerdict) -> str:
    errors = [seed.test_error for seed in verdict.seeds if seed.test_error is not None]
    errors = sorted(errors[: verdict.estimate.runs if verdict.estimate else 0])  # a first look is at the first seeds
    seeds = "1 seed" if len(errors) == 1 else f"{len(errors)} seeds"
    return f"{seeds}: {' '.join(_percent(verdict, error) for error in errors)}"


def _claim(verdict: GroupVerdict) -> str:
    return "no claim" if verdict.claim is None else f"claim {verdict.claim:.{verdict.decimals}f}"


def _seeds(verdict: GroupVerdict) -> Iterator[str]:
    states = Counter(seed.state for seed in verdict.seeds)
    if states:
        yield f"seeds: {', '.join(f'{count} {state}' for state, count in states.items())}"
    for seed in verdict.seeds:
        if seed.event:
            yield f"seed {seed.seed}: {seed.state} {seed.event}"
    if verdict.diverged and verdict.diverged_interval is not None:
        ended = states["finished"] + states["diverged"]
        low, high = (100 * end for end in verdict.diverged_interval)
        yield f"diverged: {verdict.diverged} of {ended}; 95 % interval of the probability {low:.1f} to {high:.1f} %"
    if verdict.looks > 1:
        yield f"looks: {verdict.look} of 2, each test at {verdict.one_sided:g} instead of {ONE_SIDED:g}"


def _noise(verdict: GroupVerdict) -> Iterator[str]:
    """What +- is made of; the two errors that it is not are labelled."""
    found = verdict.estimate
    if found is None:
        return
    if found.deviation is not None:
        yield f"standard deviation over seeds: {_percent(verdict, found.deviation)}"
    if found.independent_deviation is not None:
        check = "fits that" if found.is_independent else UNEXPLAINED
        share = _percent(verdict, found.independent_deviation)
        yield f"as independent errors on the images predict it: {share}; check by chi squared: {check}"
    binomial = _percent(verdict, found.binomial_error)
    yield f"binomial standard error (other test images, no part of the verdict): {binomial}"


def _beside(verdict: GroupVerdict) -> Iterator[str]:
    found = verdict.estimate
    if found is None:
        return
    if verdict.plausible_single_run is not None:
        is_so = "yes" if verdict.plausible_single_run else "no"
        yield f"could the claim be a single run of ours (95 % prediction interval)? {is_so}"
    if verdict.selection in SELECTIONS and verdict.best_epoch_mean is not None:
        yield f"the result is that of {SELECTIONS[verdict.selection]}; {_other_epoch(verdict, verdict.best_epoch_mean)}"
    if verdict.p_value is not None:
        yield f"p-value of the word: {verdict.p_value:.2g}"


def _other_epoch(verdict: GroupVerdict, lowest: float) -> str:
    """What another rule would have made of the same runs."""
    if verdict.selection not in BEST_OF_TEST:
        return f"the lowest of any epoch, never it: {_percent(verdict, lowest)}"
    last = "unknown" if verdict.last_epoch_mean is None else _percent(verdict, verdict.last_epoch_mean)
    return f"so was the claim's, and every look at the test images lowers it; that of the last epoch: {last}"


def _further(verdict: GroupVerdict, here: str) -> Iterator[str]:
    """What would decide it."""
    if verdict.more_seeds is not None and verdict.more_hours is not None:
        where = f"on a machine as that of the runs ({verdict.machine})" if verdict.machine else "on such machines"
        where = "on this machine" if here and here == verdict.machine else where
        yield f"about {verdict.more_seeds} more seeds would decide, about {verdict.more_hours:.1f} hours {where}"
        seeds, extended = len(verdict.seeds), EXTENDED_SIZE.get(len(verdict.seeds))
        if verdict.looks > 1 or extended is None:
            return
        if verdict.more_seeds > extended - seeds:
            yield f"the one extension that is allowed, to {extended} seeds, will probably decide nothing"
        else:
            yield f"`python cli.py reproduce {verdict.benchmark} --seeds {extended}` runs {extended - seeds} more, once"
    elif verdict.word == "inconclusive" and not verdict.reason:
        yield "more seeds would not decide it soon: the mean lies at the edge of the margin or beyond it"
    elif verdict.word in ("interim", "not measured") and verdict.registered:
        yield f"`python cli.py reproduce {verdict.benchmark} --seeds {len(verdict.seeds)}` runs what is missing"
    elif verdict.word == "provisional":
        yield f"`python cli.py reproduce {verdict.benchmark} --seeds 5` registers five seeds and runs them"


def _percent(verdict: GroupVerdict, value: float) -> str:
    """A percentage with one more decimal than the paper gives, as in the table."""
    return f"{value:.{verdict.decimals + 1}f}"
