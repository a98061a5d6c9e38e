"""Fixtures for every room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, and no time limit of any kind: a slow machine is no failure.
settings.register_profile("project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

REPOSITORY = Path(__file__).parents[1]


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
    """A data folder with real MNIST and CIFAR-10, fetched once a session; tests may add variants to it, no more."""
    from data_prep import prepare

    root = tmp_path_factory.mktemp("real_data")
    prepare("mnist", root)
    prepare("cifar10", root)
    return root


@pytest.fixture
def environment(small_data_root: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a command line that writes nothing outside `tmp_path`."""
    return os.environ | {
        "BNN_DATA": str(small_data_root),
        "BNN_RUNS": str(tmp_path / "runs"),
        "BNN_REGISTRY": str(tmp_path / "registry" / "runs"),
    }


@pytest.fixture
def cli(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python cli.py ...` as a user does: a process of its own."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(REPOSITORY / "cli.py"), *arguments]
        return subprocess.run(
            command, env=environment | changes, capture_output=True, text=True, timeout=600, check=False
        )

    return run
