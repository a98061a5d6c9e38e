"""docs/findings.md says nothing that the registry does not. What came since, it need not say."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from typing import Any

import pandas as pd
import pytest
from docs_blocks import ROOT

from benchmarks.recipe import load_recipe
from results import registry
from results.record import Record

TEXT = (ROOT / "docs" / "findings.md").read_text()
RUNS = ROOT / "results" / "runs"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    part = TEXT.partition(f"## {heading}")[2].partition("\n## ")[0]
    found = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")][2:]
    assert found
    return found


@pytest.fixture
def groups(cli) -> dict[tuple[str, str], dict[str, Any]]:
    """The verdicts on registered groups of which a run has ended, by benchmark and engine."""
    verdicts = json.loads(cli("check", "--json", "--registry", str(RUNS)).stdout)["verdicts"]
    return {(v["benchmark"], v["engine"]): v for v in verdicts if v["registered"] and v["estimate"]}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [record for _, record in registry.read_all(RUNS, pytest.fail)]


def claim_of(benchmark: str, verdict: dict[str, Any]) -> str:
    is_read = load_recipe(benchmark).target.provenance == "read"
    return f"{verdict['claim']:.{verdict['decimals']}f}" + ("" if is_read else " (mem)")


def test_settled_claims_are_as_check_says(groups):
    distances = []
    for benchmark, engine, claim, margin, here, seeds, word in rows("Settled"):
        verdict = groups[benchmark, engine.split()[0]]
        mean, decimals = verdict["estimate"]["mean"], verdict["decimals"]
        error = (verdict["estimate"]["variance"] / len(verdict["seeds"])) ** 0.5
        place = decimals + 1
        said = (f"{verdict['margin']:.{place}f}", f"{mean:.{place}f} +- {error:.{place}f}")
        assert (margin, here, int(seeds), word) == (*said, len(verdict["seeds"]), verdict["word"])
        assert claim == claim_of(benchmark, verdict)
        distances.append((mean - verdict["claim"]) / verdict["margin"])
    mean, deviation = statistics.fmean(distances), statistics.stdev(distances)
    t = mean / deviation * len(distances) ** 0.5
    said = f"is {mean:.2f} in the mean, with a standard deviation of {deviation:.2f} (t = {t:.1f})"
    assert f"Over these {len(distances)} groups, (mean - claim) / margin {said}" in " ".join(TEXT.split())


def test_single_seeds_are_those_of_the_records(records):
    known = {(r.benchmark, f"{r.engine.name} {r.engine.device}", str(r.seed)): r for r in records}
    for benchmark, engine, claim, here, seed in rows("One seed"):
        run = known[benchmark, engine, seed]
        assert (run.target.test_error, run.results.counted.test_error) == (float(claim), float(here))


def test_open_groups_have_these_errors_so_far(groups):
    for benchmark, engine, claim, here, seeds in rows("Not answered yet"):
        verdict = groups[benchmark, engine.split()[0]]
        known = [f"{seed['test_error']:.2f}" for seed in verdict["seeds"] if seed["test_error"] is not None]
        assert Counter(here.split(", ")) <= Counter(known)
        assert seeds == f"{here.count(',') + 1} of {len(verdict['seeds'])}"
        assert claim == claim_of(benchmark, verdict)


@pytest.fixture(scope="module")
def moments() -> pd.DataFrame:
    return pd.read_csv(ROOT / "docs" / "larq_moments.csv")


def test_moments_of_larqs_tutorial_are_those_that_were_measured(moments, groups):
    late = moments[moments.epoch >= 3]
    said = {(program, int(seed)): cells for program, seed, *cells in rows("Not reproduced")}
    assert set(said) == set(zip(moments.program, moments.seed, strict=True))
    verdict = groups["larq-mnist", "gluon"]
    highest = round(100 * (verdict["claim"] + verdict["margin"]))  # in images of 10,000
    for (program, seed), cells in said.items():
        of = late[(late.program == program) & (late.seed == seed)]
        within = f"{sum(of.running <= highest)} of {len(of)}"
        spread = [f"{value / 100:.2f}" for value in (of.running.min(), of.running.median(), of.running.max())]
        held = of.held.dropna()
        assert len(held) == 10
        assert cells == [*spread, within, f"{held.min() / 100:.2f} to {held.max() / 100:.2f}"]
    by_batch = moments[moments.epoch >= 5].batch.dropna()
    assert f"had {by_batch.min() / 100:.2f} to {by_batch.max() / 100:.2f} % in epochs 5 and 6" in " ".join(TEXT.split())


def test_moments_at_the_ends_of_epochs_are_the_records(moments, records):
    """The network that was looked at so often is the one whose record is judged."""
    curves = {r.seed: r.curve.test_wrong for r in records if r.benchmark == "larq-mnist"}
    ends = moments[(moments.program == "gluon") & (moments.batches == moments.batches.max())]
    for seed, of in ends.groupby("seed"):
        assert of.running.tolist() == curves[seed]
    assert len(ends) >= 6


def test_what_other_rules_give_is_that_of_the_records(groups, records):
    for benchmark, engine, *said in rows("Which rule"):
        name, device = engine.split()
        verdict = groups.get((benchmark, name))
        seeds = {seed["record"] for seed in verdict["seeds"]} if verdict else set()
        mine = [r for r in records if (r.benchmark, r.engine.name, r.engine.device) == (benchmark, name, device)]
        results = [r.results for r in mine if not seeds or r.id in seeds]
        points = [[getattr(one, point).test_error for one in results] for point in ("counted", "last", "best_test")]
        assert said == [f"{statistics.fmean(errors):.3f}" for errors in points]
