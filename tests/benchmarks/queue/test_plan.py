"""What `plan` says before anything begins, and that it leaves no trace."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_server import folders

import cli
import commands.plan
from benchmarks.recipe import load_recipe
from benchmarks.recipe.settings import named_settings
from benchmarks.run.folder import RunFolder
from benchmarks.run.state import Manifest
from results import registered
from results.groups import key_of
from results.registry import read

REPOSITORY = Path(__file__).parents[3]
REGISTRY = REPOSITORY / "results" / "runs"
BENCHMARK, RECORD = "chawla-mlp-mnist-float", "573cd6f024bf1322"  # of seed 1234, by the gluon engine
ENGINE = ("--engine", "gluon", "--device", "cpu", "--threads", "1")


@pytest.fixture
def registry(tmp_path) -> Path:
    """One record, of a group of five seeds that was registered before it began."""
    root = tmp_path / "results" / "runs"
    (root / BENCHMARK).mkdir(parents=True)
    shutil.copy(REGISTRY / BENCHMARK / f"{RECORD}.json", root / BENCHMARK)
    record = read(root / BENCHMARK / f"{RECORD}.json")
    registered.register(root, key_of(record), record.recipe.version, None, time="2024-01-01T00:00:00Z")
    return root


def begin(root: Path, seed: int, **overrides: str) -> RunFolder:
    recipe = load_recipe(BENCHMARK)
    return RunFolder.create(root, Manifest(
        benchmark=BENCHMARK, settings=named_settings(recipe.settings, recipe.stated), overrides=overrides, seed=seed,
        engine="gluon", device="cpu", threads=1, data={},
    ))  # fmt: skip


@pytest.fixture
def invoke(monkeypatch, small_data_root, tmp_path):
    """Carry out a command in this process, where the machine is measured in a moment."""
    for name, value in folders(small_data_root, tmp_path).items():
        monkeypatch.setenv(name, value)
    for name, value in {"SQUARE": 128, "COPY_BYTES": 10**6, "REST_SECONDS": 0}.items():
        monkeypatch.setattr(f"benchmarks.bench.limits.{name}", value)
    monkeypatch.setattr(commands.plan.environment, "put", lambda *_: None)
    return lambda *arguments: CliRunner().invoke(cli.cli, arguments)


def typed(plan: dict) -> list[str]:
    """The commands of a plan, from their names on."""
    return [re.sub(r"^.*?cli\.py ", "", command) for command, _ in plan["commands"]]


def test_seeds_that_are_recorded_begun_and_missing(invoke, registry, tmp_path):
    runs = tmp_path / "runs"
    begun, running = begin(runs, 2), begin(runs, 3)
    with running.lock():
        result = invoke("plan", BENCHMARK, *ENGINE, "--json", "--registry", str(registry), "--runs", str(runs))
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    assert (plan["schema"], plan["registered"], plan["scoring"]) == (1, True, True)
    assert (plan["work"]["steps"], plan["work"]["epochs"]) == (200 * 196, 200)
    seeds = {seed["seed"]: seed for seed in plan["seeds"]}
    assert list(seeds) == [1234, 1, 2, 3, 4]
    assert (seeds[1234]["state"], seeds[1234]["record"]) == ("finished", RECORD)
    assert [seeds[seed]["run"] for seed in (1, 2, 3)] == [None, begun.name, running.name]
    assert [seeds[seed]["running"] for seed in (1, 2, 3)] == [False, False, True]
    options, places = " ".join(ENGINE), f"--registry {registry} --runs {runs}"
    assert typed(plan) == [
        "prepare mnist",
        f"resume {places} {begun.name}",
        f"reproduce {places} {BENCHMARK} {options} --seed 1",
        f"reproduce {places} {BENCHMARK} {options} --seeds 5",
        f"check --registry {registry} {BENCHMARK}",
    ]


def test_hours_are_those_of_an_earlier_run_or_follow_from_products(invoke):
    plan = json.loads(invoke("plan", "rwth-lenet5-mnist-tern1", *ENGINE, "--json", "--seeds", "10").stdout)
    least, most = plan["time"]["run"]
    assert plan["time"]["kind"] == "projected"
    assert 0 < 2 * least < most
    assert plan["time"]["missing"] == pytest.approx([10 * least, 10 * most])
    assert "GFLOP/s of matrix products" in plan["time"]["source"]
    assert len(plan["seeds"]) == 10
    assert typed(plan)[-2].endswith("--seeds 10")


def test_a_quick_look_is_one_run_that_does_not_score(invoke):
    options = (
        "--epochs",
        "2",
        "--set",
        "data.dataset=mnist-small",
        "--limit-train",
        "2000",
        "--set",
        "data.valid_images=200",
    )
    result = invoke("plan", BENCHMARK, *ENGINE, *options)
    assert result.exit_code == 0, result.stderr
    assert "2 epochs of 8 steps: 16 steps of 256 images" in result.stdout
    assert "one run, which does not score" in result.stdout
    assert "mnist-small: 1.9 MB, prepared" in result.stdout
    (command,) = re.findall(r"cli\.py (reproduce .*)", result.stdout)
    assert "--set data.dataset=mnist-small --set data.valid_images=200 --epochs 2 --limit-train 2000" in command
    assert "what to type; nothing has begun" in result.stdout
    bench = re.search(r"cli\.py bench (.*)` measures it", result.stdout)
    assert bench is not None
    assert bench[1] == command.removeprefix("reproduce ")


@pytest.mark.parametrize(
    ("least", "most", "text"),
    [
        (5000, 5000, "1 h 23 min"), (40, 80, "40 to 80 s"), (4000, 8000, "1.1 to 2.2 h"), (90, 180, "1.5 to 3 min"),
        (600_000, 1_200_000, "6.9 to 14 days"), (3_024_000, 9_504_000, "35 to 110 days"), (864_000,) * 2 + ("10 days",),
    ],
)  # fmt: skip
def test_a_span_of_time(least, most, text):
    assert commands.plan.span(least, most) == text


# -- no trace ----------------------------------------------------------------------------------------------------------

# Before anything of the project is loaded: whatever Python opens to write, makes, renames or removes is said.
WATCH = """
import os, sys
CHANGES = {f"os.{name}" for name in "mkdir rename remove rmdir link symlink chmod truncate utime".split()}
def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and path != os.devnull and not isinstance(path, int):
            os.write(2, f"CHANGED open {path}\\n".encode())
    elif event in CHANGES:
        os.write(2, f"CHANGED {event} {arguments}\\n".encode())
sys.addaudithook(watch)
import cli
cli.cli(prog_name="cli.py")
"""


def test_nothing_is_written_made_or_removed(environment, registry, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    begin(tmp_path / "runs", 2)
    before = snapshot(tmp_path)
    own = {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home), "BNN_REGISTRY": str(registry)}
    result = subprocess.run(
        [sys.executable, "-B", "-c", WATCH, "plan", BENCHMARK, *ENGINE],
        cwd=REPOSITORY,
        env=environment | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "seed 1234: finished" in result.stdout
    assert [line for line in result.stderr.splitlines() if line.startswith("CHANGED")] == []
    assert snapshot(tmp_path) == before


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [root, *root.rglob("*")]}


def test_the_watch_sees_what_is_written(environment, tmp_path):
    """So that the test before proves something."""
    command = ["prepare", "mnist-small", "--data", str(tmp_path / "data")]
    watched = [sys.executable, "-B", "-c", WATCH, *command]
    result = subprocess.run(watched, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert (tmp_path / "data" / "mnist-small.h5").exists(), result.stderr
    assert f"CHANGED open {tmp_path}/data/mnist-small.h5.part" in result.stderr
