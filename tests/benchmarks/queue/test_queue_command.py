"""`queue add`, `status`, `cancel`, `logs`, `work`, as typed in a checkout of its own with two small benchmarks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_server import folders
from fake_queue import fake_queue, fake_run
from small_network import catalog_file

from benchmarks.queue.attempt import find_begun
from results import registered
from results.leases import read
from results.registry import read_all

REPOSITORY = Path(__file__).parents[3]
ROOMS = ("benchmarks", "bnn_gluon", "bnn_torch", "commands", "data_prep", "results")
ENGINE = ("--engine", "gluon", "--device", "cpu", "--threads", "1")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A checkout of the code as it is now, with a catalog of two benchmarks, in one commit."""
    root = tmp_path_factory.mktemp("checkout")
    skipped = shutil.ignore_patterns("__pycache__", "catalog", "runs", "weights", "registered", "reevaluated")
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, root / room, ignore=skipped)
    for file in ("cli.py", "requirements.txt", "pyproject.toml", ".gitignore"):
        shutil.copy(REPOSITORY / file, root)
    catalog = root / "benchmarks" / "catalog" / "tests"
    catalog.mkdir(parents=True)
    for name in ("small-a", "small-b"):
        (catalog / f"{name}.yaml").write_text(catalog_file(name, {}))
    (catalog.parent / "versions.csv").write_text("id,version,digest,test_error\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "all")
    return root


class Checkout:
    """A checkout whose command line is carried out, with a queue, runs and a registry of its own."""

    def __init__(self, root: Path, data: Path, home: Path) -> None:
        self.root, self.home, self.queue = root, home, home / "queue"
        self.registry = home / "registry" / "runs"
        self.environment = os.environ | folders(data, home) | {"BNN_QUEUE": str(self.queue)}
        self.environment |= {"OMP_WAIT_POLICY": "passive"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "cli.py", *arguments], cwd=self.root, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, exit_code: int = 0) -> tuple[str, str]:
        """Standard output and error."""
        process = self.start(*arguments)
        out, err = process.communicate()
        assert process.returncode == exit_code, (out, err)
        return out, err

    def status(self) -> dict[str, str]:
        """State of each run."""
        out, _ = self.run("queue", "status", "--json")
        return {run["name"]: run["state"] for run in json.loads(out)["runs"]}


@pytest.fixture
def checkout(original, small_data_root, tmp_path) -> Checkout:
    shutil.copytree(original, tmp_path / "checkout", symlinks=True)
    return Checkout(tmp_path / "checkout", small_data_root, tmp_path)


@pytest.mark.slow
def test_groups_are_registered_and_queued_once(checkout):
    out, err = checkout.run("queue", "add", "small-*", "--seeds", "5", *ENGINE)
    assert out == f"10 runs queued in {checkout.queue}, 0 passed over\n"
    assert err.count("registered: small-") == 2
    groups = [group for name in ("small-a", "small-b") for group in registered.read(checkout.registry, name)]
    commit = git(checkout.root, "rev-parse", "HEAD")
    assert [(group.key.benchmark, group.commit) for group in groups] == [("small-a", commit), ("small-b", commit)]
    out, _ = checkout.run("queue", "add", "small-a", "--seeds", "5", *ENGINE)
    assert out.splitlines() == [
        "passed over: small-a, seed 1234, 1, 2, 3, 4: queued already",
        f"0 runs queued in {checkout.queue}, 5 passed over",
    ]
    assert set(checkout.status().values()) == {"waiting"}
    out, _ = checkout.run("queue", "status")
    assert re.search(r"^small-a-\w{8}  registered  +5 ", out, re.MULTILINE)
    assert out.splitlines()[-1] == "10 runs: 10 waiting; time not known"
    out, _ = checkout.run("queue", "cancel", "small-b")
    assert out == "5 runs cancelled\n"
    assert sorted(checkout.status().values()) == ["cancelled"] * 5 + ["waiting"] * 5
    out, _ = checkout.run("queue", "add", "small-b", "--seeds", "5", *ENGINE)
    assert out.startswith("5 runs queued")


@pytest.mark.slow
def test_a_queue_takes_the_code_of_a_commit_and_keeps_it(checkout):
    checkout.run("queue", "add", "small-a", "--seed", "1,2", *ENGINE)
    first = git(checkout.root, "rev-parse", "HEAD")
    module = checkout.root / "commands" / "tour.py"
    module.write_text(module.read_text() + "\n# another code\n")
    _, err = checkout.run("queue", "add", "small-a", "--seed", "3", *ENGINE, exit_code=1)
    assert f"error: the code is not that of commit {first[:12]} (commands/tour.py)" in err
    git(checkout.root, "commit", "-qam", "another")
    out, _ = checkout.run("queue", "add", "small-a", "--seed", "1,3", *ENGINE)
    assert out.splitlines()[0] == f"passed over: small-a, seed 1: queued already, with commit {first[:12]}"
    second = git(checkout.root, "rev-parse", "HEAD")
    codes = [checkout.queue / "code" / commit for commit in (first, second)]
    assert [git(code, "rev-parse", "HEAD") for code in codes] == [first, second]
    assert ["another code" in (code / "commands" / "tour.py").read_text() for code in codes] == [False, True]
    assert len({name.rpartition("-s")[0] for name in checkout.status()}) == 2  # another commit is another group


@pytest.mark.slow
def test_what_it_would_take_is_said_and_nothing_is_written(checkout):
    out, _ = checkout.run("queue", "add", "small-*", "--seeds", "5", "--dry-run", *ENGINE)
    assert re.search(r"^small-a: 5 runs, .* each, .* together, projected; .* of disk each$", out, re.MULTILINE)
    assert re.search(r"^10 runs: .*, one after the other on this machine; nothing is queued$", out, re.MULTILINE)
    assert not checkout.queue.exists()
    assert not checkout.registry.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("add", "binaryconect-mnist", "--seeds", "5"), 2, "no benchmark 'binaryconect-mnist': did you mean binaryco"),
        (("add", "binaryconnect-mnist"), 2, "expected --seeds 5 (or 3, or 10), registered groups, or --seed N[,N...]"),
        (("add", "binaryconnect-mnist", "--seeds", "5", "--epochs", "1"), 2, "--seeds is of registered groups"),
        (("status",), 1, "is no queue: `"),
        (("work",), 1, "is no queue: `"),
    ],
)
def test_what_cannot_be_is_one_line(cli, tmp_path, arguments, exit_code, says):
    result = cli("queue", *arguments, "--queue", str(tmp_path / "none"))
    assert result.returncode == exit_code
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert not (tmp_path / "none").exists()


def test_names_that_fit_nothing_logs_and_cancel(cli, tmp_path):
    queue = fake_queue(tmp_path / "queue", [1, 2])
    named = ("--queue", str(queue.path))
    for arguments in (("logs", "x"), ("cancel", "x"), ("work", "--only", "x"), ("status", "x")):
        result = cli("queue", *arguments, *named)
        assert result.returncode == 1
        assert f"error: no run 'x' in {queue.path}: `" in result.stderr
    assert cli("queue", "logs", fake_run(1).name, *named).stdout == f"{fake_run(1).name} was not begun\n"
    assert cli("queue", "cancel", "*-s1", *named).stdout == "1 run cancelled\n"
    assert "2 runs: 1 waiting, 1 cancelled" in cli("queue", "status", *named).stdout


def test_what_a_worker_leaves_is_said_and_is_no_success(cli, tmp_path):
    queue = fake_queue(tmp_path / "queue", [1, 2], fails={1: "no such word"})
    queue.add([fake_run(3, engine="no-such-engine")])
    result = cli("queue", "work", "--queue", str(queue.path))
    assert result.returncode == 1
    assert "1 failed twice: `" in result.stderr
    assert "1 are left for other machines: `" in result.stderr
    out = cli("queue", "status", "--queue", str(queue.path)).stdout
    assert f"{fake_run(1).name} failed twice: no such word\n" in out
    assert out.endswith("3 runs: 1 waiting, 1 done, 1 failed; time not known\n")


def test_a_termination_signal_interrupts_the_runs_and_gives_them_back(environment, tmp_path):
    queue = fake_queue(tmp_path / "queue", [1], seconds=60.0)
    worker = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "cli.py"), "queue", "work", "--queue", str(queue.path)], env=environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while find_begun(queue, fake_run(1)) is None:
        time.sleep(0.02)
    time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate()
    assert worker.returncode == 130
    assert said.endswith("interrupted\n")
    assert read(queue.leases / f"{fake_run(1).name}.1").is_free


@pytest.mark.slow
def test_runs_of_a_group_whose_worker_is_killed_are_recorded_once_by_the_code_they_were_queued_with(checkout):
    """Real training: a worker is killed in the middle of a run, the checkout is edited, another worker goes on."""
    checkout.run("queue", "add", "small-a", "--seeds", "5", *ENGINE)
    checkout.run("queue", "cancel", "*-s2", "*-s3", "*-s4")
    commit = git(checkout.root, "rev-parse", "HEAD")
    worker = checkout.start("queue", "work", "--beat", "0.5")
    while not list(checkout.queue.glob("runs/*/small-a/*/checkpoint.npz")):
        assert worker.poll() is None
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    module = checkout.root / "benchmarks" / "run" / "protocol.py"
    module.write_text(module.read_text() + "\n# edited while runs wait\n")
    checkout.run("queue", "work", "--beat", "0.5")
    assert sorted(checkout.status().values()) == ["cancelled"] * 3 + ["done"] * 2
    records = [record for _, record in read_all(checkout.registry, pytest.fail)]
    assert sorted(record.seed for record in records) == [1, 1234]
    assert {(sitting.commit, sitting.dirty) for record in records for sitting in record.sittings} == {(commit, False)}
    assert sorted(record.restarts for record in records) == [0, 1]
    (group,) = registered.read(checkout.registry, "small-a")
    assert set(group.last_event) == {1, 1234}
    (name, *_) = checkout.status()
    out, _ = checkout.run("queue", "logs", name)
    assert "small-a: finished after 3 epochs" in out
    git(checkout.root, "checkout", "-q", ".")
    out, _ = checkout.run("queue", "add", "small-a", "--seeds", "5", *ENGINE)
    assert "passed over: small-a, seed 1: finished, record " in out
    assert out.splitlines()[-1] == f"3 runs queued in {checkout.queue}, 2 passed over"
