"""Commands in messages: each is one that there is, and works in the folder where it is read."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from killed import shell
from published import first
from test_docs_commands import command_of

import cli
from benchmarks import hints
from benchmarks.paths import REPOSITORY
from benchmarks.recipe import versions
from benchmarks.run.folder import RunFolder
from benchmarks.run.state import Manifest
from commands.options import remember_runs_of

ROOMS = ("benchmarks", "bnn_gluon", "bnn_torch", "commands", "data_prep", "results")
COMMAND = re.compile(r"python cli\.py ([^`;,:]+)")
FOLDERS = {"--data": "d", "--runs": "r", "--registry": "g", "--queue": "q"}


def texts(node: ast.AST) -> list[str]:
    """The strings of a syntax tree, each with X where a value is put in."""
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(one.value) if isinstance(one, ast.Constant) else "X" for one in node.values)]
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    return [text for child in ast.iter_child_nodes(node) for text in texts(child)]


def printed() -> set[str]:
    """What stands behind `python cli.py` in the program's own texts."""
    trees = [ast.parse(path.read_text()) for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")]
    found = [text for tree in trees for text in texts(tree)]
    return {match for text in found for match in COMMAND.findall(text.split("\n\n")[0])}


def test_every_command_that_a_message_names_is_one_with_these_options():
    found, wrong = printed(), []
    for text in found:
        words = [word for word in text.replace('"', "").split() if re.fullmatch(r"-{0,2}[a-z][a-z-]*", word)]
        command, _ = command_of(words) if words else (None, [])
        if text.split()[0] in ("COMMAND", "ARGUMENTS"):  # of the program's own comments
            continue
        options = {option for parameter in command.params for option in parameter.opts} if command else set()
        wrong += [text for word in words if command is None or (word.startswith("--") and word not in options)]
    assert len(found) > 30
    assert wrong == []


def test_only_options_that_name_the_same_folder_are_handed_on():
    """`table` and `list` have a --data, too, which names a data set."""
    group = click.Context(cli.cli)
    with group:
        for option, folder in FOLDERS.items():
            hints.use_folder(group, option, Path(folder))
        for name in [*cli.COMMANDS, "queue add", "queue work", "queue status"]:
            command, rest = command_of(shlex.split(hints.as_typed(f"python cli.py {name}").split("cli.py ")[1]))
            handed_on = dict(zip(rest[::2], rest[1::2], strict=True))
            assert handed_on.items() <= FOLDERS.items()
            folders = [p for p in command.params if p.opts[0] in handed_on]
            assert all(isinstance(parameter.type, click.Path) for parameter in folders), name
            if name == "evaluate":
                assert list(handed_on) == ["--data", "--runs", "--registry"]


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    """Carry out a command in this process, in a folder that is not the checkout's, with folders of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATA", "RUNS", "REGISTRY"):
        monkeypatch.setenv(f"BNN_{name}", str(tmp_path / name.lower()))
    return lambda *arguments: CliRunner().invoke(cli.cli, arguments)


def test_a_folder_that_the_locale_cannot_spell_is_named_by_its_bytes(tmp_path):
    """As bash, zsh and ksh take them; the C locale has ASCII alone."""
    arguments = "prepare --check mnist-small --data dä\\'ta"
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    bash = {"cwd": tmp_path, "env": plain, "executable": shutil.which("bash")}
    refused = shell(f"{program()} {arguments}", **bash)
    (command,) = re.findall(r"`([^`]+)`", refused.stderr)
    assert r"--data $'d\303\244\047ta' mnist-small" in command
    assert shell(command, **bash).returncode == 0
    assert (tmp_path / "dä'ta" / "mnist-small.h5").exists()


def program() -> str:
    return f"'{sys.executable}' '{REPOSITORY / 'cli.py'}'"


def test_usage_errors_name_commands_as_they_are_typed_here(invoke):
    refused = invoke("regress", "--only", "xyzzy")
    assert refused.exit_code == 2
    assert f"`{hints.program()} list` names them" in refused.stderr


def test_what_verify_and_merge_find_is_mended_with_the_registry_that_was_named(invoke, tmp_path):
    registry = tmp_path / "my registry" / "runs"
    path = first("chawla-mlp-mnist-float")
    (registry / path.parent.name).mkdir(parents=True)
    shutil.copy(path, registry / path.parent.name)
    found = invoke("verify", "--registry", str(registry))
    assert found.exit_code == 7
    (command,) = re.findall(r"`([^`]+)`", found.stdout)
    assert shlex.split(command)[-4:] == ["table", "--registry", str(registry), "--write"]
    assert shell(command, cwd=tmp_path).returncode == 0
    assert invoke("verify", "--registry", str(registry)).exit_code == 0
    registered = tmp_path / "other" / "registered"
    registered.mkdir(parents=True)
    (registered / "chawla-mlp-mnist-float.jsonl").write_text("{}\n")
    refused = invoke("merge", str(registered / "chawla-mlp-mnist-float.jsonl"), "--registry", str(registry))
    assert refused.exit_code == 7
    assert f"`git -C {registered} checkout -- chawla-mlp-mnist-float.jsonl`" in refused.stdout


def test_a_filter_that_fits_nothing_is_refused_before_the_table_is_written(invoke, tmp_path):
    registry = tmp_path / "my registry" / "runs"
    registry.mkdir(parents=True)
    assert invoke("table", "--write", "--data", "xyzzy", "--registry", str(registry)).exit_code == 2
    assert list(registry.parent.iterdir()) == [registry]


def test_what_is_damaged_comes_back_from_another_folder(tmp_path, monkeypatch):
    file = tmp_path / "a checkout" / "versions.csv"
    file.parent.mkdir()
    file.write_text("id,version\n")
    git = ["git", "-C", str(file.parent), "-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    file.write_text("damaged\n")
    monkeypatch.setattr(versions, "VERSIONS", file)
    versions.versions.cache_clear()
    with pytest.raises(versions.RecipeError) as refused:
        versions.versions()
    monkeypatch.undo()
    versions.versions.cache_clear()
    (command,) = re.findall(r"`([^`]+)`", str(refused.value))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert shell(command, cwd=elsewhere).returncode == 0
    assert file.read_text() == "id,version\n"


@pytest.fixture
def begun(tmp_path) -> RunFolder:
    """A run without a stored epoch, in a folder with a space that is not the folder of runs."""
    settings = {"model": {"evaluation_weights": "binary"}}
    manifest = Manifest(
        benchmark="small", settings=settings, overrides=[], seed=1, engine="gluon", device="cpu", threads=1, data={}
    )
    return RunFolder.create(tmp_path / "my runs", manifest)


@pytest.mark.parametrize("command", ["compare", "submit"])
def test_a_run_that_is_not_over_is_named_as_a_shell_takes_it(invoke, tmp_path, begun, command):
    rest = {"compare": ("x",), "submit": ("--out", "out")}[command]
    refused = invoke(command, os.path.relpath(begun.path, tmp_path), *rest)
    assert refused.exit_code == 1
    (printed,) = re.findall(r"`[^`]+(resume [^`]+)`", refused.stderr)
    assert shlex.split(printed) == ["resume", "--runs", str(begun.path.parents[1]), f"my runs/{begun.name}"]


def test_a_run_in_another_folder_of_runs_is_found_by_what_is_printed(tmp_path, begun):
    with click.Context(cli.cli) as context:
        remember_runs_of(begun.path.parents[1], str(begun.path))
        assert "--runs" not in hints.as_typed("python cli.py resume")
        remember_runs_of(tmp_path, str(begun.path))
        assert hints.as_typed("python cli.py resume").endswith(f"resume --runs '{begun.path.parents[1]}'")
    assert context.meta
