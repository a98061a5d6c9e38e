"""`reproduce --seeds` and `check`, as their users meet them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_server import folders

from benchmarks.recipe import load_recipe
from benchmarks.recipe.words import names_of
from benchmarks.verdict.every import EXIT_CODES, exit_code, optimism
from benchmarks.verdict.group import Estimate, GroupVerdict, GroupWord
from benchmarks.verdict.report import MEANING, SELECTIONS, lines, short, summary
from commands.group_runs import note_launch
from results import registered
from results.groups import Key
from results.statistics import Interval

REPOSITORY = Path(__file__).parents[1]
REGISTRY = REPOSITORY / "results" / "runs"


def test_check_says_every_number_of_the_real_group(cli):
    result = cli("check", "chawla-mlp-mnist-float", "--registry", str(REGISTRY))
    sentence, numbers, *others = result.stdout.splitlines()
    assert sentence.startswith("chawla-mlp-mnist-float (gluon; registered 2026-11-25): ")
    assert "claim 3.13, margin 0.348, " in numbers
    assert "  left out: 0b502990 (seed 1234): it began before the group was registered" in others
    assert any(
        line.startswith("  binomial standard error (other test images, no part of the verdict)") for line in others
    )
    assert "Traceback" not in result.stderr


def test_check_of_all_and_its_json(cli):
    result = cli("check", "--registry", str(REGISTRY))
    assert result.returncode in (0, 3, 4)
    assert "binaryconnect-mnist (gluon; not registered): " in result.stdout
    found = json.loads(cli("check", "--json", "--registry", str(REGISTRY)).stdout)
    assert (found["schema"], found["exit_code"]) == (1, result.returncode)
    assert {"binaryconnect-mnist", "rwth-lenet5-mnist-float"} <= {verdict["benchmark"] for verdict in found["verdicts"]}


def test_nothing_measured_has_an_exit_code_of_its_own(cli):
    assert cli("check").returncode == 6
    result = cli("check", "binaryconnect-svhn")
    assert (result.returncode, result.stdout.splitlines()[0].endswith("Nothing was measured yet.")) == (6, True)
    result = cli("check", "binaryconect-svhn")
    assert (result.returncode, result.stdout) == (2, "")
    assert "error: unknown benchmark 'binaryconect-svhn'" in result.stderr


@pytest.mark.parametrize(
    "option", [["--seed", "1"], ["--epochs", "2"], ["--set", "train.epochs=2"], ["--at-once", "2"]]
)
def test_a_group_has_the_published_settings_and_its_own_seeds(cli, option):
    result = cli("reproduce", "binaryconnect-mnist", "--seeds", "5", *option)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"error: {option[0]} cannot be given with --seeds" in result.stderr


def test_each_word_has_a_meaning_and_an_exit_code():
    words = set(GroupWord.__args__)
    assert words == set(MEANING) == set(EXIT_CODES)
    assert set(EXIT_CODES.values()) == {0, 3, 4, 6}
    assert set(names_of("protocol.selection")) == set(SELECTIONS)


@pytest.mark.parametrize("word", ["not reproduced", "suspiciously good"])
def test_where_seeds_scatter_the_sentence_says_so(word):
    """It would contradict the line that says that the claim may be a single run of ours."""
    assert "more than chance explains" in next(lines(verdict_of(word, plausible_single_run=False)))
    assert next(lines(verdict_of(word, plausible_single_run=True))).endswith("that a single run may have its number.")


def verdict_of(word: str, **changes: object) -> GroupVerdict:
    return GroupVerdict(
        benchmark="a", engine="gluon", precision="float32", digest="", registered="2026-11-25", word=word, **changes
    )


@pytest.mark.parametrize(
    ("words", "all_named", "expected"),
    [
        (["reproduced", "reproduced, and better"], True, 0),
        (["reproduced", "inconclusive"], True, 4),
        (["not reproduced", "inconclusive"], False, 3),
        (["reproduced", "not measured"], True, 6),
        (["reproduced", "not measured"], False, 0),
        (["not measured"], False, 6),
        ([], False, 6),
    ],
)
def test_exit_codes(words, all_named, expected):
    assert exit_code([verdict_of(word) for word in words], all_named=all_named) == expected


def test_over_papers_claims_are_optimistic_by_so_many_margins():
    def group(mean: float, word: str = "reproduced") -> GroupVerdict:
        estimate = Estimate(runs=5, mean=mean, binomial_error=0.1)
        return verdict_of(word, estimate=estimate, claim=8.0, margin=0.5, interval=Interval(mean, mean))

    assert optimism([group(8.25)]) is None
    assert optimism([group(8.25), group(8.5), group(9.0, "interim")]) == (2, 0.75, pytest.approx(0.3536, abs=1e-4))


def test_what_holm_takes_away_counts_as_inconclusive():
    assert exit_code([verdict_of("reproduced", p_value=0.03, holm=0.06)], all_named=False) == 4
    assert "does not hold" in "\n".join(lines(verdict_of("reproduced", p_value=0.03, holm=0.06)))
    assert short(verdict_of("reproduced", p_value=0.03, holm=0.06)) == "inconclusive"
    assert short(verdict_of("reproduced", p_value=0.03, holm=0.04)) == "reproduced"
    assert summary(verdict_of("not measured", claim=8.27)) == "claim 8.27: not measured"


def test_a_run_of_a_registered_seed_is_written_down_whichever_command_begins_it(tmp_path):
    recipe, root = load_recipe("binaryconnect-mnist"), tmp_path / "runs"
    group = registered.register(
        root, Key(recipe.id, recipe.digest, tuple(letter * 64 for letter in "abc"), "gluon", "float32"), 1, None
    )
    for seed, engine in ((2, "gluon"), (2, "torch"), (77, "gluon")):
        note_launch(recipe, root, seed, engine, "float32")
    note_launch(load_recipe("binaryconnect-mnist", ["train.epochs=2"]), root, 3, "gluon", "float32")
    (found,) = registered.read(root, recipe.id)
    assert list(found.last_event) == [2]
    assert found.key == group.key


# -- a group of real runs ----------------------------------------------------------------------------------------------

TINY = {
    "test_error: TODO": 'test_error: "36.0"',
    "TODO": "a test",
    '"mnist"': '"mnist-small"',
    "{value: 50000": "{value: 2000",
    "{value: 10000": "{value: 200",
    "3x2048FC": "2x64FC",
    "{value: 250,": "{value: 1,",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout whose catalog has a benchmark that takes a moment."""
    copy = tmp_path_factory.mktemp("copy") / "checkout"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "data", "runs", "weights", "tests", "docs")
    shutil.copytree(REPOSITORY, copy, ignore=ignored)
    subprocess.run(
        [sys.executable, "cli.py", "new", "tiny", "--from", "binaryconnect-mnist"], cwd=copy, check=True,
        capture_output=True,
    )  # fmt: skip
    path = copy / "benchmarks" / "catalog" / "binaryconnect" / "tiny.yaml"
    text = path.read_text()
    for before, after in TINY.items():
        text = text.replace(before, after)
    path.write_text(text)
    return copy


@pytest.mark.slow
def test_a_group_is_registered_interrupted_completed_and_judged(checkout, small_data_root, tmp_path):
    variables = os.environ | folders(small_data_root, tmp_path)
    registry = Path(variables["BNN_REGISTRY"])
    reproduce = ["reproduce", "tiny", "--engine", "gluon", "--threads", "1", "--seeds", "3"]

    def start(*arguments: str) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, str(checkout / "cli.py"), *arguments], subprocess.PIPE
        return subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe, text=True)

    def seeds(kind: str) -> list[int]:
        path = registered.path_of(registry, "tiny")
        events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [event["seed"] for event in events if event["event"] == kind]

    with start(*reproduce) as interrupted:
        while len(seeds("launched")) < 2:
            assert interrupted.poll() is None, interrupted.communicate()
            time.sleep(0.02)
        interrupted.send_signal(signal.SIGINT)
        interrupted.communicate()
    assert interrupted.returncode == 130
    assert (seeds("launched"), seeds("stopped")) == ([1234, 1], [1])
    with start("check", "tiny") as check:
        said = check.communicate()[0]
    assert check.returncode == 4
    assert "Not yet: there is no verdict before all registered seeds have been run." in said
    assert "  seed 1: stopped" in said

    with start(*reproduce) as done:
        said, errors = done.communicate()
    assert done.returncode == 0, errors
    assert seeds("launched") == [1234, 1, 1, 2]
    assert said.count(": interim\n") == 1  # where the group stands, after each run but the last
    assert len(list(registry.glob("tiny/*.json"))) == 3
    assert registered.problems(registry) == []

    with start(*reproduce, "--json") as again:
        (verdict,) = json.loads(again.communicate()[0])["verdicts"]
    assert [seed["state"] for seed in verdict["seeds"]] == ["finished"] * 3
    assert seeds("launched") == [1234, 1, 1, 2]  # nothing was missing
    with start(*reproduce[:-1], "10") as refused:
        errors = refused.communicate()[1]
    assert (refused.returncode, seeds("extended")) == (2, [])
    assert "error: tiny: its group was registered with 3 seeds: expected --seeds 5\n" in errors
