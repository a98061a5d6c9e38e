"""What the command line prints and how it ends, for the most part in this process."""

from __future__ import annotations

import ast
import dataclasses
import errno
import io
import json
import os
import re
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from killed import shell
from published import first
from rich.console import Console

import benchmarks.verdict
import cli
import commands.outcome
import commands.reproduce
import commands.resume
import commands.running
from benchmarks import hints, start
from benchmarks.errors import EngineError, RecipeError, RunError
from benchmarks.queue.gpu_session import queue
from benchmarks.queue.job import BegunRun, NewRun
from benchmarks.recipe import summaries
from benchmarks.run.folder import RunFolder
from benchmarks.verdict import Verdict, Word, judge_run
from commands import output
from commands.options import FAIL_ON
from data_prep import progress
from data_prep.errors import DataError
from results.errors import RegistryError
from results.registry import read, write
from results.registry import read as read_record

REPOSITORY = Path(__file__).parents[1]
CLI = f"'{sys.executable}' '{REPOSITORY / 'cli.py'}'"


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    """Carry out a command in this process, with folders of its own."""
    for name in ("DATA", "RUNS", "REGISTRY"):
        monkeypatch.setenv(f"BNN_{name}", str(tmp_path / name.lower()))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.cli, arguments)

    return run


def error_line(result: Result, exit_code: int) -> str:
    assert result.exit_code == exit_code, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


# -- commands in messages ----------------------------------------------------------------------------------------------


def printed_command(text: str) -> str:
    (command,) = re.findall(r"`([^`]+)`", text)
    return command


def test_a_printed_command_works_in_any_folder_with_the_folders_that_were_given(tmp_path):
    """From elsewhere, with a folder whose name the shell would split, and no Python on PATH."""
    program, data = f"'{sys.executable}' '{REPOSITORY / 'cli.py'}'", "'my data [/red]'"
    no_path = os.environ | {"PATH": "/nowhere"}
    arguments = f"prepare mnist-small --check --data {data}"
    refused = shell(f"{program} {arguments}", cwd=tmp_path, env=no_path)
    assert refused.returncode == 1
    command = printed_command(refused.stderr)
    assert command.endswith(f" prepare --data {data} mnist-small")
    assert shell(command, cwd=tmp_path, env=no_path).returncode == 0
    assert (tmp_path / "my data [/red]" / "mnist-small.h5").exists()


def test_only_folders_that_were_given_as_options_are_repeated(invoke, tmp_path):
    assert "--runs" not in invoke("evaluate", "nothing").stderr
    found = invoke("evaluate", "nothing", "--runs", str(tmp_path / "mine"), "--registry", str(tmp_path)).stderr
    assert re.search(rf"cli\.py reproduce --runs {tmp_path}/mine --registry {tmp_path} ID` starts one", found)


def test_commands_name_the_python_that_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.delenv("TOX_ENV_DIR", raising=False)
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(folder))
    if (folder / "python").exists():
        assert hints.program() == "python cli.py"
    # tox has its own environment first in PATH; who reads the message has not.
    monkeypatch.setenv("TOX_ENV_DIR", str(folder.parent))
    assert hints.program() == f"{start.relative(sys.executable)} cli.py"
    assert hints.python(anywhere=True) == sys.executable  # as `submit` prints it, for another clone
    # Links of two environments lead to the same Python, with other packages.
    monkeypatch.delenv("TOX_ENV_DIR")
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hints.program() == f"{start.relative(sys.executable)} cli.py"
    text = hints.as_typed("run `python -m pip install -r requirements.txt` or `python cli.py list`")
    python = start.relative(sys.executable)
    assert text == f"run `{python} -m pip install -r requirements.txt` or `{python} cli.py list`"


# -- what is wanted on a GPU, and how fast it would be -----------------------------------------------------------------


def test_the_gpu_queue_is_listed_with_what_is_recorded_of_it(invoke):
    registry = ("--registry", str(REPOSITORY / "results" / "runs"))
    (entry,) = json.loads(invoke("gpu-session", "binaryconnect-mnist", "--list", "--json", *registry).stdout)
    assert (entry["benchmark"], entry["recorded"]) == ("binaryconnect-mnist", [1234, 1, 2, 3, 4])
    listed = invoke("gpu-session", "--list").stdout.splitlines()
    assert listed[0].startswith(f"{queue().runs[0].benchmark}: seeds 1234, 1, 2, 3, 4; recorded ")
    assert "binaryconnect-cifar10: seeds 1234; then 1, 2, 3, 4; recorded none" in listed
    assert listed[1] == f"  {queue().runs[0].why}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("gpu-session",), "expected --budget-minutes M and --out DIR, or --list"),
        (("gpu-session", "binaryconect-mnist", "--list"), "did you mean binaryconnect-mnist"),
        (("throughput", "binaryconect-mnist"), "did you mean binaryconnect-mnist"),
        (("throughput", "binaryconnect-mnist", "--contenders", "torch,abacus"), "expected different ones of torch, "),
        (("throughput", "binaryconnect-mnist", "--contenders", "plain,plain"), "expected different ones of torch, "),
    ],
)
def test_what_cannot_be_asked_of_a_machine(invoke, arguments, complaint):
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert complaint.lower() in refused.stderr.lower()


# -- a table for elsewhere --------------------------------------------------------------------------------------------


def test_export_is_the_table_or_a_part_of_it(invoke, tmp_path):
    registry = ("--registry", str(REPOSITORY / "results" / "runs"))
    assert invoke("export", "--format", "csv", *registry).stdout == (REPOSITORY / "results" / "table.csv").read_text()
    out = tmp_path / "table.tex"
    chosen = (
        "--columns",
        "benchmark,runs",
        "--filter",
        "benchmark~mnist",
        "--filter",
        "runs>=1",
        "--sort",
        "runs:desc",
    )
    result = invoke("export", "--format", "latex", "--out", str(out), *chosen, *registry)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"wrote {out}\n")
    assert "\nbinaryconnect-mnist & 5 \\\\\n" in out.read_text()
    nothing = invoke("export", "--format", "json", "--filter", "runs>99", "--all")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "[]\n", "no row fits\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--columns", "benchmrk"), "--columns benchmrk: there is no column 'benchmrk': did you mean benchmark"),
        (("--columns", "runs,runs"), "expected each column once"),
        (("--filter", "verdit=x"), "there is no column 'verdit': did you mean verdict"),
        (("--filter", "runs"), "expected COLUMN, one of <= >= != = < > ~, VALUE"),
        (("--filter", "runs=many"), "runs is a number: expected one after ="),
        (("--sort", "runs:up"), "expected COLUMN, COLUMN:asc or COLUMN:desc"),
        (("--sort", "xyzzy"), "there is no column 'xyzzy': expected one of benchmark, paper, "),
    ],
)
def test_what_cannot_be_exported(invoke, arguments, complaint):
    assert complaint in error_line(invoke("export", "--format", "csv", *arguments), 2)


def test_parquet_needs_a_package_that_is_an_extra(invoke, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = error_line(invoke("export", "--format", "parquet", "--out", str(tmp_path / "table.parquet")), 1)
    assert f"`{hints.python()} -m pip install pyarrow==" in line
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_exported_to(invoke, tmp_path):
    for arguments in (("--format", "parquet"), ("--format", "csv", "--out", "/dev/null"), ()):
        assert invoke("export", *arguments).exit_code == 2
    absent = tmp_path / "absent" / "table.csv"
    assert f"there is no folder {absent.parent}" in error_line(
        invoke("export", "--format", "csv", "--out", str(absent)), 1
    )


# -- the wrong Python, or one without packages -------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["cli.py", "benchmarks/start.py", "benchmarks/__init__.py"])
def test_an_old_python_understands_what_says_that_it_is_old(file):
    ast.parse((REPOSITORY / file).read_bytes(), file, feature_version=(3, 8))


def test_a_python_that_is_too_old_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    with pytest.raises(SystemExit, match="1"):
        start.check_python()
    line = capsys.readouterr().err
    assert line.startswith("error: this is Python 3.8, expected 3.11 or later: ")
    assert line.count("\n") == 1


def test_a_missing_package_is_one_line_that_names_an_environment_that_has_it(tmp_path):
    for file in ("cli.py", "benchmarks/start.py", "benchmarks/__init__.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / file, tmp_path / file)
    command = f"'{sys.executable}' -S cli.py list"  # -S: without the environment's packages
    refused = shell(command, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    make = "python3.11 -m venv .venv && .venv/bin/python -m pip install -r requirements.txt"
    assert re.match(r"error: No module named '\w+', in the environment of \S+: make an environment", refused.stderr)
    assert printed_command(refused.stderr) == make
    assert refused.stderr.count("\n") == 1
    environment = tmp_path / ".tox" / "reproduce"
    for package in start.NEEDED:
        (environment / "lib" / "python3.11" / "site-packages" / package).mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "bin" / "python").touch()
    assert shell(command, cwd=tmp_path).stderr.endswith(": use .tox/reproduce/bin/python in place of python\n")


def test_a_package_that_only_a_command_wants_is_missed_in_one_line(tmp_path):
    (tmp_path / "msgspec.py").write_text("raise ImportError('No module named msgspec')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for command in ("list", "--help"):
        refused = shell(f"{CLI} {command}", env=environment)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert re.match(r"error: No module named msgspec, in the environment of .*\n\Z", refused.stderr)
    (tmp_path / "msgspec.py").unlink()
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError('No module named numpy', name='numpy')")
    refused = shell(f"{CLI} compare binaryconnect-mnist chawla-mlp-mnist-float", env=environment)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.match(r"error: No module named numpy, in the environment of .*\n\Z", refused.stderr)


# -- what takes long ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_what_takes_long_is_announced_but_not_with_json(monkeypatch, as_json):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    said = threading.Event()
    monkeypatch.setattr(output, "note", lambda _: said.set())

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def command(as_json: bool) -> None:
        with output.announced("reading"):
            if not as_json:
                said.wait()

    assert CliRunner().invoke(command, ["--json"] if as_json else []).exit_code == 0
    assert said.is_set() is not as_json


@pytest.mark.parametrize(("options", "said"), [([], "checking: 1,200 ...\n"), (["--json"], "")])
def test_steps_are_counted_on_a_terminal_else_a_line_says_how_many(monkeypatch, options, said):
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def command(as_json: bool) -> None:
        with output.counted("checking", 1200) as step:
            step()

    assert CliRunner().invoke(command, options).stderr == said
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(output, "console", lambda stderr: screen)
    monkeypatch.setenv("TERM", "xterm")
    threads = threading.active_count()
    with output.counted("checking", 1200) as step:
        step()
        assert threading.active_count() == threads
    assert "1/1200" in screen.file.getvalue()


# -- the end of a run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "last", "best", "text"),
    [
        (3, 3, 2, "last epoch 3.0 % (the result), lowest ever seen 2.0 %"),
        (2, 3, 2, "last epoch 3.0 %, lowest ever seen 2.0 % (the result)"),
        (3, 3, 3, "last epoch 3.0 % (the result), lowest ever seen 3.0 % (the result)"),
        (1, 3, 2, "last epoch 3.0 %, lowest ever seen 2.0 % (neither is the result)"),
    ],
)
def test_an_error_that_is_the_result_is_called_so(declared, last, best, text):
    points = {"declared": declared, "last": last, "best_test": best}
    results = {name: SimpleNamespace(epoch=epoch, test_error=float(epoch)) for name, epoch in points.items()}
    assert commands.outcome._beside_the_result(SimpleNamespace(results=SimpleNamespace(**results)), 1) == text


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("binaryconnect-mnist/6968a2db8b8ce604", "weights: not published; results/README.md says which are"),
        ("rwth-lenet5-mnist-binary/237fe4a5f6da1e2c", "weights: 119,979 bytes beside the record"),
    ],
)
def test_the_end_of_a_run_says_whether_its_weights_are_published(name, line, capsys):
    path = Path("results/runs") / f"{name}.json"
    record = read_record(path)
    folder = SimpleNamespace(path=Path("runs/r"), record_path=path)
    outcome = SimpleNamespace(record=record, folder=folder, registered=path, comparison="")
    commands.outcome.print_outcome(outcome, judge_run(record, None))
    assert f"\n  {line}" in capsys.readouterr().out


# -- for scripts -------------------------------------------------------------------------------------------------------


def test_every_verdict_that_a_script_may_want_to_hear_of_has_an_exit_code():
    words = set(get_args(Word))
    assert set(FAIL_ON) == words - {"reproduced", "not scored", "no published target"}
    assert FAIL_ON == {"not reproduced": 3, "suspiciously good": 3, "inconclusive": 4}


@pytest.mark.parametrize(
    ("word", "outcome", "fail_on", "exit_code"),
    [
        ("not reproduced", "finished", (), 0),
        ("not reproduced", "finished", ("not reproduced",), 3),
        ("not reproduced", "diverged", ("not reproduced",), 1),
        ("suspiciously good", "finished", ("not reproduced",), 0),
        ("suspiciously good", "finished", ("not reproduced", "suspiciously good"), 3),
        ("inconclusive", "finished", ("inconclusive",), 4),
        ("reproduced", "finished", tuple(FAIL_ON), 0),
    ],
)
def test_the_verdict_is_the_exit_code_of_who_asks_for_it(monkeypatch, word, outcome, fail_on, exit_code):
    verdict = Verdict(word=word, provisional=True, margin=None, standard_error=None, explanation="")
    monkeypatch.setattr(benchmarks.verdict, "judge_run", lambda *_: verdict)
    monkeypatch.setattr(commands.running, "print_outcome", lambda *_: None)
    monkeypatch.setattr(commands.running, "end_as_by_ctrl_c", lambda *_: None)
    run = SimpleNamespace(record=SimpleNamespace(benchmark="binaryconnect-mnist", outcome=outcome))
    with pytest.raises(SystemExit) as ended:
        commands.running.carry_out(lambda _: run, False, fail_on)
    assert ended.value.code == exit_code


@pytest.mark.parametrize(
    ("codes", "exit_code"), [([0, 0], 0), ([0, 3], 3), ([4, 3], 4), ([3, 1], 1), ([0, -9], 1), ([3, 130], 130)]
)
def test_of_several_runs_the_exit_code_is_that_of_the_worst(monkeypatch, codes, exit_code):
    from benchmarks.queue import side_by_side

    ends = [side_by_side.Ended(f"seed {seed}", code, "") for seed, code in enumerate(codes)]
    monkeypatch.setattr(side_by_side, "carry_out", lambda *_, **__: ends)
    monkeypatch.setattr(commands.running, "end_as_by_ctrl_c", lambda *_: None)
    assert commands.running.carry_out_all({}, 2, "cpu", False) == exit_code


def test_runs_of_several_seeds_are_jobs_with_the_values_of_the_command(monkeypatch, invoke, tmp_path):
    """Folders of the environment are not among them: who inherits it finds them there."""
    handed = []
    monkeypatch.setattr(commands.reproduce, "carry_out_all", lambda asked, *_: handed.append(asked) or 0)
    monkeypatch.setattr(commands.reproduce, "prepare_if_absent", lambda *_: None)
    options = ("--engine", "gluon", "--device", "cpu", "--epochs", "1", "--fail-on", "inconclusive", "--threads", "1")
    changes = ("--set", "train.batch_size=7", "--runs", str(tmp_path / "mine"), "--json")
    assert invoke("reproduce", "binaryconnect-mnist", "--seed", "1,2", *options, *changes).exit_code == 0
    (asked,) = handed
    job = NewRun(
        benchmark="binaryconnect-mnist", seed=2, overrides=("train.batch_size=7",), epochs="1", engine="gluon",
        device="cpu", threads=1, precision="float32", compile="auto", fail_on=("inconclusive",),
        runs_root=tmp_path / "mine", as_json=True,
    )  # fmt: skip
    assert asked == {"seed 1": dataclasses.replace(job, seed=1), "seed 2": job}


def test_runs_that_are_gone_on_with_are_jobs_with_the_values_of_the_command(monkeypatch, invoke, tmp_path):
    handed = []
    monkeypatch.setattr(commands.resume, "carry_out_all", lambda *asked: handed.append(asked) or 0)
    devices = {"one": "cpu", "two": "gpu"}
    for name in devices:
        (tmp_path / "runs" / "a" / name).mkdir(parents=True)
        (tmp_path / "runs" / "a" / name / "run.json").touch()
    monkeypatch.setattr(RunFolder, "manifest", lambda folder: SimpleNamespace(device=devices[folder.path.name]))
    invoke("resume", "one", "two", "--at-once", "2", "--allow-change", "--data", str(tmp_path))
    jobs = {
        f"a/{name}": BegunRun(run=tmp_path / "runs" / "a" / name, allow_change=True, data_root=tmp_path)
        for name in devices
    }
    assert handed == [(jobs, 2, "gpu", False)]


@pytest.mark.parametrize(
    ("word", "fits"),
    [
        ("rwth", lambda s: s.id.startswith("rwth-")),
        ("1511.00363", lambda s: s.paper == "BinaryConnect"),
        ("courbariaux", lambda s: s.paper in ("BinaryConnect", "BinaryNet")),
        ("BinaryConnect", lambda s: s.paper == "BinaryConnect"),
        ("resnet-20", lambda s: "ResNet-20" in s.title),
    ],
)
def test_a_paper_is_found_by_name_title_author_number_or_id(invoke, word, fits):
    listed = {row["benchmark"] for row in json.loads(invoke("list", "--paper", word, "--json").stdout)}
    assert {s.id for s in summaries() if fits(s)} <= listed
    assert len(listed) < len(summaries())


@pytest.mark.parametrize(
    ("option", "word", "complaint"),
    [
        ("--paper", "binarnet", "did you mean binarynet"),
        ("--data", "mnst", "expected (a part of) cifar10, mnist, svhn: did you mean mnist?"),
        ("--verdict", "reprodused", "did you mean reproduced"),
    ],
)
def test_a_word_that_nothing_has_is_an_error_that_names_the_nearest(invoke, option, word, complaint):
    assert complaint in error_line(invoke("list", option, word), 2)
    assert complaint in error_line(invoke("list", option, word, "--json"), 2)
    assert complaint in error_line(invoke("table", option, word), 2)


def test_a_verdict_that_no_benchmark_has_is_no_error(invoke):
    result = invoke("list", "--verdict", "suspiciously good")
    assert (result.exit_code, result.stdout) == (0, "no benchmark fits\n")


def test_the_table_is_narrowed_as_the_list_is(invoke):
    every = json.loads(invoke("table", "--all", "--json").stdout)
    on_svhn = json.loads(invoke("table", "--all", "--json", "--paper", "courbariaux", "--data", "svhn").stdout)
    assert on_svhn == [row for row in every if row["paper"] in ("BinaryConnect", "BinaryNet") and row["data"] == "svhn"]
    assert len(on_svhn) > 2
    assert invoke("table", "--verdict", "not run").stdout == "no row fits\n"
    assert invoke("table", "--verdict", "not run", "--history", "binaryconnect-mnist").exit_code == 2


def test_a_registry_that_is_named_must_be_there(invoke, tmp_path):
    assert "there is no such folder" in error_line(invoke("list", "--registry", str(tmp_path / "typo")), 1)


@pytest.mark.parametrize(
    "words",
    [
        *("table", "list", "check", "verify", "runs", "export --format csv", "compare a b", "submit a --out b"),
        *("table --history binaryconnect-mnist", "evaluate --pretrained a", "regress --kind registry"),
    ],
)
def test_nothing_in_a_registry_that_is_not_there_is_no_answer(invoke, tmp_path, words):
    line = error_line(invoke(*words.split(), "--registry", str(tmp_path / "typo")), 1)
    assert line.startswith(f"error: --registry {tmp_path / 'typo'}: there is no such folder")


@pytest.mark.parametrize(("words", "option"), [("runs", "--runs"), ("prepare --list", "--data")])
def test_a_folder_that_is_named_to_be_listed_is_there(invoke, tmp_path, words, option):
    line = error_line(invoke(*words.split(), option, str(tmp_path / "typo")), 1)
    assert line == f"error: {option} {tmp_path / 'typo'}: there is no such folder"
    assert invoke(*words.split()).exit_code == 0
    assert invoke("list", "--registry", str(tmp_path)).exit_code == 0
    assert invoke("list").exit_code == 0


def test_the_version_is_that_of_the_project(invoke):
    assert f'version = "{invoke("--version").stdout.split()[1]}"' in (REPOSITORY / "pyproject.toml").read_text()


# -- every command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def every_command():
    """All commands by name."""
    with click.Context(cli.cli) as ctx:
        return {name: cli.cli.get_command(ctx, name) for name in cli.cli.list_commands(ctx)}


def test_every_module_with_a_command_is_a_command(every_command):
    modules = {path.stem for path in (REPOSITORY / "commands").glob("*.py") if "\ndef command(" in path.read_text()}
    assert set(cli.COMMANDS.values()) == modules
    assert {name: command.name for name, command in every_command.items()} == {name: name for name in cli.COMMANDS}


def test_a_mistyped_command_is_answered_with_the_nearest(invoke):
    refused = invoke("reproduc")
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (
        2, "Error: No such command 'reproduc'. Did you mean 'reproduce'?",
    )  # fmt: skip


def test_every_option_is_explained(every_command):
    """What it is for, not its default alone."""
    unexplained = [
        (name, option.opts)
        for name, command in every_command.items()
        for option in command.params
        if isinstance(option, click.Option) and not (option.help or "").partition("[")[0].strip()
    ]
    assert unexplained == []


def test_the_readme_lists_every_command():
    text = (REPOSITORY / "README.md").read_text()
    listed = re.findall(r"^\| `([a-z-]+)[^`]*` \| `python cli\.py ([a-z-]+)", text, re.MULTILINE)
    assert listed == [(name, name) for name, _ in listed]
    assert sorted(name for name, _ in listed) == sorted(cli.COMMANDS)


FAMILIES = {RecipeError: 2, EngineError: 1, RunError: 1, DataError: 1, RegistryError: 7}


def errors_of(family: type[Exception]) -> list[type[Exception]]:
    return [family, *(error for child in family.__subclasses__() for error in errors_of(child))]


@pytest.mark.parametrize("error", [error for family in FAMILIES for error in errors_of(family)])
def test_every_error_has_one_exit_code_and_is_one_line(monkeypatch, invoke, error):
    from benchmarks import doctor

    def examine(*_: object, **__: object) -> None:
        raise raised

    raised = error.__new__(error)
    Exception.__init__(raised, "what is wrong")  # whatever the class itself asks for
    monkeypatch.setattr(doctor, "examine", examine)
    families = [family for family in FAMILIES if issubclass(error, family)]
    assert len(families) == 1
    # That a file cannot be written, or a package is not there, says nothing about the records; a revision is typed.
    others = {"RegistryFileError": 1, "NoParquetError": 1, "RevisionError": 2}
    exit_code = others.get(error.__name__, FAMILIES[families[0]])
    assert error_line(invoke("doctor"), exit_code) == "error: what is wrong"


# -- streams, terminals, memory ----------------------------------------------------------------------------------------

C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize(("encoding", "plus_minus"), [("iso8859-2", "+-"), ("ascii", "\u00b1")])
def test_what_an_encoding_lacks_is_written_in_another_way(encoding, plus_minus, tmp_path):
    """A name in a record may have any character; for ASCII, which systems often name by mistake, click writes UTF-8."""
    record = msgspec.structs.replace(
        read(first("binaryconnect-mnist")), benchmark="other", paper="5 \u00b1 1", id="", checksums={}
    )
    write(record, tmp_path)
    registry = {"BNN_REGISTRY": str(tmp_path), "PYTHONIOENCODING": encoding}
    listed = shell(f"{CLI} table --format markdown", env=os.environ | C_LOCALE | registry)
    assert listed.returncode == 0, listed.stderr
    assert f"| other | 5 {plus_minus} 1 | mnist |" in listed.stdout


def test_what_is_escaped_is_json_too():
    error = UnicodeEncodeError("ascii", "a\u00b1\u00e9\U0001f600z", 1, 4, "")
    escaped, end = start._escape(error)
    assert (escaped, end) == (r"+-\u00e9\ud83d\ude00", 4)
    assert json.loads(f'"{escaped}"') == "+-\u00e9\U0001f600"


@pytest.mark.parametrize(
    ("command", "exit_code", "said"),
    [
        ("list >&-", 0, ""),
        ("list >&- 2>&-", 0, ""),
        ("list <&-", 0, ""),
        ("show nothing 2>&-", 2, ""),
        ("list --json >/dev/full", 1, "error: input/output: No space left on device\n"),
        ("list --json | head -c 1 >&2", 0, "["),
    ],
)
def test_a_stream_that_takes_nothing(command, exit_code, said):
    ended = shell(f"{CLI} {command}")
    assert (ended.returncode, ended.stderr) == (exit_code, said)


def test_a_closed_stream_is_not_the_next_file_that_is_opened(tmp_path):
    program = (
        "import os; from benchmarks import start; start.settle_streams();"
        "file = open('file', 'w'); print('lost'); os.write(1, b'lost'); print(file.fileno() > 2, file=file)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    assert shell(f"'{sys.executable}' -c \"{program}\" >&-", cwd=tmp_path, env=environment).stderr == ""
    assert (tmp_path / "file").read_text() == "True\n"


@pytest.mark.parametrize(
    ("variables", "colored"), [({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colors_are_for_terminals_and_readers_that_want_them(monkeypatch, variables, colored):
    from benchmarks import doctor

    monkeypatch.setattr(doctor, "examine", lambda *_, **__: [doctor.Finding("python", "ok", "as it should be")])
    monkeypatch.delenv("NO_COLOR", raising=False)
    result = CliRunner().invoke(cli.cli, ["doctor"], color=True, env=variables)
    assert ("\033[" in result.stdout) == colored


@pytest.mark.parametrize("limited", [False, True])
def test_memory_that_is_not_there_is_one_line(monkeypatch, invoke, limited):
    from benchmarks import doctor

    def examine(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(doctor, "examine", examine)
    monkeypatch.setattr(start, "memory_limit", lambda: 10**9 if limited else None)
    error: Exception = MemoryError("Unable to allocate 2 GiB")
    line = error_line(invoke("doctor"), 1)
    assert line.startswith("error: not enough memory: Unable to allocate 2 GiB: expected ")
    assert ("ulimit" in line) == limited
    for error in (SystemError("error return without exception set"), ImportError("failed to map segment")):
        ended = invoke("doctor")
        assert ended.exit_code == 1
        assert isinstance(ended.exception, SystemExit if limited else type(error))
    error = OSError(errno.ENOMEM, "Cannot allocate memory")
    assert error_line(invoke("doctor"), 1).startswith("error: not enough memory: Cannot allocate memory: expected ")


@pytest.mark.parametrize(
    ("kib", "command", "words"),
    [
        (200_000, "list", "memory is limited to 195 MiB, this program needs 512: "),
        (1_300_000, "reproduce chawla-mlp-mnist-float --engine gluon", "not enough memory for an engine: it needs "),
    ],
)
def test_a_limit_of_memory_that_libraries_would_not_survive_is_refused(
    invoke, tmp_path, small_data_root, kib, command, words
):
    options = (
        f"--set data.dataset=mnist-small --set data.train_images=500 --set data.valid_images=100 --runs {tmp_path}"
    )
    limited = f"ulimit -v {kib}; {CLI} {command} {options if 'reproduce' in command else ''}"
    refused = shell(limited, env=os.environ | {"BNN_DATA": str(small_data_root)})
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"error: {words}")
    assert refused.stderr.endswith("`ulimit -v unlimited` takes it away\n")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_the_name_of_what_cannot_be_written(tmp_path):
    """The error of the system names none. A limit of the size of files stands for the disk."""
    submit = f"submit chawla-mlp-mnist-binary --registry '{REPOSITORY / 'results' / 'runs'}' --out '{tmp_path / 'out'}'"
    refused = shell(f"ulimit -f 1; {CLI} {submit}")
    expected = f"error: {tmp_path / 'out'}: cannot be written: File too large; free or change that place\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", expected)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_modules_are_loaded_is_no_traceback(tmp_path):
    """A module that is loaded early stands for the moment in which it comes."""
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n")
    ended = shell(f"{CLI} list", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("options", ["", "-P", "-I"])
def test_no_other_packages_of_these_names_are_taken(options, tmp_path):
    """With -P Python itself puts what PYTHONPATH names, another checkout say, before the folder of cli.py."""
    for package in ("benchmarks", "commands", "results"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('another checkout')")
    command = f"'{sys.executable}' {options} '{REPOSITORY / 'cli.py'}' --version"
    ended = shell(command, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert ended.stdout.startswith("bnn-reproducibility "), ended.stderr


def test_a_python_without_docstrings_is_told_in_one_line():
    ended = shell(f"'{sys.executable}' -OO '{REPOSITORY / 'cli.py'}' --version")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("error: this is `python -OO`")


def test_windows_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(start.os, "name", "nt")
    with pytest.raises(SystemExit, match="1"):
        start.check_python()
    assert capsys.readouterr().err.startswith("error: this is Windows, expected Linux or macOS")
