"""What `queue add` queues, and what it sees to be there already."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.engine import Choice
from benchmarks.queue.adding import Added, Known, Options, new_runs
from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.plan import Asked
from benchmarks.recipe import load_recipe
from benchmarks.recipe.settings import named_settings
from benchmarks.run.folder import RunFolder
from benchmarks.run.state import Manifest
from results import registered
from results.groups import key_of
from results.registered import Registration
from results.registry import read

REGISTRY = Path(__file__).parents[3] / "results" / "runs"
BENCHMARK, RECORD = "chawla-mlp-mnist-float", "573cd6f024bf1322"  # of seed 1234, by the gluon engine
COMMIT, OTHER_COMMIT = "c0ffee" + 34 * "0", "decade" + 34 * "0"
OPTIONS = Options(COMMIT, {"threads": 1}, "local", False)


class Home:
    """A queue, a folder of runs, and a registry with one record."""

    def __init__(self, root: Path) -> None:
        self.queue, self.runs, self.registry = QueueFolder(root / "queue"), root / "runs", root / "results" / "runs"
        (self.registry / BENCHMARK).mkdir(parents=True)
        shutil.copy(REGISTRY / BENCHMARK / f"{RECORD}.json", self.registry / BENCHMARK)
        self.record = read(self.registry / BENCHMARK / f"{RECORD}.json")

    def register(self, time: str) -> Registration:
        return registered.register(self.registry, key_of(self.record), self.record.recipe.version, None, time=time)

    def added(self, seeds: tuple[int, ...] | None = None, *overrides: str, **options: object) -> Added:
        asked = Asked(
            load_recipe(BENCHMARK, list(overrides)), Choice("gluon", "cpu", ""), 1, "float32", 5, (), Path("data"),
            self.runs, self.registry,
        )  # fmt: skip
        return new_runs(self.queue, Known(self.queue, self.registry), asked, seeds, OPTIONS._replace(**options))


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


def reasons(added: Added) -> dict[int | None, str]:
    return {one.seed: one.reason for one in added.passed}


def test_of_a_group_what_is_missing(home):
    group = home.register("2024-01-01T00:00:00Z")
    recipe = load_recipe(BENCHMARK)
    RunFolder.create(home.runs, Manifest(
        benchmark=BENCHMARK, settings=named_settings(recipe.settings, recipe.stated), overrides={}, seed=2,
        engine="gluon", device="cpu", threads=1, data={},
    ))  # fmt: skip
    added = home.added()
    assert [run.seed for run in added.runs] == [1, 3, 4]
    assert {run.registered for run in added.runs} == {group.time}
    assert {run.registry for run in added.runs} == {"../results/runs"}
    assert added.runs[0].arguments[:4] == ("reproduce", BENCHMARK, "--seed", "1")
    assert reasons(added)[1234] == f"finished, record {RECORD}"
    assert reasons(added)[2].startswith("begun here: `python cli.py resume ")


def test_a_record_from_before_the_registration_is_none_of_its_group(home):
    home.register("2999-01-01T00:00:00Z")
    assert [run.seed for run in home.added().runs] == [1234, 1, 2, 3, 4]


def test_seeds_of_no_group(home):
    added = home.added((7, 1234))
    assert [(run.seed, run.registered) for run in added.runs] == [(7, "")]
    assert reasons(added) == {1234: f"recorded: {RECORD}"}
    other = home.added((7, 1234), "train.epochs=1")
    assert [(run.seed, run.scoring) for run in other.runs] == [(7, False), (1234, False)]
    assert other.runs[0].group != added.runs[0].group


def test_seeds_of_an_extension_begin_after_it(home):
    group = home.register("2024-01-01T00:00:00Z")
    registered.extend(home.registry, group, None)
    times = {run.seed: run.registered for run in home.added().runs}
    assert times[1] == group.time
    assert times[5] > group.time


def test_what_is_queued_is_not_queued_again_with_any_commit_until_it_has_failed(home):
    first = home.added((7,))
    home.queue.add(first.runs)
    assert reasons(home.added((7,))) == {7: "queued already"}
    assert reasons(home.added((7,), commit=OTHER_COMMIT)) == {7: f"queued already, with commit {COMMIT[:12]}"}
    home.queue.cancel([first.runs[0].name])
    again, other = home.added((7,)).runs, home.added((7,), commit=OTHER_COMMIT).runs
    assert again[0].name == first.runs[0].name
    assert other[0].group != first.runs[0].group
