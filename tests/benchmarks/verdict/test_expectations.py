"""What follows from the catalog and the settings, and what a record must say of published images and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from published import WEIGHTS, first

import data_prep
from benchmarks.engine.publication import packed_bytes, publishes_quantized
from benchmarks.recipe import load_recipe
from benchmarks.verdict import check_record, data_digests, expectations
from results import registry
from results.record import Record
from results.weights import packed_at


def real(benchmark: str) -> Record:
    return registry.read(first(benchmark))


def fields(record: Record) -> list[str]:
    return [field for field, _ in check_record(record)]


def changed(value: Any, path: str, new: Any) -> Any:
    """The struct with the attribute at a path of names and numbers replaced."""
    name, _, rest = path.partition(".")
    if isinstance(value, list):
        return [changed(item, rest, new) if rest and i == int(name) else item for i, item in enumerate(value)]
    return msgspec.structs.replace(value, **{name: changed(getattr(value, name), rest, new) if rest else new})


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("paper", "BinaryNet", "paper"),
        ("target.source", "a rumour", "target.source"),
        ("target.kind", "2nd", "target.kind"),
        ("target.decimals", 3, "target.decimals"),
        ("target.test_error", 1.2, "target.test_error"),
        ("data.test.digest", "0" * 64, "data.test.digest"),
        ("data.test.images", 9_999, "data.test.images"),
        ("sittings.2.engine.name", "caffe", "sittings[2].engine.name"),
        ("sittings.2.engine.precision", "bf16", "sittings[2].engine.precision"),
        ("sittings.2.engine.versions", {}, "sittings[2].engine.versions"),
        ("recipe.defaults", ["model.momentum"], "recipe.defaults"),
    ],
)
def test_what_does_not_follow_is_named(path: str, value: Any, field: str) -> None:
    assert field in fields(changed(real("binaryconnect-mnist"), path, value))


def test_learning_rates_are_those_of_the_schedule() -> None:
    record = real("binaryconnect-mnist")
    lr = [*record.curve.lr[:-1], record.curve.lr[-1] * 1.0001]
    assert fields(changed(record, "curve.lr", lr)) == ["curve.lr[249]"]
    nearly = [value * (1 + 1e-12) for value in record.curve.lr]  # another processor's power function
    assert fields(changed(record, "curve.lr", nearly)) == []


def test_weights_are_published_or_there_is_a_reason() -> None:
    record = real("rwth-lenet5-mnist-binary")
    without = msgspec.structs.replace(record, published_weights=msgspec.UNSET)
    assert fields(without) == ["published_weights"]
    assert fields(msgspec.structs.replace(without, unpublished_reason="3 images come out otherwise")) == []
    assert fields(msgspec.structs.replace(without, unpublished_reason="")) == ["unpublished_reason"]
    assert fields(msgspec.structs.replace(record, unpublished_reason="none")) == ["unpublished_reason"]
    assert fields(changed(record, "published_weights.bytes", 1)) == ["published_weights.bytes"]
    other = real("binaryconnect-mnist")
    assert fields(msgspec.structs.replace(other, unpublished_reason="none")) == ["unpublished_reason"]


@pytest.mark.parametrize(
    ("benchmark", "is_expected"),
    [("binaryconnect-mnist-deterministic", True), ("finn-tfc-mnist-2w2a", True), ("binaryconnect-mnist", False)],
)
def test_weights_of_one_or_two_bits_are_published_or_it_is_said_why_not(benchmark: str, is_expected: bool) -> None:
    assert publishes_quantized(load_recipe(benchmark)) == is_expected


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.parent.name)
def test_the_size_of_published_weights_follows_from_the_recipe(path: Path) -> None:
    packed = packed_at(path, path.stat().st_size)
    assert packed is not None
    assert packed_bytes(load_recipe(path.parent.name)) == len(packed)


def test_a_default_has_the_value_that_it_stands_for() -> None:
    record = real("chawla-mlp-mnist-float")
    settings = record.recipe.settings | {"model": record.recipe.settings["model"] | {"momentum": 0.5}}
    recipe = msgspec.structs.replace(record.recipe, settings=settings, defaults=["model.momentum"])
    assert fields(msgspec.structs.replace(record, recipe=recipe)) == ["recipe.settings.model.momentum"]
    settings["model"]["momentum"] = 0.0
    assert fields(msgspec.structs.replace(record, recipe=recipe)) == []


@pytest.mark.parametrize("preprocessing", ["unit", "signed", "centered"])
def test_the_digests_of_the_small_set_are_those_that_its_images_have(preprocessing: str, tmp_path: Path) -> None:
    data_prep.prepare("mnist-small", tmp_path)
    for train, valid in ((2_000, 200), (2_200, 0)):
        data = data_prep.load("mnist-small", tmp_path, preprocessing, train, valid)
        settings = {"dataset": "mnist-small", "preprocessing": preprocessing}
        for name, split in (("train", data.train), ("valid", data.valid), ("test", data.test)):
            assert data_digests.known_digest(settings, name, len(split.labels)) == split.digest  # type: ignore[arg-type]


@pytest.mark.data
@pytest.mark.parametrize("preprocessing", ["unit", "signed", "centered"])
def test_the_digests_of_mnist_are_those_that_its_images_have(preprocessing: str, real_data: Path) -> None:
    for train, valid in ((50_000, 10_000), (60_000, 0)):
        data = data_prep.load("mnist", real_data, preprocessing, train, valid)
        settings = {"dataset": "mnist", "preprocessing": preprocessing}
        for name, split in (("train", data.train), ("valid", data.valid), ("test", data.test)):
            assert data_digests.known_digest(settings, name, len(split.labels)) == split.digest  # type: ignore[arg-type]


@pytest.mark.parametrize("drawn", [{"split": "random"}, {"labels": "random"}, {"inputs": "noise"}])
def test_what_is_drawn_has_no_known_digest(drawn: dict[str, str]) -> None:
    settings = {"dataset": "mnist", "preprocessing": "unit"}
    assert data_digests.known_digest(settings, "train", 50_000) is not None
    assert data_digests.known_digest(settings | drawn, "train", 50_000) is None


def test_the_same_settings_are_read_once() -> None:
    record = real("binaryconnect-mnist")
    assert expectations.recipe_of(record) is expectations.recipe_of(real("binaryconnect-mnist"))


def test_a_record_with_weights_stays_valid_when_its_entry_is_corrected():
    record = real("chawla-mlp-mnist-binary")
    corrected = load_recipe(record.benchmark, ["train.epochs=99"])
    assert not corrected.scoring
    wrong = [field for field, _ in expectations.of_settings(record, corrected)]
    assert not [field for field in wrong if "weights" in field or field == "unpublished_reason"]
