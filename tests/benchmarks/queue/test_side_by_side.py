"""Commands side by side: real processes. What comes of runs is tested in test_cli.py."""

from __future__ import annotations

import json

import pytest

from benchmarks.queue.side_by_side import Ended, carry_out

COMMANDS = {"one": ["list", "--json"], "two": ["show", "nothing"], "three": ["list", "--json"]}


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_one_that_fails_leaves_the_others_in_peace(capfd, at_once):
    ended = carry_out(COMMANDS, at_once, "cpu", capture=True)
    assert [(end.name, end.exit_code) for end in ended] == [("one", 0), ("two", 2), ("three", 0)]
    assert len(json.loads(ended[0].output)) > 10
    assert ended[2].output == ended[0].output
    stdout, stderr = capfd.readouterr()
    assert stdout == ""
    assert stderr.startswith("two | error: unknown benchmark" if at_once > 1 else "error: unknown benchmark")


def test_lines_are_named_where_there_are_several(capfd):
    commands = {"one": ["show", "binaryconnect-mnist"], "two": ["show", "binarynet-mnist"]}
    assert carry_out(commands, 2, "cpu", capture=False) == [Ended("one", 0, ""), Ended("two", 0, "")]
    lines = capfd.readouterr().out.splitlines()
    assert {line.partition(" | ")[0] for line in lines} == {"one", "two"}
    assert "two | binarynet-mnist: BinaryNet" in "\n".join(lines)


def test_what_cannot_be_started_ends_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.queue.side_by_side.sys.executable", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError):
        carry_out(COMMANDS, 2, "cpu", capture=True)
