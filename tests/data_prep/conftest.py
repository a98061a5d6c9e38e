"""Fixtures for the tests of data preparation."""

from __future__ import annotations

import pytest

from data_prep.fetch import download


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of these tests answers, however busy the machine is; where it does not, the test sets a limit itself."""
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 120.0)
