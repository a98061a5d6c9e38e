"""What `show --explain` and docs/settings.md say about a setting."""

from __future__ import annotations

import pytest

from benchmarks.errors import RecipeError
from benchmarks.paths import CATALOG
from benchmarks.recipe.explain import explain, page

PAGE = CATALOG.parents[1] / "docs" / "settings.md"


def test_the_page_is_what_is_generated():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m benchmarks.recipe.explain > docs/settings.md"


def test_a_setting_is_explained_by_its_name_alone():
    lines = explain("weights").splitlines()
    assert lines == explain("model.weights").splitlines()
    assert lines[0] == "model.weights"
    assert lines[2].startswith("  deterministic or ")
    assert lines[2].endswith(" or ternary, or one a layer; it must be given")
    at = lines.index("  ternary")
    assert lines[at + 2].startswith("    forward: w_q = H * (+1 if w > t")
    assert lines[at + 4 : at + 7] == [
        "    source: RWTH-IDS/efficient-binary-neural-networks@0c76a5e, ternary_modules.py, twn",
        "    size: 2 bits a value",
        "    used by: 9 benchmarks, such as rwth-lenet5-mnist-l1nt",
    ]


def test_a_setting_without_words_is_explained_too():
    assert explain("train.epochs").splitlines()[2] == "  a whole number, at least 1, at most 10000000; it must be given"
    assert explain("momentum").splitlines()[2] == "  a number, at least 0, below 1; default: 0.0"


@pytest.mark.parametrize(
    ("key", "near"), [("wieghts", "model.weights"), ("model.losss", "model.loss"), ("zzz", "data.")]
)
def test_an_unknown_key_names_the_nearest(key, near):
    with pytest.raises(RecipeError, match=f"unknown setting '{key}': .*{near}"):
        explain(key)
