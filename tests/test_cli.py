"""The command line, as its users meet it: real files, real MNIST images; processes where these are the subject."""

from __future__ import annotations

import json
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_server import folders
from killed import after_first_epoch, resumed_record, shell

from results.record import comparable, from_bytes

REPOSITORY = Path(__file__).parents[1]
SMALL = (
    *("--set", "data.dataset=mnist-small", "--limit-train", "2000", "--set", "data.valid_images=200"),
    *("--set", "model.architecture=2x128FC-10FC"),
)


def one_line_error(result: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one line of a refused command; no traceback, nothing on standard output."""
    assert result.returncode == exit_code, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, result.stderr
    return lines[0]


# -- what there is ----------------------------------------------------------------------------------------------------


def test_list(cli):
    result = cli("list")
    assert result.returncode == 0
    assert re.search(r"binaryconnect-mnist +BinaryConnect +mnist +1\.15 .*not run", result.stdout)
    rows = json.loads(cli("list", "--json", "--data", "mnist").stdout)
    assert "binaryconnect-mnist" in {row["benchmark"] for row in rows}
    assert cli("list", "--verdict", "suspiciously").stdout == "no benchmark fits\n"


def test_show_gives_every_setting_with_its_source(cli):
    result = cli("show", "binaryconnect-mnist")
    assert result.returncode == 0
    assert re.search(r"train.epochs +250 +\[mnist.py: num_epochs = 250\]", result.stdout)
    assert "1.15 %" in result.stdout
    assert "10,0" in result.stdout  # about 10 million parameters
    assert "cli.py reproduce binaryconnect-mnist\n" in result.stdout


def test_show_marks_what_is_not_as_published(cli):
    result = cli("show", "binaryconnect-mnist", "--epochs", "2")
    assert re.search(r"train.epochs +2 +<- published: 250 \(--epochs\)", result.stdout)
    assert "does not score" in result.stdout
    shown = json.loads(cli("show", "binaryconnect-mnist", "--epochs", "2", "--json").stdout)
    assert (shown["scoring"], shown["settings"]["train"]["epochs"]) == (False, 2)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "complaint"),
    [
        (("show", "binaryconect-mnist"), 2, "unknown benchmark 'binaryconect-mnist': did you mean binaryconnect-mnist"),
        (("show", "binaryconnect-mnist", "--set", "train.epoch=2"), 2, "did you mean train.epochs"),
        (("reproduce", "binaryconnect-mnist", "--epochs", "x"), 2, "train.epochs=x: expected a whole number"),
        (("reproduce", "binaryconnect-mnist", "--set", "epochs"), 2, "expected key=value"),
        (("reproduce", "binaryconnect-mnist", *SMALL, "--limit-train", "60000"), 1, "1 to 2000 training images"),
        (
            ("reproduce", "binaryconnect-mnist", *SMALL, "--engine", "gluon", "--device", "gpu"),
            1,
            "compute capability 5.0",
        ),
        (("prepare", "mnits"), 1, "unknown data set 'mnits'"),
        (("prepare", "mnist", "--check"), 1, "cli.py prepare mnist"),
        (("resume", "nothing"), 1, "no run 'nothing'"),
        (("resume", "/nothing/here"), 1, "no run '/nothing/here'"),
        (("evaluate", "nothing"), 1, "cli.py reproduce ID"),
    ],
)
def test_bad_input_is_one_clear_line(cli, arguments, exit_code, complaint):
    assert complaint in one_line_error(cli(*arguments), exit_code)


@pytest.mark.parametrize("seeds", ["1,1", "1,", "-1", "x", str(2**63)])
def test_seeds_that_are_none(cli, seeds):
    refused = cli("reproduce", "binaryconnect-mnist", "--seed", seeds)
    assert refused.returncode == 2
    assert f"'{seeds}': expected different whole numbers from 0 to 2^63 - 1, as in 1234,1,2" in refused.stderr


def test_the_later_one_of_two_settings_counts(cli):
    epochs = [part for value in (2, 3, 2) for part in ("--set", f"train.epochs={value}")]
    shown = json.loads(cli("show", "binaryconnect-mnist", *epochs, "--json").stdout)
    assert shown["settings"]["train"]["epochs"] == 2


@pytest.mark.slow
def test_what_is_interrupted_outside_of_training_has_the_exit_code_of_ctrl_c(environment):
    stop = "def stop(*_, **__): raise KeyboardInterrupt"  # as Ctrl-C, which background processes may ignore
    code = f"import cli\nfrom benchmarks import doctor\n{stop}\ndoctor.examine = stop\ncli.cli()"
    result = subprocess.run(
        [sys.executable, "-c", code, "doctor"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


def test_an_unwritable_runs_folder_is_one_clear_line(cli, tmp_path):
    (tmp_path / "file").write_text("")
    result = cli("reproduce", "binaryconnect-mnist", *SMALL, "--epochs", "1", "--runs", str(tmp_path / "file" / "runs"))
    assert "name another with --runs DIR" in one_line_error(result, 1)


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line_and_resumable(environment, tmp_path):
    """The file size limit of the process stands for a disk that fills while the checkpoint is written."""
    arguments = ["cli.py", "reproduce", "binaryconnect-mnist", *SMALL, "--epochs", "1"]
    script = f"""
import resource, runpy, signal, sys
sys.dont_write_bytecode = True  # Python 3.11 takes a .pyc file that the limit has cut for whole, ever after
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.argv, sys.path[:0] = {arguments!r}, [{str(REPOSITORY)!r}]
runpy.run_path({str(REPOSITORY / "cli.py")!r}, run_name="__main__")
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    error = one_line_error(result, 1)
    assert "cannot be written" in error
    assert re.search(r"then go on with `.*cli.py resume binaryconnect-mnist/\S+`$", error)
    assert not list(tmp_path.glob("runs/*/*/checkpoint.npz"))
    assert not list(tmp_path.glob("runs/*/*/record.json"))


# -- the main job -----------------------------------------------------------------------------------------------------


def run_folder(tmp_path: Path) -> Path:
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/*/run.json"))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_data_root, commands):
    """A run of 4 epochs that nothing interrupted: (its folder, what the environment says of folders, the result)."""
    root = tmp_path_factory.mktemp("finished")
    environment = folders(small_data_root, root)
    result = commands.run(("reproduce", "binaryconnect-mnist", *SMALL, "--epochs", "4"), environment)
    assert result.returncode == 0, result.stderr
    return run_folder(root), environment, result


CHANGES_NUMBERS = {
    **{"OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true", "OMP_NUM_THREADS": "1", "DNNL_MAX_CPU_ISA": "SSE41"},
    **{"DNNL_DEFAULT_FPMATH_MODE": "BF16", "MXNET_SAFE_ACCUMULATION": "1", "NUMBA_CPU_NAME": "generic"},
}


@pytest.mark.threads
def test_variables_that_change_numbers_change_none(process_cli, tmp_path):
    """Two threads: with OMP_THREAD_LIMIT=1 in force, MXNet's products would be wrong."""
    digests = []
    for folder, variables in (("plain", {}), ("changed", CHANGES_NUMBERS)):
        runs = tmp_path / folder
        result = process_cli(
            "reproduce", "binaryconnect-mnist", *SMALL, "--epochs", "1", "--runs", str(runs), **variables
        )
        assert result.returncode == 0, result.stderr
        (record,) = runs.glob("*/*/record.json")
        digests.append(read_record(record.parent).weights_sha256)
        assert all(f"{name}={value}" in result.stderr for name, value in variables.items())
    assert digests[0] == digests[1]


def read_record(folder: Path):
    return from_bytes((folder / "record.json").read_bytes(), "record.json")


def test_it_learns(finished):
    """Measured: 24 % of the 200 test images wrong after 4 epochs of 2,000 images; chance is 90 %."""
    folder, _, _ = finished
    record = read_record(folder)
    assert record.results.declared.test_error < 35
    assert record.curve.train_loss[-1] < 0.9 * record.curve.train_loss[0]  # measured: 0.8


def test_a_reduced_run_says_that_it_does_not_score(finished):
    folder, _, result = finished
    assert "this run does not score" in result.stderr
    assert "not as published: train.epochs = 4 (published: 250; --epochs)" in result.stderr
    assert "verdict: not scored" in result.stdout
    record = read_record(folder)
    assert not record.recipe.scoring
    assert [difference.key for difference in record.recipe.differences][:1] == ["data.dataset"]


def test_everything_is_in_the_runs_own_folder(finished):
    folder, environment, result = finished
    declared = read_record(folder).results.declared.epoch
    names = {path.name for path in folder.iterdir()}
    names -= {path.name for path in folder.glob("code-*.zip")}  # of a checkout that is being worked on
    assert names == {
        *("run.json", "lock", "checkpoint.npz", "sittings.json", "record.json", "learning-curve.png", "tensorboard"),
        f"weights-epoch-{declared:04}.npz",
    }
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    places = f"learning curve: {folder / 'learning-curve.png'}; TensorBoard log: {folder / 'tensorboard'}"
    assert places in result.stdout
    assert not Path(environment["BNN_REGISTRY"]).exists()  # only scoring runs are registered


def test_a_second_run_is_shown_beside_the_first(finished, cli):
    """The same settings with another seed: each epoch's line says whether it lies where the first run was."""
    _, environment, _ = finished
    result = cli("reproduce", "binaryconnect-mnist", *SMALL, "--epochs", "4", "--seed", "2", **environment)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("epoch ")]
    assert all(re.search(r"(within|above|below) [\d.]+ to [\d.]+ % of 1 earlier run$", line) for line in lines)
    assert any("within" in line for line in lines)


def test_evaluate_agrees_with_the_record(finished, cli):
    folder, environment, _ = finished
    result = cli("evaluate", folder.name, **environment)
    assert result.returncode == 0, result.stderr
    assert "as recorded, image by image" in result.stdout
    result = cli("evaluate", folder.name, "--json", **environment)
    assert json.loads(result.stdout)["test_error"] == read_record(folder).results.declared.test_error


@pytest.mark.nightly
def test_a_run_killed_at_random_moments_ends_with_the_same_record(finished, cli, environment, tmp_path):
    """kill -9, five times, wherever it happens to be; then resume to the end: the same record but for times."""
    randomness = random.Random(7)
    command = [sys.executable, str(REPOSITORY / "cli.py")]
    arguments = ["reproduce", "binaryconnect-mnist", *SMALL, "--epochs", "4"]
    for kill in range(5):
        process = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        while line := process.stderr.readline():
            if line.startswith("epoch ") or (kill == 0 and "folder" in line):
                time.sleep(randomness.random() * 0.1)
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        arguments = ["resume", "binaryconnect-mnist"]
        if (run_folder(tmp_path) / "record.json").exists():
            break
    result = cli("resume", "binaryconnect-mnist")
    assert result.returncode == 0, result.stderr
    killed, whole = read_record(run_folder(tmp_path)), read_record(finished[0])
    assert comparable(killed) == comparable(whole)
    assert killed.weights_sha256 == whole.weights_sha256
    assert killed.restarts >= 2


@pytest.mark.slow
def test_a_killed_memorization_run_goes_on_with_the_same_random_labels(cli, environment):
    """Then it is evaluated as the authors' script does: the first training images, with binary weights."""
    small = (
        *("--set", "data.dataset=cifar10-small", "--limit-train", "300", "--set", "data.valid_images=100"),
        *("--set", "model.architecture=4C3-MP2-8C3-MP2-16FC-10FC", "--epochs", "3"),
    )
    record = resumed_record(cli, environment, "memorization-cifar10-random-labels", *small)
    assert record.recipe.settings["data"]["labels"] == "random"
    result = cli("evaluate", "memorization-cifar10-random-labels", "--first", "300", "--weights", "binary", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["train_images"] == 300
    assert found["train_error"] == record.curve.train_error[found["epoch"] - 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "of_ctrl_c"),
    [(signal.SIGINT, signal.SIG_DFL), (signal.SIGTERM, signal.SIG_DFL), (signal.SIGTERM, signal.SIG_IGN)],
    ids=["Ctrl-C", "kill", "kill, in the background of a script, where Ctrl-C is ignored"],
)
def test_an_interrupted_run_says_how_to_go_on(environment, tmp_path, stop, of_ctrl_c):
    runs = tmp_path / "runs of mine [/red]"
    own = signal.signal(signal.SIGINT, of_ctrl_c)  # the process inherits it
    try:
        process = after_first_epoch(("binaryconnect-mnist", *SMALL, "--runs", str(runs)), environment)
    finally:
        signal.signal(signal.SIGINT, own)
    process.send_signal(stop)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    (folder,) = runs.glob("*/*")
    hint = stderr.rpartition("interrupted; go on with: ")[2]
    assert shlex.split(hint)[-4:] == ["resume", "--runs", str(runs), f"binaryconnect-mnist/{folder.name}"]
    # The command as it stands, but for one that takes less time and finds the same run.
    evaluate = shell(hint.replace(" resume ", " evaluate "), env=environment)
    assert "binaryconnect-mnist" in evaluate.stdout + evaluate.stderr
    assert "Traceback" not in evaluate.stderr
    assert "no run" not in evaluate.stderr


@pytest.mark.slow
def test_runs_of_several_seeds_are_those_that_each_would_be_alone(cli, tmp_path):
    options = (*SMALL, "--epochs", "1")
    several = cli("reproduce", "binaryconnect-mnist", *options, "--seed", "7,8", "--at-once", "2", "--threads", "1")
    assert several.returncode == 0, several.stderr
    for seed in (7, 8):
        assert f"seed {seed} | epoch 1/1 " in several.stderr
        assert f"seed {seed} | binaryconnect-mnist: finished after 1 epochs" in several.stdout
    alone = cli("reproduce", "binaryconnect-mnist", *options, "--seed", "8", "--threads", "1", "--runs", str(tmp_path))
    assert alone.returncode == 0, alone.stderr
    (one,), (other,) = tmp_path.glob("binaryconnect-mnist/*"), tmp_path.glob("runs/*/*-s8")
    assert comparable(read_record(one)) == comparable(read_record(other))


@pytest.mark.slow
def test_runs_of_several_seeds_end_with_the_mean_of_all_that_are_recorded(environment):
    code = """
import cli
from benchmarks.queue import side_by_side
from commands import reproduce
side_by_side.carry_out = lambda *_, **__: []
reproduce.prepare_if_absent = lambda *_: None
cli.cli()
"""
    command = ["reproduce", "binaryconnect-mnist", "--seed", "1,2", "--engine", "gluon", "--device", "cpu"]
    result = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=REPOSITORY,
        env=environment | {"BNN_REGISTRY": str(REPOSITORY / "results" / "runs")},
        capture_output=True,
        text=True,
        check=True,
    )
    heading, _, *rows = result.stdout.splitlines()
    assert heading.startswith("Benchmark")
    assert rows
    assert all(row.startswith("binaryconnect-mnist ") for row in rows)


@pytest.mark.slow
def test_interrupted_runs_of_several_seeds_go_on_together(cli, environment, tmp_path):
    command = ("reproduce", "binaryconnect-mnist", *SMALL, "--epochs", "40", "--seed", "7,8,9", "--at-once", "2")
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "cli.py"), *command], env=environment, stderr=subprocess.PIPE, text=True
    )
    # So many epochs that neither run is over when the other, seconds later on a busy machine, has its first.
    waited_for = {"seed 7 | epoch  1/40", "seed 8 | epoch  1/40"}
    while waited_for:
        line = process.stderr.readline()
        assert line, "it ended too early"
        waited_for -= {beginning for beginning in waited_for if line.startswith(beginning)}
    process.terminate()
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 130
    names = re.findall(
        r"^seed [78] \| interrupted; go on with: .*python\S* \S*cli\.py resume (\S+)$", stderr, re.MULTILINE
    )
    assert len(names) == 2
    assert "interrupted before the run began: seed 9\n" in stderr
    resumed = cli("resume", *names, "--at-once", "2", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{names[0]} | continues after epoch " in resumed.stderr
    records = json.loads(resumed.stdout)
    assert [(record["restarts"], len(record["curve"]["epoch"])) for record in records] == [(1, 40)] * 2


@pytest.mark.slow
def test_a_run_is_worked_on_by_one_process_only(cli, environment, tmp_path):
    process = after_first_epoch(("binaryconnect-mnist", *SMALL), environment)
    try:
        assert "being worked on by another process" in one_line_error(cli("resume", "binaryconnect-mnist"), 1)
    finally:
        process.kill()
        process.communicate()


def test_a_run_that_diverges_ends_as_diverged(cli, tmp_path):
    """A learning rate beyond all reason: a record with outcome "diverged", not a crash."""
    huge = ("--set", "train.lr_start=1e38", "--set", "train.lr_final=1e38")
    result = cli("reproduce", "binaryconnect-mnist", *SMALL, *huge, "--epochs", "3")
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "diverged" in result.stdout
    folder = run_folder(tmp_path)
    record = (folder / "record.json").read_bytes()
    assert read_record(folder).outcome == "diverged"
    assert "learning curve" not in result.stdout  # there is none of no epoch
    assert not (folder / "learning-curve.png").exists()
    line = one_line_error(cli("evaluate", folder.name), 1)
    assert "--seed N --set " in line
    assert "--set train.lr_start=1e+38 --set train.lr_final=1e+38`" in line
    again = cli("resume", folder.name)
    assert (again.returncode, again.stdout) == (result.returncode, result.stdout)
    assert (folder / "record.json").read_bytes() == record


def damage(folder: Path, tmp_path: Path, name: str, content: bytes) -> Path:
    import shutil

    copy = tmp_path / "runs" / "binaryconnect-mnist" / folder.name
    shutil.copytree(folder, copy)
    (copy / name).write_bytes(content)
    (copy / "record.json").unlink(missing_ok=True)
    return copy


@pytest.mark.parametrize(
    ("name", "complaint"), [("checkpoint.npz", "checkpoint.npz is damaged"), ("run.json", "run.json cannot be read")]
)
@pytest.mark.parametrize("cut", [0.0, 0.5])
def test_a_damaged_run_folder_is_one_clear_line(finished, cli, tmp_path, name, complaint, cut):
    content = (finished[0] / name).read_bytes()
    damage(finished[0], tmp_path, name, content[: int(len(content) * cut)])
    assert complaint in one_line_error(cli("resume", finished[0].name), 1)


def test_a_pickle_is_never_loaded(finished, cli, tmp_path):
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array([{"a": 1}], dtype=object))
    damage(finished[0], tmp_path, "checkpoint.npz", buffer.getvalue())
    assert "checkpoint.npz is damaged" in one_line_error(cli("resume", finished[0].name), 1)


# -- results ----------------------------------------------------------------------------------------------------------


def test_an_empty_registry_is_valid_and_one_that_is_not_there_is_not(cli, tmp_path):
    for command in (("verify",), ("table", "--write")):
        message = one_line_error(cli(*command), 1)
        assert (
            message
            == f"error: $BNN_REGISTRY {tmp_path}/registry/runs: there is no such folder: expected one with records"
        )
    registry = tmp_path / "registry" / "runs"
    registry.mkdir(parents=True)
    result = cli("verify")
    assert (result.returncode, result.stdout) == (0, "0 records, there is nothing to check\n")
    assert cli("table", "--json").stdout == "[]\n"
    written = cli("table", "--write", "--json")
    assert (written.returncode, written.stdout) == (0, "[]\n")
    assert f"note: there is no {tmp_path}/README.md to write the table to" in written.stderr
    assert (registry.parent / "table.csv").read_text().startswith("benchmark,")
    assert not (tmp_path / "README.md").exists()


def test_the_projects_own_registry_is_valid_and_its_table_up_to_date(cli, tmp_path):
    """As it is committed, or about to be: the records of those who try the commands are their own affair."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a checkout of git's")
    project = tmp_path / "project"
    names = subprocess.run(
        ["git", "ls-files", "results", "README.md"], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True
    )
    checkout = ["git", "checkout-index", "--stdin", f"--prefix={project}/"]
    subprocess.run(checkout, cwd=REPOSITORY, input=names.stdout, check=True)
    registry = project / "results" / "runs"
    result = cli("verify", "--registry", str(registry))
    assert result.returncode == 0, result.stdout
    markdown = cli("table", "--format", "markdown", "--registry", str(registry)).stdout
    assert markdown.strip() in (project / "README.md").read_text()
