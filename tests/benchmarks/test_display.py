"""The time left, as a run shows it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import display
from benchmarks.recipe import load_recipe
from benchmarks.run_folder import RunFolder
from results.reference import ReferenceCurve

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
