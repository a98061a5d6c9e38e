"""What was measured beside its reference: suspects after the first process, figures after those that confirm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.machine.facts import cpu_model
from benchmarks.regress import rules
from benchmarks.regress.budgets import budget_of
from benchmarks.regress.figures import Figure, Kind, Word
from benchmarks.regress.measure import Measured
from benchmarks.regress.reference import Benchmark, Origin, Reference
from results.statistics import student_t_quantile

FIRST_REFERENCE = (
    "no reference yet: `python cli.py regress --engine {engine} --only {benchmark} --update --reason TEXT` measures one"
)
MEASURED_TWICE: tuple[Kind, ...] = ("accuracy", "speed", "memory")  # before there is an alarm


def not_comparable(kind: Kind, engine: str, measured: Measured, found: tuple[Benchmark, Origin] | None) -> str | None:
    """Why a benchmark's figure of a kind cannot be compared with the reference; None: it can."""
    if found is None:
        return FIRST_REFERENCE.format(engine=engine, benchmark=measured.benchmark)
    reference, origin = found
    if kind == "accuracy":
        here = budget_of(measured.benchmark)
        return None if here == reference.budget else f"the budget is {here}, that of the reference {reference.budget}"
    if kind == "speed":
        processor = cpu_model()
        if processor != origin.processor:
            return f"processor {processor} here, {origin.processor} in the reference"
        return None
    differing = [
        f"{name} {measured.factors.get(name, 'none')} here, {origin.factors.get(name, 'none')} in the reference"
        for name in sorted(measured.factors)
        if measured.factors.get(name) != origin.factors.get(name)
    ]
    return "; ".join(differing) or None


def suspects(reference: Reference, first: Mapping[str, Measured], kinds: Sequence[Kind]) -> dict[str, list[Kind]]:
    """Benchmark -> the kinds of which it must be measured again."""
    found: dict[str, list[Kind]] = {}
    for name, measured in first.items():
        compared = [
            kind
            for kind in kinds
            if kind in MEASURED_TWICE
            and not measured.failed
            and not_comparable(kind, reference.engine, measured, reference.of(name)) is None
        ]
        asked = [kind for kind in compared if _is_suspect(kind, reference.benchmarks[name], measured)]
        if asked:
            found[name] = asked
    return found


def _is_suspect(kind: Kind, reference: Benchmark, measured: Measured) -> bool:
    if kind == "accuracy":
        return rules.is_suspect(_band(reference), _losses(measured))
    return _excess(kind, reference, measured) > 1


def _band(reference: Benchmark) -> rules.Band:
    return rules.Band.of([score.loss for score in reference.scores if score.loss is not None])


def _losses(measured: Measured) -> list[float | None]:
    return [score.loss for score in measured.scores]


def _excess(kind: Kind, reference: Benchmark, measured: Measured) -> float:
    """How far speed or memory is beyond the reference's, in units of what is allowed."""
    if kind == "speed":
        return rules.slowdown(reference.speed, measured.speed)
    assert measured.memory is not None
    return (measured.memory / reference.memory - 1) / rules.LARGER


# -- figures -----------------------------------------------------------------------------------------------------------


def figures(
    engine: str,
    reference: Reference,
    first: Mapping[str, Measured],
    second: Mapping[str, Measured],
    kinds: Sequence[Kind],
) -> list[Figure]:
    """A figure of each benchmark and kind."""
    judged = _Judged(engine, reference, first, second)
    return [judged.figure(name, kind) for name in sorted(first) for kind in kinds]


class _Judged:
    """Both measurements of all benchmarks."""

    def __init__(
        self, engine: str, reference: Reference, first: Mapping[str, Measured], second: Mapping[str, Measured]
    ) -> None:
        self._engine, self._reference, self._first, self._second = engine, reference, first, second
        self._bands = {
            name: _band(found[0])
            for name, measured in first.items()
            if measured.scores
            and (found := reference.of(name)) is not None
            and not_comparable("accuracy", engine, measured, found) is None
        }
        confirmed = {
            name: _losses(one)
            for name, one in second.items()
            if name in self._bands and len(one.scores) == rules.CONFIRMING_SEEDS
        }
        screened = {name: _losses(first[name]) for name in self._bands}
        self._alarms = rules.alarms(self._bands, screened, confirmed)

    def figure(self, name: str, kind: Kind) -> Figure:
        measured, again = self._first[name], self._second.get(name)
        failed = measured.failed or (again.failed if again is not None else None)
        if failed:
            return self._made(name, kind, "not measured", detail=failed)
        if kind == "accuracy" and measured.miscounted:  # which needs no reference
            return self._made(name, kind, "alarm", measured=measured.miscounted)
        found = self._reference.of(name)
        complaint = not_comparable(kind, self._engine, measured, found)
        if kind == "bits":
            return self._bits(measured, found, complaint)
        if complaint is not None or found is None:
            return self._made(name, kind, "not comparable", detail=complaint or "")
        if kind == "accuracy":
            return self._accuracy(name, measured, again)
        return self._cost(kind, found[0], measured, again)

    def _made(self, name: str, kind: Kind, word: Word, **fields: object) -> Figure:
        return Figure(
            benchmark=name,
            kind=kind,
            engine=self._engine,
            word=word,
            seconds=self._first[name].seconds,
            **fields,  # type: ignore[arg-type]
        )

    def _bits(self, measured: Measured, found: tuple[Benchmark, Origin] | None, complaint: str | None) -> Figure:
        if found is None:
            return self._made(
                measured.benchmark, "bits", "not comparable", measured=f"state {measured.bits}", detail=complaint or ""
            )
        reference = found[0]
        differing = _other_bits(reference, measured, comparable=complaint is None)
        word: Word = "alarm" if differing else "ok" if complaint is None else "not comparable"
        return self._made(
            measured.benchmark,
            "bits",
            word,
            measured=f"state {measured.bits}, draws {measured.draws}",
            expected=f"state {reference.bits}, draws {reference.draws}",
            detail=differing or complaint or "",
        )

    def _accuracy(self, name: str, measured: Measured, again: Measured | None) -> Figure:
        band, decides = self._bands[name], again if again is not None and len(again.scores) > 1 else measured
        losses = _losses(decides)
        alpha = rules.ALPHA / len(self._bands)
        low, high = band.limits(len(losses), alpha)
        seeds = f"seeds {decides.scores[0].seed} to {decides.scores[-1].seed}"
        limit = student_t_quantile(1 - alpha / 2, band.seeds - 1)
        is_alarm = name in self._alarms
        return self._made(
            name,
            "accuracy",
            "alarm" if is_alarm else "ok",
            measured=f"loss {rules.geometric_mean(losses):.4g}",
            expected=f"{low:.4g} to {high:.4g}",
            excess=min(abs(band.statistic(losses)) / limit, 1e6),
            detail=f"{'confirmed: ' if is_alarm else ''}geometric mean of {seeds}",
        )

    def _cost(self, kind: Kind, reference: Benchmark, measured: Measured, again: Measured | None) -> Figure:
        excess = _excess(kind, reference, measured)
        confirms = again is not None and (again.speed if kind == "speed" else again.memory is not None)
        if excess > 1 and again is not None and confirms:  # the better one counts: it is an alarm if both are
            second = _excess(kind, reference, again)
            measured, excess = (again, second) if second < excess else (measured, excess)
        if kind == "speed":
            here, before = min(measured.speed), min(reference.speed)
            allowed = 1 + rules.allowed_slowdown(reference.speed)
            texts = (f"{here:.4g} matrix products", f"{before:.4g}, at most {before * allowed:.4g}")
        else:
            assert measured.memory is not None
            at_most = reference.memory * (1 + rules.LARGER)
            texts = (f"{measured.memory:.0f} MiB", f"{reference.memory:.0f} MiB, at most {at_most:.0f} MiB")
        word: Word = "alarm" if excess > 1 else "ok"
        return self._made(
            measured.benchmark,
            kind,
            word,
            measured=texts[0],
            expected=texts[1],
            excess=excess,
            detail=f"confirmed in {'two other processes' if kind == 'speed' else 'a second process'}"
            if word == "alarm"
            else "",
        )


def _other_bits(reference: Benchmark, measured: Measured, *, comparable: bool) -> str | None:
    """What is not as it was before training, or after some steps; of what is `comparable` to the last bit only there.

    The images' statistics and the first loss are the same to some digits on every machine, and most draws to the bit.
    """
    assert measured.first_loss is not None
    if rules.is_other_data(reference.data, measured.data):
        of = "mean, deviation and spread of the images' means"
        return f"{of} of training, validation and test images are {measured.data}, not {tuple(reference.data)}"
    if (comparable or measured.exact_data) and measured.draws != reference.draws:
        return "data, orders, crops or learning rates are not those of the reference"
    if abs(measured.first_loss - reference.first_loss) > rules.OTHER_LOSS * abs(reference.first_loss):
        return f"the first loss, before any update, is {measured.first_loss:.6g}, not {reference.first_loss:.6g}"
    if comparable and measured.bits != reference.bits:
        return "training computes other bits"
    return None
