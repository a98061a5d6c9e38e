"""What a run shows: the time left, and names as they are."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.recipe import load_recipe
from benchmarks.run import display
from benchmarks.run.folder import RunFolder
from data_prep import progress
from results.views.reference import ReferenceCurve

ROW = {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "test_error": 9.0, "images_per_second": 10.0}


def test_the_time_left_does_not_count_the_first_batch_that_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3", "data.train_images=500"])  # 5 batches an epoch
    now = 1000.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=1000)
    reporter = display.LiveReporter(console)

    def shown() -> str:
        return str(reporter._progress.tasks[0].fields["status"])

    engine = {"name": "gluon", "device_name": "a processor", "threads": 1}
    reporter.run_started(RunFolder(Path("run")), recipe, engine, 0, ReferenceCurve([], recipe.digest))
    now += 60
    reporter.batch_done(1, 1.0)
    assert shown() == "loss 1.0000"
    now += 2
    reporter.batch_done(2, 1.0)
    assert shown() == "loss 1.0000  50 images/s  26 s left"  # 3 batches of this epoch, 5 each of two
    now += 6
    reporter.batch_done(5, 1.0)
    now += 1
    reporter.epoch_done(ROW, declared_epoch=1)
    assert "  22 s left" in console.file.getvalue()  # 5 batches and an evaluation, twice
    now += 3
    reporter.batch_done(1, 1.0)
    assert shown().endswith("33 images/s  23 s left")


def started(folder: str, terminal: bool = False) -> str:
    """What is written of a run that has begun, and has trained on a batch."""
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3"])
    console = Console(file=io.StringIO(), width=1000, force_terminal=terminal)
    engine = {"name": "gluon", "device_name": "a [/red] processor", "threads": 1}
    with display.LiveReporter(console) as reporter:
        reporter.run_started(RunFolder(Path(folder)), recipe, engine, 0, ReferenceCurve([], recipe.digest))
        reporter.batch_done(1, 1.0)
    return console.file.getvalue()


def test_names_are_shown_as_they_are_whatever_is_in_them() -> None:
    written = started("/x/[/red]/[bold]b/1[0]")
    assert "[bold]b/1[0]: BinaryConnect, 3x2048" in written
    assert "on a [/red] processor, 1 threads; folder /x/[/red]/[bold]b/1[0]\n" in written


def test_a_dumb_terminal_gets_no_bar_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert "epoch 1/3" in started("b/1", terminal=True)
    monkeypatch.setenv("TERM", "dumb")
    assert "epoch 1/3" not in started("b/1", terminal=True)


@pytest.mark.parametrize(("begun", "line"), [(False, "loading the data and opening"), (True, "what was not compiled")])
def test_what_takes_long_before_the_first_step_is_said(monkeypatch: pytest.MonkeyPatch, begun: bool, line: str) -> None:
    said, waited = threading.Event(), []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if line in text:
                waited.append(text)
                said.set()
            return len(text)

    monkeypatch.setattr(progress, "PATIENCE", 0)
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3"])
    engine = {"name": "gluon", "device_name": "a processor", "threads": 1}
    with display.LiveReporter(Console(file=Stream(), width=1000)) as reporter:
        if begun:
            reporter.run_started(RunFolder(Path("b/1")), recipe, engine, 0, ReferenceCurve([], recipe.digest))
        said.wait()
    assert len(waited) == 1


def test_a_log_is_told_how_long_an_epoch_takes_if_that_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3"])  # 500 batches an epoch
    now = 1000.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now)
    log = io.StringIO()
    reporter = display.LiveReporter(Console(file=log, width=1000))
    engine = {"name": "gluon", "device_name": "a processor", "threads": 1}
    reporter.run_started(RunFolder(Path("b/1")), recipe, engine, 0, ReferenceCurve([], recipe.digest))
    for batches in range(1, 9):  # the first is not timed
        reporter.batch_done(batches, 1.0)
        now += 2.0
    assert log.getvalue().count("an epoch takes about 16 min 40 s; 49 min 48 s left\n") == 1
