"""What a leaderboard shows, as plain values: made by `benchmarks.leaderboard`, drawn by `results.views.html`.

`Leaderboard` without what only pages need is results.json, the file for other programs: docs/leaderboard.md. Errors are
in percent, times in hours, and a value that there is not is None.
"""

from __future__ import annotations

from typing import Any

import msgspec

SCHEMA = 1  # of results.json; goes up when a field changes its meaning or goes


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a leaderboard."""


class Claim(Part, frozen=True, kw_only=True):
    """What the authors say. text: as printed there; kind: "read", "mem" or "2nd", see docs/verdicts.md."""

    text: str
    test_error: float
    decimals: int
    kind: str
    source: str
    note: str
    margin: float


class Network(Part, frozen=True, kw_only=True):
    """weight_bits, activation_bits: of the layers, the fewest first; bytes: of the weights, quantized ones packed."""

    weight_bits: list[int]
    activation_bits: list[int]
    parameters: int
    bytes: int
    multiply_adds: int


class Cost(Part, frozen=True, kw_only=True):
    """Of one run. hours: measured, the median of the runs that there are, or projected; device: where."""

    steps: int
    training_tflop: float
    hours: float | None = None
    is_measured: bool = False
    device: str = ""


class Seed(Part, frozen=True, kw_only=True):
    """One seed of a group: state as in `python cli.py check`; the record's id where there is one."""

    seed: int
    state: str
    test_error: float | None = None
    record: str | None = None


class Picture(Part, frozen=True, kw_only=True):
    """A test image that every run gets wrong: its number from 0, its class, and a PNG as a data: address."""

    index: int
    label: str
    address: str


class Group(Part, frozen=True, kw_only=True):
    """Runs that may be averaged, and the verdict on them.

    word, meaning, lines: the verdict as a word, as a sentence, and line by line with every number. standard_error: of
    the mean over seeds. interval: of the expected error. always_wrong: test images that every run gets wrong, counted
    from 0; None where the runs have other images. class_errors: of each class the mean over runs, and pictures: some of
    `always_wrong`; where the data are prepared. is_current: of today's settings.
    """

    engine: str
    device: str
    precision: str
    registered: str | None
    is_current: bool
    word: str
    meaning: str
    lines: list[str]
    mean: float | None
    deviation: float | None
    standard_error: float | None
    interval: tuple[float, float] | None
    runs: int
    wanted: int
    seeds: list[Seed]
    last_run: str
    always_wrong: list[int] | None
    class_errors: list[tuple[str, float]] = []
    pictures: list[Picture] = []


class Setting(Part, frozen=True, kw_only=True):
    """One setting of a recipe; the source is empty where the value is the default."""

    key: str
    value: str
    source: str


class Benchmark(Part, frozen=True, kw_only=True):
    """One experiment of a paper. tier: how far its claim was tested, a key of TIERS. main: index of the group shown."""

    id: str
    title: str
    paper: str
    data: str
    claim: Claim | None
    network: Network
    cost: Cost
    settings: list[Setting]
    tier: str
    main: int | None
    groups: list[Group]
    command: str
    file: str

    @property
    def group(self) -> Group | None:
        """The group that the leaderboard's row shows."""
        return None if self.main is None else self.groups[self.main]

    @property
    def word(self) -> str:
        """The verdict on it, in a word."""
        return "not run" if self.group is None or self.group.runs == 0 else self.group.word


class Run(Part, frozen=True, kw_only=True):
    """One record. facts: everything else, a list of headings, each with names and values; problems: of its file."""

    id: str
    benchmark: str
    seed: int
    outcome: str
    scoring: bool
    test_error: float | None
    engine: str
    device: str
    precision: str
    started: str
    harness: str
    weights: str | None
    verdict: str
    facts: list[tuple[str, list[tuple[str, str]]]]
    problems: list[str]


class Curves(Part, frozen=True, kw_only=True):
    """Learning curves: of each run its errors (percent) by epoch, of validation if there are, else test."""

    of: str
    runs: dict[str, list[float]]
    authors: list[float] | None = None


class Paper(Part, frozen=True, kw_only=True):
    """A paper; story: what the catalog tells of it, in Markdown."""

    slug: str
    name: str
    title: str
    authors: str
    url: str
    code: str
    story: str
    benchmarks: list[str]


class Correction(Part, frozen=True, kw_only=True):
    """A later version of a benchmark: what was changed."""

    benchmark: str
    version: int
    what: str


_FOR_PAGES = ("curves", "files", "papers")  # of papers all but their stories


class Leaderboard(Part, frozen=True, kw_only=True):
    """All that a site shows. curves: by benchmark; files: the records' own text, by id."""

    schema: int
    harness: str
    benchmarks: list[Benchmark]
    papers: list[Paper]
    runs: list[Run]
    corrections: list[Correction]
    optimism: tuple[int, float, float] | None
    curves: dict[str, Curves]
    files: dict[str, bytes]

    def to_builtins(self) -> dict[str, Any]:
        """What results.json holds: all but curves and texts, which stand in the records."""
        content: dict[str, Any] = msgspec.to_builtins(
            {name: getattr(self, name) for name in self.__struct_fields__ if name not in _FOR_PAGES}
        )
        content["papers"] = [
            {name: getattr(paper, name) for name in paper.__struct_fields__ if name != "story"} for paper in self.papers
        ]
        for run in content["runs"]:
            del run["facts"]
        for group in (group for benchmark in content["benchmarks"] for group in benchmark["groups"]):
            del group["pictures"]
        return content


# How far a claim was tested, from nothing on.
TIERS = {
    "claimed": "nobody has run it here",
    "ran": "runs of some seeds; no verdict yet that statistics would sign",
    "judged": "a registered group of seeds is complete and judged",
    "judged, weights": "as before, and published weights gave the same again on another machine (verify --recompute)",
}
