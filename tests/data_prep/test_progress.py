from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from data_prep import RichProgress, Silent, progress
from data_prep.progress import Overdue, bar


class Heard(io.StringIO):
    """A stream that says when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


@pytest.mark.parametrize("total", [1000, None])
def test_bars_and_notes_reach_the_terminal(total):
    screen = io.StringIO()
    shown = RichProgress(Console(file=screen, force_terminal=True, width=100))
    with bar(shown, "file [1] of 4", total):
        shown.advance(500)
    shown.note("from [somewhere]")
    assert "file [1] of 4" in screen.getvalue()
    assert "from [somewhere]" in screen.getvalue()


def test_a_bar_is_ended_when_its_work_fails():
    screen = io.StringIO()
    shown = RichProgress(Console(file=screen, force_terminal=True, width=100))
    with pytest.raises(ZeroDivisionError), bar(shown, "file", 10):
        raise ZeroDivisionError
    assert screen.getvalue().rstrip("\x1b[2K\r\n").count("\x1b[?25h") == 1  # the cursor is shown again
    with bar(shown, "next", 10):
        shown.advance(10)


def test_silence_is_silent(capsys):
    with bar(Silent(), "file", 10):
        Silent().advance(10)
    Silent().note("text")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("total", "line"), [(170_500_000, "archive (170.5 MB) ..."), (None, "archive ...")])
def test_where_there_is_no_terminal_a_bar_that_lasts_is_a_line(monkeypatch, total, line):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    log = Heard()
    shown = RichProgress(Console(file=log, width=100))
    with bar(shown, "archive", total):
        log.written.wait()
    assert log.getvalue() == f"{line}\n"


def test_where_there_is_no_terminal_a_short_bar_is_nothing():
    log = io.StringIO()
    with bar(RichProgress(Console(file=log, width=100)), "archive", 10):
        pass
    assert log.getvalue() == ""


def test_what_has_ended_in_time_is_not_said(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    said: list[str] = []
    ended = Overdue(said.append, "ended")
    ended.ended()
    heard = threading.Event()
    Overdue(lambda _: heard.set(), "later")
    heard.wait()
    assert said == []
