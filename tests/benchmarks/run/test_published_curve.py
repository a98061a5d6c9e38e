"""The authors' own validation curves: the files of the catalog, and a run beside one."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from msgspec import UNSET, UnsetType
from rich.console import Console

from benchmarks.errors import RecipeError
from benchmarks.paths import CATALOG
from benchmarks.recipe import PublishedErrors, Recipe, Target, benchmark_ids, load_recipe
from benchmarks.run import published_curve as module
from benchmarks.run import runner
from benchmarks.run.display import LiveReporter
from benchmarks.run.published_curve import compare_curves, published_curve
from results.record import Curve
from results.views.plots import PUBLISHED

RECIPES = {recipe.id: recipe for recipe in map(load_recipe, benchmark_ids())}
CHARTED = [id for id, recipe in RECIPES.items() if recipe.target is not None and recipe.target.validation_errors]
SMALL = [
    *("data.dataset=mnist-small", "data.train_images=1000", "data.valid_images=200"),
    *("model.architecture=64FC-10FC", "train.epochs=4"),
]


@pytest.mark.parametrize("benchmark_id", CHARTED)
def test_a_curve_is_that_of_the_run_whose_error_is_the_target(benchmark_id: str) -> None:
    """As long as the training; its best epoch and accuracy are those that the note of the target names."""
    recipe = RECIPES[benchmark_id]
    errors = published_curve(recipe)
    assert errors is not None
    assert len(errors) == recipe.train.epochs
    assert recipe.target is not None
    noted = re.search(r"best validation accuracy ([\d.]+) at epoch (\d+)", recipe.target.note)
    assert noted is not None
    assert (min(errors), errors.index(min(errors)) + 1) == (pytest.approx(100 - float(noted[1])), int(noted[2]))


@pytest.mark.parametrize("benchmark_id", CHARTED)
def test_errors_are_whole_counts_of_the_validation_images(benchmark_id: str) -> None:
    errors, images = published_curve(RECIPES[benchmark_id]), RECIPES[benchmark_id].data.valid_images
    counts = np.array(errors) / 100 * images
    np.testing.assert_allclose(counts, counts.round(), atol=1e-6)


def test_every_curve_of_the_catalog_belongs_to_a_benchmark() -> None:
    assert {path.name for path in CATALOG.glob("*/*.csv")} == {f"{id}-validation.csv" for id in CHARTED}
    assert len(CHARTED) == 4


@pytest.mark.parametrize(
    ("benchmark_id", "override", "is_theirs"),
    [
        ("rwth-lenet5-mnist-binary", "train.epochs=50", True),  # the learning rate is constant
        ("rwth-vgg7-cifar10-float", "train.epochs=90", True),  # theirs is lowered at 80, and at 120
        ("rwth-lenet5-mnist-binary", "train.epochs=600", True),
        ("rwth-lenet5-mnist-binary", "train.lr_start=0.02", False),
        ("rwth-lenet5-mnist-binary", "model.momentum=0.9", False),
        ("rwth-lenet5-mnist-cbap", "train.epochs=500", False),  # nobody published one
        ("binaryconnect-mnist", "train.epochs=250", False),
    ],
)
def test_a_run_is_compared_if_it_does_what_the_authors_did(benchmark_id: str, override: str, is_theirs: bool) -> None:
    assert (published_curve(load_recipe(benchmark_id, [override])) is not None) == is_theirs


def charted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Recipe:
    """A small benchmark whose authors publish `text`."""
    (tmp_path / "curve.csv").write_text(text)
    monkeypatch.setattr(module, "catalog_folder", lambda _: tmp_path)
    recipe = load_recipe("binaryconnect-mnist", SMALL)
    target = Target(
        test_error="20.00",
        source="a test",
        provenance="read",
        validation_errors=PublishedErrors(file="curve.csv", source="a test"),
    )
    return msgspec.structs.replace(recipe, published=recipe.settings, target=target)


def test_schedules_that_end_sooner_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an exponential decay the learning rates of fewer epochs differ from the second on."""
    recipe = charted(tmp_path, monkeypatch, "epoch,valid_error\n1,30\n2,20\n")
    assert published_curve(recipe) == [30, 20]
    train = msgspec.structs.replace(recipe.train, epochs=2)
    assert published_curve(msgspec.structs.replace(recipe, settings=msgspec.structs.replace(
        recipe.settings, train=train))) is None  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "epoch,error\n1,30\n", "epoch,valid_error\n2,30\n", "epoch,valid_error\n1,x\n", "epoch,valid_error\n1\n"],
)
def test_a_file_that_is_no_curve_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    recipe = charted(tmp_path, monkeypatch, text)
    with pytest.raises(RecipeError, match=r"catalog file curve\.csv: ") as caught:
        published_curve(recipe)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = charted(tmp_path, monkeypatch, "")
    (tmp_path / "curve.csv").unlink()
    with pytest.raises(RecipeError, match=r"catalog file curve\.csv: .*No such file"):
        published_curve(recipe)


def curve_of(errors: list[float] | UnsetType) -> Curve:
    """A curve with these validation errors; the rest of it is of no interest here."""
    columns: dict[str, list] = {name: [] for name in ("lr", "train_loss", "test_loss", "test_error", "test_wrong")}
    epochs = list(range(1, 1 + (2 if errors is UNSET else len(errors))))
    return Curve(epoch=epochs, valid_error=errors, images_per_second=[], seconds=[], **columns)


ERRORS = st.lists(st.floats(0, 100), min_size=3, max_size=40)


@given(ERRORS, ERRORS)
def test_the_later_half_of_what_both_have_is_compared(here: list[float], published: list[float]) -> None:
    compared = compare_curves(curve_of(here), published)
    assert compared is not None
    last = min(len(here), len(published))
    assert (compared.last, compared.first) == (last, last - (last + 1) // 2 + 1)
    for stretch, errors in ((compared.here, here), (compared.published, published)):
        chosen = np.array(errors[compared.first - 1 : last])
        np.testing.assert_allclose(stretch, (chosen.mean(), chosen.std(ddof=1)), rtol=1e-9, atol=1e-9)


def test_what_cannot_be_compared() -> None:
    assert compare_curves(curve_of([3.0, 2.0]), [3.0, 2.0, 1.0]) is None
    assert compare_curves(curve_of(UNSET), [1.0] * 6) is None


def test_a_run_beside_the_authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data_root: Path) -> None:
    """Each epoch says where it lies, the end compares, and the picture has both curves."""
    recipe = charted(tmp_path, monkeypatch, "epoch,valid_error\n1,0\n2,100\n3,40\n")
    console = Console(file=io.StringIO(), width=1000)
    with LiveReporter(console) as reporter:
        outcome = runner.reproduce(
            recipe, data_root=small_data_root, runs_root=tmp_path / "runs", registry=tmp_path / "registry", seed=1,
            engine="gluon", device="cpu", threads=None, reporter=reporter,
        )  # fmt: skip
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("epoch ")]
    assert lines[0].endswith("above 0.00 to 0.00 % of the authors' run")
    assert lines[1].endswith("below 100.00 to 100.00 % of the authors' run")
    assert "of the authors' run" in lines[2]
    assert "of the authors' run" not in lines[3]
    here = outcome.record.curve.valid_error[1:3]
    assert outcome.comparison is not None
    assert (outcome.comparison.first, outcome.comparison.last) == (2, 3)
    assert outcome.comparison.here.mean == pytest.approx(sum(here) / 2)
    assert outcome.comparison.published.mean == 70
    assert f"epochs 2 to 3: {sum(here) / 2:.3f} %" in str(outcome.comparison)
    pixels = (imread(outcome.folder.path / "learning-curve.png")[..., :3] * 255).round().astype(int)
    assert (pixels == [int(PUBLISHED[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1).any()
