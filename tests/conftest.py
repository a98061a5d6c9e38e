"""Fixtures for every room."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder where mnist-small, the shipped subset of real MNIST, is prepared."""
    from data_prep import prepare

    root = tmp_path_factory.mktemp("data")
    prepare("mnist-small", root)
    return root
