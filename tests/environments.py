"""Which tests some environment of tox runs: one that none runs proves nothing, however green the others are.

Nor does one that is skipped where it was to run: --none-skipped is for environments that were made for their tests.
"""

from __future__ import annotations

import configparser
import functools
import shlex
from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

TOX = Path(__file__).parents[1] / "tox.ini"
BY_HAND = {"gpu"}  # `pytest -m gpu`, on a machine that has one


@functools.cache
def _commands() -> list[tuple[Expression, tuple[str, ...]]]:
    """Of each pytest of tox.ini what -m asks for, and the files and folders; none: all."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(TOX)
    lines = "\n".join(section.get("commands", "") for section in tox.values()).replace("\\\n", " ").splitlines()
    found = []
    for words in (shlex.split(line) for line in lines if line.startswith("pytest ")):
        places = tuple(word for word in words if word.startswith("tests/"))
        found.append((Expression.compile(words[words.index("-m") + 1]), places))
    return found


@functools.cache
def is_run(path: str, markers: frozenset[str]) -> bool:
    """Whether an environment runs a test of these markers in a file, "tests/test_cli.py"."""
    return bool(markers & BY_HAND) or any(
        asked.evaluate(lambda name, /, **_: name in markers)
        and (not places or any(path == place or path.startswith(f"{place}/") for place in places))
        for asked, places in _commands()
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--none-skipped", action="store_true", help="A test that is skipped has failed.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--none-skipped"):
        report.outcome, report.longrepr = "failed", f"--none-skipped: {report.longrepr}"
    return report
