"""Learning curves: real PNG files, of any curve that a run can have."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from matplotlib.image import imread
from record_factory import make_curve, without_validation

from results.errors import RegistryFileError
from results.views.plots import MARK, PUBLISHED, VALID, learning_curve

pytestmark = pytest.mark.slow


def has_color(path: Path, color: str) -> bool:
    """Whether a pixel of the PNG has exactly this "#rrggbb" color."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    return bool((pixels == wanted).all(axis=-1).any())


@pytest.mark.parametrize("epochs", [0, 1, 2, 40])
def test_draws_a_curve_of_any_length(tmp_path: Path, epochs: int) -> None:
    path = tmp_path / "new" / "curve.png"
    learning_curve(make_curve(1, epochs), epochs, path, "a run", 1.15)
    assert imread(path).shape[:2] == (960, 960)
    assert has_color(path, MARK)


def test_a_curve_without_validation_images_has_no_line_of_them(tmp_path: Path) -> None:
    for name, curve in (("with", make_curve(1, 6)), ("without", without_validation(make_curve(1, 6)))):
        learning_curve(curve, 6, tmp_path / name, "a run", 1.15)
    assert has_color(tmp_path / "with", VALID)
    assert not has_color(tmp_path / "without", VALID)


def test_the_target_line_is_there_only_with_a_target(tmp_path: Path) -> None:
    learning_curve(make_curve(1, 6), 6, tmp_path / "curve.png", "a run", None)
    assert not has_color(tmp_path / "curve.png", MARK)


@pytest.mark.parametrize("epochs", [1, 3, 9])
def test_the_authors_curve_is_drawn_if_there_is_one(tmp_path: Path, epochs: int) -> None:
    for name, published in (("with", [90.0, 20.0, 15.0, 12.0, 11.0, 10.0]), ("without", None)):
        learning_curve(make_curve(1, epochs), epochs, tmp_path / name, "a run", 1.15, published)
    assert has_color(tmp_path / "with", PUBLISHED)
    assert not has_color(tmp_path / "without", PUBLISHED)


def test_an_error_of_zero_can_be_drawn(tmp_path: Path) -> None:
    curve = make_curve(1, 3)
    curve = msgspec.structs.replace(
        curve, valid_error=[1.0, 0.0, 0.0], valid_wrong=[2, 0, 0], train_loss=[0.1, 0.0, 0.0]
    )
    learning_curve(curve, 3, tmp_path / "curve.png", "a run", 1.15)
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_same_curve_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        learning_curve(make_curve(1, 6), 6, tmp_path / name, "a run", 1.15)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryFileError, match="cannot be written"):
        learning_curve(make_curve(1, 6), 6, tmp_path / "file" / "curve.png", "a run", 1.15)
