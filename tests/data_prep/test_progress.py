from __future__ import annotations

import io

import pytest
from rich.console import Console

from data_prep import RichProgress, Silent
from data_prep.progress import bar


@pytest.mark.parametrize("total", [1000, None])
def test_bars_and_notes_reach_the_terminal(total):
    screen = io.StringIO()
    progress = RichProgress(Console(file=screen, force_terminal=True, width=100))
    with bar(progress, "file [1] of 4", total):
        progress.advance(500)
    progress.note("from [somewhere]")
    assert "file [1] of 4" in screen.getvalue()
    assert "from [somewhere]" in screen.getvalue()


def test_a_bar_is_ended_when_its_work_fails():
    screen = io.StringIO()
    progress = RichProgress(Console(file=screen, force_terminal=True, width=100))
    with pytest.raises(ZeroDivisionError), bar(progress, "file", 10):
        raise ZeroDivisionError
    assert screen.getvalue().rstrip("\x1b[2K\r\n").count("\x1b[?25h") == 1  # the cursor is shown again
    with bar(progress, "next", 10):
        progress.advance(10)


def test_silence_is_silent(capsys):
    with bar(Silent(), "file", 10):
        Silent().advance(10)
    Silent().note("text")
    assert capsys.readouterr() == ("", "")
