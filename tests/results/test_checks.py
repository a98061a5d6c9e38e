"""Internal consistency: each contradiction inside a record is found and names its field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import TEST_IMAGES, make_record, make_sittings

from results.record import PublishedWeights, Record, pack_bits, packed_bytes
from results.record.checks import as_lines, problems


def replace(record: Record, path: str, value: Any) -> Record:
    """The record with the field at `path` ("curve.lr[3]") replaced."""
    head, _, rest = path.partition(".")
    name, _, index = head.partition("[")
    inner = getattr(record, name)
    if index:
        items = list(inner)
        i = int(index.rstrip("]"))
        items[i] = replace(items[i], rest, value) if rest else value
        return msgspec.structs.replace(record, **{name: items})
    if isinstance(inner, dict):
        return msgspec.structs.replace(record, **{name: value if not rest else inner | {rest: value}})
    return msgspec.structs.replace(record, **{name: replace(inner, rest, value) if rest else value})


@pytest.mark.parametrize(
    "record",
    [
        make_record(),
        make_record(epochs=1, sittings=1),
        make_record(epochs=500, sittings=7),
        make_record(scoring=False),
        make_record(epochs=0, sittings=1, outcome="diverged"),
        make_record(epochs=3, outcome="killed", recipe=make_record(epochs=9).recipe),
        make_record(sittings=3),
        make_record(evaluates=True),
        make_record(evaluates=True, scoring=False),
        make_record(evaluates=True, epochs=0, sittings=1, outcome="diverged"),
        make_record(published_weights=PublishedWeights(sha256="0" * 64, bytes=1)),
        make_record(validates=False),
        make_record(validates=False, epochs=0, sittings=1, outcome="diverged"),
    ],
)
def test_a_good_record_has_no_problems(record: Record) -> None:
    assert problems(record) == []


def test_a_sitting_may_end_before_its_first_epoch_does() -> None:
    first, second = make_sittings(6, 1)[0], make_sittings(6, 1)[0]
    first = msgspec.structs.replace(first, last_epoch=0)
    assert problems(msgspec.structs.replace(make_record(), sittings=[first, second])) == []


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("benchmark", "../elsewhere", "benchmark"),
        ("benchmark", "", "benchmark"),
        ("recipe.digest", "0" * 64, "recipe.digest"),
        ("recipe.digest", "0" * 63, "recipe.digest"),
        ("recipe.scoring", False, "recipe.scoring"),
        ("recipe.settings", {}, "recipe.digest"),
        ("recipe.settings", {}, "recipe.settings.train.epochs"),
        ("recipe.settings", {"train": {}}, "recipe.settings.train.epochs"),
        ("curve.epoch[2]", 4, "curve.epoch[2]"),
        ("curve.lr", [0.1] * 5, "curve.lr"),
        ("curve.lr[1]", 0.0, "curve.lr[1]"),
        ("curve.lr[1]", -0.1, "curve.lr[1]"),
        ("curve.valid_error[0]", 1.23, "curve.valid_error[0]"),
        ("curve.valid_wrong[0]", 59, "curve.valid_error[0]"),
        ("curve.valid_wrong[0]", 201, "curve.valid_wrong[0]"),
        ("curve.test_error[5]", 10.000000000000002, "curve.test_error[5]"),
        ("curve.test_wrong[5]", -1, "curve.test_wrong[5]"),
        ("curve.images_per_second[0]", -1.0, "curve.images_per_second[0]"),
        ("test_correct", None, "test_correct"),
        ("weights_sha256", None, "weights_sha256"),
        ("weights_sha256", "abc", "weights_sha256"),
        ("test_correct", "?", "test_correct"),
        ("test_correct", "AAAA", "test_correct"),
        ("data.train.images", 999, "data.train.images"),
        ("data.valid.images", 100, "data.valid.images"),
        ("data.test.images", 100, "test_correct"),
        ("data.test.digest", "", "data.test.digest"),
        ("target.test_images", 10_000, "target.test_images"),
        ("target.test_error", 100.5, "target.test_error"),
        ("target.decimals", 10**9, "target.decimals"),
        ("data.test.images", 0, "data.test.images"),
        ("seed", -1, "seed"),
        ("seed", 2**63, "seed"),
        ("recipe.version", 0, "recipe.version"),
        ("recipe.defaults", ["model.weights"], "recipe.digest"),
        ("sittings[1].first_epoch", 5, "sittings[1].first_epoch"),
        ("sittings[1].last_epoch", 5, "sittings"),
        ("sittings[1].last_epoch", 1, "sittings[1].last_epoch"),
        ("sittings[0].commit", "main", "sittings[0].commit"),
        ("sittings[0].diff_sha256", "x", "sittings[0].diff_sha256"),
        ("sittings[0].dirty", False, "sittings[0].diff_sha256"),
        ("sittings[0].started", "2024-05-01T12:00:00", "sittings[0].started"),
        ("sittings[0].started", "2024-05-01T12:00:00+02:00", "sittings[0].started"),
        ("sittings[0].started", "yesterday", "sittings[0].started"),
        ("sittings[1].started", "2024-04-01T12:00:00Z", "sittings[1].started"),  # a month before the first one
        ("sittings[0].seconds", -1.0, "sittings[0].seconds"),
        ("sittings[0].code_sha256", "x", "sittings[0].code_sha256"),
        ("sittings", [], "sittings"),
        ("sittings[1].engine", None, "sittings"),
        ("data.valid.digest", make_record().data.train.digest, "data"),
        ("sittings[0].commit", None, "sittings[0].dirty"),
        ("sittings[1].engine.driver", "550.1", "sittings[1].engine.driver"),
        ("sittings[1].code_sha256", None, "sittings[1].code_sha256"),
        ("sittings[1].machine", None, "sittings[1].machine"),
        ("outcome", "killed", "outcome"),  # after all epochs
        ("recipe.differences", make_record(scoring=False).recipe.differences, "recipe.scoring"),
        ("times.train_seconds", -1.0, "times.train_seconds"),
        ("peak_memory_mib", -1.0, "peak_memory_mib"),
    ],
)
def test_each_contradiction_names_its_field(path: str, value: Any, field: str) -> None:
    found = problems(replace(make_record(), path, value))
    assert field in [named for named, _ in found], found
    assert "\n" not in as_lines(found)


def test_columns_of_the_validation_images_are_there_if_there_are_such_images() -> None:
    validated, not_validated = make_record(), make_record(validates=False)
    for record, other, there in ((validated, not_validated, "missing"), (not_validated, validated, "there")):
        exchanged = msgspec.structs.replace(record, curve=other.curve)
        found = [
            (field, message)
            for field, message in problems(exchanged)
            if field.startswith("curve.") and "[" not in field
        ]
        assert found == [
            (f"curve.{column}", f"is {there}, by the recipe's data.valid_images")
            for column in ("valid_loss", "valid_error", "valid_wrong")
        ]
    assert not_validated.results is not None
    assert not_validated.results.last.valid_error is None


@pytest.mark.parametrize("batch_size", [None, 0, "100", TEST_IMAGES + 1])
def test_where_whole_batches_count_there_must_be_one(batch_size: Any) -> None:
    record = make_record(scoring=False)
    settings = record.recipe.settings | {"protocol": {"counted_test_images": "whole_batches"}}
    settings["train"] = settings["train"] | {"batch_size": batch_size}
    found = [field for field, _ in problems(replace(record, "recipe.settings", settings))]
    assert "recipe.settings.train.batch_size" in found


def test_too_few_or_too_many_epochs() -> None:
    nine = make_record(epochs=9).recipe
    three = make_record(epochs=3).recipe
    assert [field for field, _ in problems(make_record(recipe=nine))] == ["outcome"]
    assert [field for field, _ in problems(make_record(recipe=three, outcome="killed"))] == ["curve.epoch"]


@given(st.integers(0, TEST_IMAGES - 1))
def test_every_image_that_changes_sides_is_found(image: int) -> None:
    record = make_record()
    assert record.test_correct is not None
    bits = int.from_bytes(packed_bytes(record.test_correct, TEST_IMAGES), "big") ^ (1 << image)
    flags = [bool(bits >> (TEST_IMAGES - 1 - i) & 1) for i in range(TEST_IMAGES)]
    flipped = msgspec.structs.replace(record, test_correct=pack_bits(flags))  # type: ignore[arg-type]
    assert [field for field, _ in problems(flipped)] == ["test_correct"]


@pytest.mark.parametrize(
    "text",
    ["/home/ann/data", "see /root", "/Users/ann", "C:\\Users\\ann", "c:/users/ann", "file:///home/ann", "x=/root/y"],
)
def test_home_folders_are_refused_wherever_they_stand(text: str) -> None:
    for path in ("harness", "sittings[1].engine.device_name", "target.source", "paper"):
        assert [field for field, _ in problems(replace(make_record(), path, text))] == [path]
    record = make_record()
    settings = record.recipe.settings | {"note": {"x": [{text: 1}]}}
    found = [field for field, _ in problems(replace(record, "recipe.settings", settings))]
    assert f"recipe.settings.note.x[0].{text}" in found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("by ann@example.org", "an e-mail address (ann@example.org...)"),
        (f"x={'ghp_'}{'a1' * 18}", "a key (ghp_...)"),
        (f"{'AKIA'}{'A1' * 8}", "a key (AKIA...)"),
        ("https://ann:secret@example", "a key (://a...)"),
        ("-----BEGIN RSA PRIVATE" + " KEY-----", "a key (----...)"),
    ],
)
def test_people_and_keys_are_refused_and_keys_are_not_repeated(text: str, found: str) -> None:
    problem = f"has {found}; records carry no path, user, host or key"
    assert problems(replace(make_record(), "sittings[0].engine.device_name", text)) == [
        ("sittings[0].engine.device_name", problem)
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("https://example.org/home/x", "the root/leaf", "/rooted", "/usr/lib", "users", "10 /homes"),
        *("somebody/repository@73ed87d, mnist.py", "x@1.9", "sk-learn", "hf_hub 0.2", "ghp_short"),
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert problems(replace(make_record(), "target.source", text)) == []


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("curve.train_wrong[0]", 1001, "curve.train_wrong[0]"),
        ("curve.train_error[0]", 1.0, "curve.train_error[0]"),
        ("curve.train_error", msgspec.UNSET, "curve.train_error"),
        ("curve.test_class_loss", msgspec.UNSET, "curve.test_class_loss"),
        ("curve.train_class_wrong", [[0] * 10], "curve.train_class_wrong"),
        ("curve.train_class_wrong[1]", [0] * 10, "curve.train_class_wrong[1]"),
        ("curve.train_class_wrong[1]", [0] * 9, "curve.train_class_wrong[1]"),
        ("curve.test_class_wrong[1]", [41, *[0] * 9], "curve.test_class_wrong[1]"),
        ("curve.test_class_loss[1]", [None, *[0.5] * 9], "curve.test_class_loss[1]"),
        ("data.train.class_images", [1000, *[0] * 9], "curve.train_class_loss[0]"),
        ("data.train.class_images", [99, *[100] * 9], "data.train.class_images"),
        ("data.test.class_images", msgspec.UNSET, "data.test.class_images"),
        ("data.valid.class_images", [20] * 10, "data.valid.class_images"),
    ],
)
def test_what_is_counted_by_class_must_add_up(path: str, value: Any, field: str) -> None:
    assert field in [name for name, _ in problems(replace(make_record(evaluates=True), path, value))]


def test_columns_of_training_are_there_only_if_the_recipe_evaluates_it() -> None:
    record = replace(make_record(), "curve.train_error", [1.0] * 6)
    assert [name for name, _ in problems(record)] == ["curve.train_error"]


def test_weights_are_published_with_finished_scoring_runs_only() -> None:
    weights = PublishedWeights(sha256="0" * 64, bytes=1)
    assert [name for name, _ in problems(make_record(scoring=False, published_weights=weights))] == [
        "published_weights"
    ]
    wrong = PublishedWeights(sha256="0", bytes=1)
    assert [name for name, _ in problems(make_record(published_weights=wrong))] == ["published_weights.sha256"]
