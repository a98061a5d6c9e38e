from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import RecipeError
from benchmarks.recipe import (
    CATALOG,
    benchmark_ids,
    flatten,
    load_recipe,
    read_catalog_file,
    recipe_from_settings,
)

SETTINGS = flatten(load_recipe("binaryconnect-mnist").settings)


@pytest.mark.parametrize("benchmark_id", benchmark_ids())
def test_every_benchmark_loads_and_scores(benchmark_id):
    recipe = load_recipe(benchmark_id)
    assert recipe.scoring
    assert recipe.differences == []
    stored = msgspec.to_builtins(recipe.settings)  # without what is at a default that means its absence
    assert set(recipe.sources) >= {f"{group}.{key}" for group, part in stored.items() for key in part}
    assert all(source.strip() for source in recipe.sources.values())


def test_published_settings_of_binaryconnect_mnist():
    recipe = load_recipe("binaryconnect-mnist")
    assert recipe.target is not None
    assert (recipe.target.percent, recipe.target.decimals, recipe.target.mark) == (1.15, 2, "")
    assert (recipe.train.epochs, recipe.train.batch_size) == (250, 100)
    assert (recipe.train.lr_start, recipe.train.lr_final) == (1e-3, 3e-6)
    assert (recipe.model.batch_norm_alpha, recipe.model.batch_norm_epsilon) == (0.15, 1e-4)


def test_overrides_are_typed_and_say_where_they_came_from():
    recipe = load_recipe("binaryconnect-mnist", {"train.epochs=2": "--epochs", "train.lr_start=2e-3": "--set"})
    assert not recipe.scoring
    assert [(d.key, d.published, d.value, d.source) for d in recipe.differences] == [
        ("train.epochs", 250, 2, "--epochs"),
        ("train.lr_start", 1e-3, 2e-3, "--set"),
    ]


def test_an_override_to_the_published_value_still_scores():
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=250"])
    assert recipe.scoring
    assert recipe.digest == load_recipe("binaryconnect-mnist").digest


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("train.epoch=2", r"unknown setting 'train.epoch': did you mean train.epochs"),
        ("epochs=2", r"unknown setting 'epochs': did you mean train.epochs"),
        ("train.epochs", r"expected key=value"),
        ("train.epochs=two", r"train.epochs=two: expected a whole number, at least 1"),
        ("train.epochs=0", r"expected a whole number, at least 1"),
        ("train.epochs=2.5", r"expected a whole number"),
        ("train.epochs=", r"expected a whole number"),
        ("train.lr_start=nan", r"train.lr_start=nan: expected a number, above 0"),
        ("train.lr_start=inf", r"expected a number, above 0"),
        ("train.lr_start=-1", r"expected a number, above 0"),
        ("train.lr_start=1e-9", r"train.lr_final=3e-06: expected at most train.lr_start=1e-09"),
        ("model.batch_norm_alpha=1", r"expected a number, above 0, below 1"),
        ("model.weights=stochstic", r"expected deterministic or real or stochastic: did you mean stochastic"),
        ("model.architecture=3x2048-10FC", r"model.architecture=3x2048-10FC: '3x2048' is none of"),
        ("model.architecture=3x2048FC", r"expected 10FC at the end"),
        ("data.train_images=99", r"expected at least one batch"),
        ("train.lr_final=null", r"train.lr_decay=exponential: expected train.lr_final with it, and only that"),
        ("train.lr_halving_epochs=5", r"train.lr_decay=exponential: expected train.lr_final with it, and only that"),
        ("train.lr_decay=halving", r"train.lr_decay=halving: expected train.lr_halving_epochs with it, and only that"),
        ("model.output_batch_norm=lasagne", r"expected torch or null"),
    ],
)
def test_bad_overrides_are_refused_with_what_was_expected(override, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe("binaryconnect-mnist", [override])


def test_an_unknown_benchmark_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean binaryconnect-mnist"):
        load_recipe("binaryconect-mnist")


@given(st.sampled_from(sorted(SETTINGS)), st.text(max_size=12))
def test_any_override_is_taken_or_refused_in_one_line(key, text):
    try:
        recipe = load_recipe("binaryconnect-mnist", [f"{key}={text}"])
    except RecipeError as error:
        assert str(error).isprintable()  # noqa: PT017 - refusing is one of two good answers
    else:
        assert recipe.scoring == (recipe.settings == recipe.published)


@given(st.sampled_from(["train.epochs", "train.batch_size", "data.train_images"]), st.integers(100, 10**6))
def test_the_digest_changes_exactly_when_a_setting_does(key, value):
    published = load_recipe("binaryconnect-mnist")
    changed = load_recipe("binaryconnect-mnist", [f"{key}={min(value, 50_000)}"])
    assert (changed.digest == published.digest) == (changed.settings == published.settings)


def test_stored_settings_give_the_same_recipe():
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3"])
    stored = msgspec.json.decode(msgspec.json.encode(recipe.settings))
    again = recipe_from_settings(recipe.id, stored, recipe.overrides)
    assert again.digest == recipe.digest
    assert again.differences == recipe.differences


def change_catalog(tmp_path, change):
    source = CATALOG / "binaryconnect" / "binaryconnect-mnist.yaml"
    content = yaml.safe_load(source.read_text())
    change(content)
    path = tmp_path / source.name
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c["train"].pop("epochs"), "missing required field `epochs`"),
        (lambda c: c["train"].update(epochz={"value": 1, "source": "x"}), "unknown field `epochz`"),
        (lambda c: c["train"].update(epochs=250), r"train.epochs: expected \{value: ..., source: ...\}"),
        (lambda c: c["train"]["epochs"].update(value="250"), "Expected `int`, got `str`"),
        (lambda c: c.pop("data"), "'data' is missing"),
        (lambda c: c.update(trian=1), "unknown key 'trian': did you mean train"),
        (lambda c: c.update(id="other"), "id is 'other', but the file is named"),
    ],
)
def test_a_catalogue_file_is_read_strictly(tmp_path, change, complaint):
    with pytest.raises(RecipeError, match=complaint):
        read_catalog_file(change_catalog(tmp_path, change))


def test_a_catalogue_file_that_is_no_yaml_is_one_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("id: [")
    with pytest.raises(RecipeError, match=r"catalogue file broken\.yaml") as caught:
        read_catalog_file(path)
    assert "\n" not in str(caught.value)
