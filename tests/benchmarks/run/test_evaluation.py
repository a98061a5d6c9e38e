"""Measuring again: from a run's weights, from published ones, on training images; by the command line as it is used.

The runs are of benchmarks of three epochs in a catalog of their own, so that they score as published ones do.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_server import CommandServer, folders
from small_network import catalog_file

from benchmarks.errors import RecipeError
from benchmarks.recipe import load_recipe
from benchmarks.run.data import load_data
from benchmarks.verdict import judge_run, target_of
from results.record import Record
from results.registry import read
from results.views.markdown import BEGIN, END

pytestmark = pytest.mark.slow

BENCHMARKS: dict[str, dict[str, dict[str, Any]]] = {
    "binary": {},
    "memorized": {"data": {"labels": "random"}, "protocol": {"selection": "last", "evaluates_training": True}},
    "drawn": {"data": {"split": "random", "inputs": "noise", "labels": "random_train_valid"}},
    "real": {"model": {"weights": "stochastic", "evaluation_weights": "real"}},
}
# The data of "memorized".
SMALL_AND_RANDOM = [
    "data.dataset=mnist-small", "data.preprocessing=signed", "data.train_images=2000", "data.valid_images=200",
    "data.labels=random",
]  # fmt: skip


Commands = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, small_data_root: Path) -> Iterator[Commands]:
    """Runs a command line with the runs and the registry of a folder, and this module's catalog."""
    catalog = tmp_path_factory.mktemp("catalog")
    (catalog / "tests").mkdir()
    for name, changes in BENCHMARKS.items():
        (catalog / "tests" / f"{name}.yaml").write_text(catalog_file(name, changes))
    (catalog / "versions.csv").write_text("id,version,digest,test_error\n")
    with CommandServer(catalog) as server:
        yield lambda home, *arguments: server.run(arguments, folders(small_data_root, home))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A folder with a run of each benchmark, and their registry."""
    home = tmp_path_factory.mktemp("home")
    for name in BENCHMARKS:
        result = commands(home, "reproduce", name)
        assert result.returncode == 0, result.stderr
        (home / f"{name}.txt").write_text(result.stdout)
    return home


@pytest.fixture
def command(home: Path, commands: Commands) -> Commands:
    return functools.partial(commands, home)


def record_of(home: Path, name: str) -> Record:
    (path,) = (home / "registry" / "runs" / name).glob("*.json")
    return read(path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_evaluate_agrees_with_the_record_whatever_was_drawn(home, command, name):
    result = command("evaluate", name)
    assert result.returncode == 0, result.stderr
    assert "as recorded, image by image" in result.stdout
    found = json.loads(command("evaluate", name, "--json").stdout)
    assert found["test_error"] == found["recorded_error"] == record_of(home, name).results.declared.test_error


def test_records_verify_and_the_table_shows_what_was_measured(home, command):
    (home / "README.md").write_text(f"{BEGIN}\n{END}\n")
    result = command("table", "--write")
    assert result.returncode == 0, result.stderr
    result = command("verify")
    assert (result.returncode, result.stdout) == (0, "4 records, all valid\n"), result.stdout
    rows = {row["benchmark"]: row for row in json.loads(command("list", "--json").stdout)}
    assert {row["verdict"] for row in rows.values()} == {"no published target"}
    memorized = record_of(home, "memorized")
    assert rows["memorized"]["train_error"] == memorized.curve.train_error[-1]
    assert rows["binary"]["train_error"] is None


def test_a_run_without_a_target_ends_well_and_says_what_was_measured(home):
    text = (home / "memorized.txt").read_text()
    record = record_of(home, "memorized")
    assert "verdict: no published target: no number was published" in text
    assert f"training error {record.curve.train_error[-1]:.3f} % at that epoch" in text
    verdict = judge_run(record, target_of(record))
    assert (verdict.word, verdict.margin) == ("no published target", None)


def test_random_labels_are_recorded_with_their_seed(home):
    record = record_of(home, "memorized")
    assert record.seeds == {"run": 1234, "labels": 1234}
    assert sum(record.data.train.class_images) == 2000
    assert record.results.declared.epoch == 3
    assert 40 < record.curve.test_error[-1] <= 100  # its labels are random
    assert record.curve.train_error[-1] < record.curve.test_error[-1]
    assert record_of(home, "drawn").seeds == {"run": 1234, "split": 1234, "labels": 1234, "inputs": 1234}


def test_the_first_training_images_with_the_runs_labels(home, command):
    found = json.loads(command("evaluate", "memorized", "--first", "2000", "--json").stdout)
    curve = record_of(home, "memorized").curve
    assert (found["train_error"], found["train_wrong"]) == (curve.train_error[-1], curve.train_wrong[-1])
    assert found["train_loss"] == curve.train_evaluation_loss[-1]
    few = command("evaluate", "memorized", "--first", "70", "--weights", "real")
    assert few.returncode == 0, few.stderr
    assert "of 70 images wrong), with real weights\nnothing is recorded to compare it with" in few.stdout
    other = json.loads(command("evaluate", "memorized", "--first", "2000", "--weights", "real", "--json").stdout)
    assert other["train_loss"] != found["train_loss"]


def test_other_weights_on_the_test_images_are_compared_with_nothing(command):
    other = json.loads(command("evaluate", "real", "--weights", "binary", "--json").stdout)
    assert (other["weights"], other["recorded_error"]) == ("binary", None)
    same = json.loads(command("evaluate", "real", "--weights", "real", "--json").stdout)
    assert same["same_images_right"]


@pytest.mark.parametrize("name", ["binary", "memorized", "drawn", "real"])
def test_published_weights_give_the_recorded_error_without_the_run(home, commands, tmp_path, name):
    record = record_of(home, name)
    # 784 x 64 + 64 x 10 signs, or numbers; biases and batch normalization as float32.
    size = record.published_weights.bytes
    assert 4 * 50_816 < size < 4 * 50_816 + 4_000 if name == "real" else 6_800 < size < 11_000
    shutil.copytree(home / "registry", tmp_path / "registry")
    for named in (record.id, record.id[:6], name):
        result = commands(tmp_path, "evaluate", "--pretrained", named)
        assert result.returncode == 0, result.stderr
        assert f"{name}/{record.id}: epoch {record.results.declared.epoch}: test error" in result.stdout
        assert "as recorded, image by image" in result.stdout
    assert f"cli.py evaluate --pretrained {record.id}" in (home / f"{name}.txt").read_text()


@pytest.mark.parametrize("arguments", [["memorized"], ["--pretrained", "memorized"], ["memorized", "--first", "300"]])
def test_the_images_that_are_classified_wrongly_are_listed(command, tmp_path, small_data_root, arguments):
    listed = json.loads(command("evaluate", *arguments, "--wrong", str(tmp_path / "wrong.csv"), "--json").stdout)
    lines = (tmp_path / "wrong.csv").read_text().splitlines()
    assert lines[0] == "index,label,predicted"
    rows = [dict(zip(lines[0].split(","), map(int, line.split(",")), strict=True)) for line in lines[1:]]
    assert rows == listed["wrong"]
    split = "train" if "--first" in arguments else "test"
    assert len(rows) == listed[f"{split}_wrong"] > 0
    assert all(row["label"] != row["predicted"] for row in rows)
    seed = 1234
    data = load_data(load_recipe("binaryconnect-mnist", SMALL_AND_RANDOM), small_data_root, seed)
    labels = getattr(data, split).labels
    assert [labels[row["index"]] for row in rows] == [row["label"] for row in rows]
    assert "wrong" not in json.loads(command("evaluate", *arguments, "--json").stdout)


def test_a_list_that_cannot_be_written_is_told(command, tmp_path):
    result = command("evaluate", "binary", "--wrong", str(tmp_path / "new" / "wrong.csv"))
    assert (result.returncode, result.stdout) == (1, "")
    assert "wrong.csv: there is no folder" in result.stderr
    assert not list(tmp_path.iterdir())


def test_hints_name_the_folders_that_the_user_named(home, command, tmp_path):
    """By an option, and not by a variable, which the next command has too."""
    runs = str(tmp_path / "my runs")
    assert "cli.py reproduce ID` starts one" in command("evaluate", "nothing").stderr
    assert f"cli.py reproduce --runs '{runs}' ID` starts" in command("evaluate", "nothing", "--runs", runs).stderr
    data = str(tmp_path / "d")
    stderr = command("evaluate", "binary", "--data", data, "--runs", str(home / "runs")).stderr
    assert stderr.endswith(f"cli.py prepare --data {data} mnist-small`\n")  # which takes no --runs
    registry = str(tmp_path / "r")
    (tmp_path / "r").mkdir()
    stderr = command("evaluate", "--pretrained", "real", "--registry", registry).stderr
    assert f"cli.py reproduce --registry {registry} real` makes one" in stderr


def test_large_networks_evaluated_with_real_weights_publish_none(command):
    result = command("evaluate", "--pretrained", "6968a2db", "--registry", "results/runs")
    assert result.returncode == 7
    assert "has no published weights: a run has them if it scores" in result.stderr


def test_resuming_a_finished_run_changes_nothing(home, command):
    before = {path: path.read_bytes() for path in (home / "registry").rglob("*") if path.is_file()}
    assert command("resume", "binary").returncode == 0
    assert {path: path.read_bytes() for path in (home / "registry").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "exit_code", "complaint"),
    [
        ((), 2, "expected either RUN or --pretrained ID"),
        (("binary", "--pretrained", "binary"), 2, "expected either RUN or --pretrained ID"),
        (("--pretrained", "binary", "--first", "3"), 2, "--first and --weights are for a RUN"),
        (("binary", "--threads", "100000"), 1, "100000"),
        (("binary", "--first", "2001"), 1, "the run has 2,000 training images: asked for the first 2,001"),
        (("--pretrained", "nothing"), 7, "no record 'nothing'"),
    ],
)
def test_bad_input_is_one_clear_line(command, arguments, exit_code, complaint):
    result = command("evaluate", *arguments)
    assert result.returncode == exit_code, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.lower().startswith("error:")]
    assert complaint in line


def test_real_valued_networks_have_no_binary_weights():
    with pytest.raises(RecipeError, match=r"model\.weights=real: expected model.evaluation_weights=real"):
        load_recipe("binaryconnect-cifar10-none", ["model.evaluation_weights=binary"])
