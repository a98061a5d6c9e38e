"""Every command that a page shows is valid as it is typed, and is carried out where that is fast and offline."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import click
import pytest
from docs_blocks import PAGES, blocks, spans

import cli
import data_prep
from benchmarks.paths import REGISTRY
from benchmarks.recipe import benchmark_ids, explain
from commands.options import chosen_recipe

BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language == "sh"]

# What stands for something in a command within a sentence -> an example of it.
PLACEHOLDERS = {
    "ID": "binaryconnect-mnist",
    "A": "chawla-mlp-mnist-float",
    "B": "chawla-mlp-mnist-binary",
    "KEY": "model.weights",
    "RUN...": "binaryconnect-mnist",
    "FILE": "benchmarks/catalog/binaryconnect/binaryconnect-mnist.yaml",
}
# The benchmark that docs/add-a-benchmark.md makes: test_docs_walkthrough.py follows that page.
MADE = "dorefa-lenet5-mnist"

# Commands whose examples are carried out: they write nothing, take a moment and need no network.
CARRIED_OUT = {"check", "compare", "doctor", "export", "list", "plan", "runs", "show", "table", "validate", "verify"}
# Command -> why its examples are only parsed here, with all that follows from their settings, and what runs it.
PARSED = {
    "reproduce": "trains for minutes to days; tests/test_cli.py trains small ones, this file the README's quick look",
    "resume": "needs a run that was interrupted; tests/test_cli.py",
    "evaluate": "needs a run, or real images; tests/benchmarks/run, tests/test_cli.py",
    "bench": "measures for minutes; tests/benchmarks/bench",
    "throughput": "measures for minutes; tests/benchmarks/bench",
    "prepare": "fetches data sets; tests/data_prep",
    "queue": "registers groups and trains; tests/benchmarks/queue",
    "gpu-session": "needs a GPU, but for --list",
    "merge": "writes into the registry; tests/test_contributions.py, tests/results",
    "submit": "needs a run; tests/test_contributions.py",
    "tour": "takes minutes; tests/test_tour.py",
    "regress": "measures for minutes; tests/benchmarks/regress",
    "new": "writes into the catalog; test_docs_walkthrough.py",
}
# Beginning of a line of shell that is another program's -> why it is not run here.
OTHER_PROGRAMS = {
    "python3.11 -m venv": "sets up everything from the network: the second of the two is CI's own command",
    ". .venv/bin/activate": "the environment that the first command makes",
    "python -m pip": "fetches packages",
    "grep -v '^mxnet==' requirements.txt": "for a machine with a GPU of CUDA 11: what it leaves is installed",
    "site=": "for a machine with a GPU of CUDA 11",
    "export LD_LIBRARY_PATH": "for a machine with a GPU of CUDA 11",
    "python -m tests.data_prep.svhn_files": "minutes and 26 GB; tests/data_prep/test_svhn.py makes small ones",
    "python -m benchmarks.recipe.explain": "test_docs_walkthrough.py runs it",
    "apt-get install": "for a machine that is to try Slurm",
    "ray start": "tests/benchmarks/queue/test_ray.py starts one",
    "python tests/benchmarks/queue/one_machine_slurm.py": "tests/benchmarks/queue/test_slurm.py starts it",
    "pytest": "are tests themselves; test_docs_walkthrough.py runs those of the page",
    "python -m pytest tests/benchmarks/recipe/test_catalog_versions.py": "test_docs_walkthrough.py runs it",
}
# (page, beginning of a block in another language) -> why it is not run.
NOT_RUN = {
    ("docs/clusters.md", "partition: gpu"): "settings of a site; tests/benchmarks/queue/test_slurm.py has its own",
    ("docs/clusters.md", "resources:"): "not tried: the page says so",
    ("docs/architecture.md", "cli.py -> commands/ -> benchmarks/"): "a drawing",
    ("docs/verdicts.md", "chawla-mlp-mnist-float (gluon; "): "what `check` said of a registry that has grown since",
    ("docs/weights.md", "import json"): "test_docs_weights.py runs it",
    ("docs/verdicts.md", '{"schema": 1, "changes": '): "no code: read below",
    ("data_prep/README.md", "for i in self._channels:"): "a part of pylearn2",
}
LINES = [(block, line) for block in SHELL for line in block.command_lines]


def shown() -> Iterator[tuple[str, ...]]:
    """Words after "python cli.py" in all blocks, and in all sentences with an example for what stands for something."""
    for _, line in LINES:
        for command in re.findall(r"(?:^|&& )python cli\.py ([^&]+)", line):
            yield tuple(shlex.split(command))
    for span in (span for page in PAGES for span in spans(page)):
        _, found, command = span.partition("python cli.py ")
        if found:
            yield tuple(PLACEHOLDERS.get(word, word) for word in shlex.split(command))


SHOWN = sorted(set(shown()))


def test_every_block_is_of_one_kind():
    """Shell, or of the page that test_docs_walkthrough.py follows, or listed with a reason; and no list is stale."""
    others = [block for block in BLOCKS if block.page != "docs/add-a-benchmark.md" and block.language != "sh"]
    found = {
        (block.page, block.line): [key for key in NOT_RUN if block.page == key[0] and block.text.startswith(key[1])]
        for block in others
    }
    assert {where for where, known in found.items() if len(known) != 1} == set()
    assert {known for (known,) in found.values()} == NOT_RUN.keys()


def test_every_line_of_shell_is_of_one_kind():
    others = [line for _, line in LINES if not line.startswith("python cli.py ")]
    found = {line: [known for known in OTHER_PROGRAMS if line.startswith(known)] for line in others}
    assert {line for line, known in found.items() if len(known) != 1} == set()
    assert {known for (known,) in found.values()} == OTHER_PROGRAMS.keys()


def test_every_command_is_of_one_kind():
    unknown = {words[0] for words in SHOWN} - CARRIED_OUT - PARSED.keys()
    assert unknown == set(), "say in CARRIED_OUT or PARSED what becomes of their examples"


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_a_command_is_valid_as_it_is_typed(words):
    command, rest = command_of(words)
    assert command is not None
    values = command.make_context(words[0], rest, click.Context(cli.cli)).params
    known = {*benchmark_ids(), MADE}
    if words[:2] == ("queue", "add"):
        assert all(fnmatch.filter(known, pattern) for pattern in values["patterns"])
        return
    if words[0] == "new":
        assert values.pop("benchmark") not in benchmark_ids()
    assert named_benchmarks(values) <= known
    if "overrides" in values and values["benchmark"] != MADE:
        chosen_recipe(values["benchmark"], values["overrides"], values["epochs"], values["limit_train"])
    if values.get("explain"):
        assert explain.find(values["explain"])
    if words[0] == "prepare" and values["dataset"] is not None:
        assert values["dataset"] in data_prep.DATASETS
        assert values["variant"] in {None, *data_prep.variants(values["dataset"])}


def command_of(words: Sequence[str]) -> tuple[click.Command | None, list[str]]:
    """The command that words name, or the command of a group of commands, and the words after its name."""
    command, rest = cli.cli.get_command(click.Context(cli.cli), words[0]), list(words[1:])
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        command = command.get_command(click.Context(command), rest.pop(0))
    return command, rest


def named_benchmarks(values: dict[str, Any]) -> set[str]:
    """What the arguments name that is a benchmark, or may be: a run or a record can be named by its benchmark."""
    one = ("benchmark", "origin", "pretrained", "run", "first", "second")
    several = {name for key in ("benchmarks", "runs") for name in values.get(key) or ()}
    return several | {name for key in one if isinstance(name := values.get(key), str)}


def test_options_in_sentences_are_those_of_their_commands():
    """As in `reproduce ID --at-once N`."""
    found, wrong = 0, []
    for page in PAGES:
        for span in spans(page):
            words = span.split()
            command, _ = command_of(words) if words else (None, [])
            if command is not None and len(words) > 1:
                options = {name for param in command.params for name in param.opts}
                found += 1
                wrong += [(page.name, span) for word in words if word.startswith("--") and word not in options]
    assert found > 20
    assert wrong == []


def is_carried_out(words: tuple[str, ...]) -> bool:
    """Of those that are, not what writes, what is made by the page that it is in, and what is a part of another."""
    writes = {"--write", "--out", "--html", "--keep", "--onnx", "--safetensors"} & set(words)
    # Folders that are there only where a workflow or a cluster is.
    is_of_a_workflow = {"submission/results/runs", "/shared/results/runs"} & set(words)
    left_out = writes or is_of_a_workflow or MADE in " ".join(words) or words == ("doctor",)
    return words == ("gpu-session", "--list") or (words[0] in CARRIED_OUT and not left_out)


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words in SHOWN if is_carried_out(words)], ids=" ".join)
def test_a_fast_command_does_what_it_says(cli, words):
    result = cli(*words, BNN_REGISTRY=str(REGISTRY))
    assert result.returncode in ({0, 3, 4, 6} if words[0] in {"check", "doctor"} else {0}), result.stderr
    assert result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_the_readmes_quick_look_is_one(cli):
    """As typed, but for the small data set and a small network."""
    (words,) = (words for words in SHOWN if words[0] == "reproduce" and "--limit-train" in words and MADE not in words)
    small = ["data.dataset=mnist-small", "data.valid_images=100", "model.architecture=16FC-10FC"]
    result = cli(*words, "--limit-train", "500", *(part for setting in small for part in ("--set", setting)))
    assert result.returncode == 0, result.stderr
    assert "train.lr_start" in result.stdout + result.stderr


def test_the_accepted_change_that_is_shown_is_read(tmp_path):
    from results.history import read_accepted

    (block,) = (block for block in BLOCKS if block.language == "json")
    (tmp_path / "accepted_changes.json").write_text(block.text)
    (change,) = read_accepted(tmp_path / "accepted_changes.json")
    assert (REGISTRY / "chawla-mlp-mnist-float" / f"{change.record}.json").is_file()
