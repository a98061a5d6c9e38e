"""What a regression run finds: one figure a benchmark and kind, and the exit code that they come to."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

SCHEMA = 1  # of reports as JSON
Kind = Literal["bits", "accuracy", "speed", "memory", "registry"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# "alarm": confirmed. "not comparable": the reference is of another engine, version, thread count or processor, said in
# `detail`. "not measured": something failed before there was a figure.
Word = Literal["ok", "alarm", "not comparable", "not measured"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. measured, expected: as text, with units; excess: how far beyond what is allowed, in units of that
    (1 is the limit; 0 where that means nothing): the worst comes first. benchmark: "" of the registry."""

    benchmark: str
    kind: Kind
    engine: str
    word: Word
    measured: str = ""
    expected: str = ""
    excess: float = 0.0
    detail: str = ""
    seconds: float = 0.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. commit: None where none is known; changed: files of code differ from that commit's; left_out:
    benchmarks that the change cannot touch, and why."""

    schema: int = SCHEMA
    engine: str
    commit: str | None
    processor: str
    seconds: float
    figures: list[Figure]
    left_out: dict[str, str] = {}
    changed: bool = False

    @property
    def exit_code(self) -> int:
        """0, 5 an alarm, 1 something failed, 6 nothing was compared or references are stale; the first of 5, 1, 6.

        A registry that is as it was says nothing of benchmarks of which none could be compared.
        """
        words = {figure.word for figure in self.figures}
        if "alarm" in words:
            return 5
        if "not measured" in words:
            return 1
        of_benchmarks = {figure.word for figure in self.figures if figure.kind != "registry"}
        return 0 if "ok" in (of_benchmarks or words) and not self.stale else 6

    @property
    def stale(self) -> list[str]:
        """Benchmarks whose bits cannot be compared where those of others can: so it is not for the machine.

        Their references are of another state, or are not there: no machine would ever compare them.
        """
        bits = [figure for figure in self.figures if figure.kind == "bits"]
        if not any(figure.word == "ok" for figure in bits):
            return []
        return [figure.benchmark for figure in bits if figure.word == "not comparable"]
