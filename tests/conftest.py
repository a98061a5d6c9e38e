"""Fixtures for every room."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import environments
import pytest
from command_server import CommandServer, folders
from environments import pytest_addoption, pytest_runtest_makereport  # noqa: F401 - hooks
from hypothesis import HealthCheck, settings

from benchmarks.machine import environment

environment.clear()  # before a test module imports a framework: an image may have set something for it


def _keep_to_one_core() -> None:
    """Hold a worker of pytest-xdist, and all that it starts, to one core, before any engine counts the cores.

    Otherwise each worker's threads would wait, spinning, on the cores of the others: the suite would take ten times as
    long. Tests that compare numbers of threads are marked so, and run without workers.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


_keep_to_one_core()


def _hear_ctrl_c() -> None:
    """Take SIGINT as a terminal's programs do: `pytest &` in a script ignores it, and so would all that it starts.

    A test that sends it to a process that ignores it would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_hear_ctrl_c()

# The same examples every time, and no time limit of any kind: a slow machine is no failure.
settings.register_profile("project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# `tox -e nightly`: other examples every night, and ten times as many; a failure says how to have its example again.
settings.register_profile(
    "nightly", settings.get_profile("project"), derandomize=False, max_examples=1000, print_blob=True
)
settings.load_profile("project")

REPOSITORY = Path(__file__).parents[1]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


# Workers take the modules in this order, and a long one that begins last would leave the others without work.
LONGEST = ["test_learning.py", "test_cli.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests that no environment of tox runs; put the modules that take longest first."""
    for item in items:
        path = item.path.relative_to(REPOSITORY).as_posix()
        if not environments.is_run(path, frozenset(marker.name for marker in item.iter_markers())):
            raise pytest.UsageError(f"{item.nodeid}: no environment of tox.ini runs it: see tests/environments.py")
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """On one core a comparison of numbers of threads would prove nothing: it fails."""
    if item.get_closest_marker("threads") is not None:
        import numba

        cores, threads = len(os.sched_getaffinity(0)), numba.get_num_threads()
        if min(cores, threads) < 2:
            needed = "needs 2 cores and 2 threads, and no worker that is held to one core: `pytest -n 0 -m threads`"
            pytest.fail(f"{needed}; has {cores} and {threads}", pytrace=False)


@pytest.fixture(scope="session")
def small_data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the shipped subsets of real MNIST and CIFAR-10."""
    from data_prep import prepare

    root = tmp_path_factory.mktemp("data")
    prepare("mnist-small", root)
    prepare("cifar10-small", root)
    return root


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with real MNIST and CIFAR-10, fetched once for all workers; tests may add variants to it, no more.

    Of several that ask at the same time, `prepare` lets one work and the others wait.
    """
    from data_prep import prepare

    root = _shared_by_workers(tmp_path_factory) / "real_data"
    prepare("mnist", root)
    prepare("cifar10", root)
    return root


def _shared_by_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the whole run: that of a worker of pytest-xdist lies in it."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture
def environment(small_data_root: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a command line that writes nothing outside `tmp_path`."""
    return os.environ | folders(small_data_root, tmp_path)


@pytest.fixture(scope="session")
def commands() -> Iterator[CommandServer]:
    """A process that carries out command lines."""
    with CommandServer() as server:
        yield server


@pytest.fixture
def cli(commands: CommandServer, small_data_root: Path, tmp_path: Path) -> Cli:
    """Carry out a command line, `python cli.py ...` but for the time that a process takes to begin."""
    return lambda *arguments, **changes: commands.run(arguments, folders(small_data_root, tmp_path) | changes)


@pytest.fixture
def process_cli(environment: dict[str, str]) -> Cli:
    """Run `python cli.py ...` as a user does: a process of its own."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(REPOSITORY / "cli.py"), *arguments]
        return subprocess.run(
            command, env=environment | changes, capture_output=True, text=True, timeout=600, check=False
        )

    return run
