"""The record: schema, bytes, name, and the numbers that follow from its curve."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import TEST_IMAGES, make_curve, make_record

from results import record as rec
from results.errors import RegistryError
from results.record.canonical import digest


def edited(**changes: Any) -> bytes:
    """The JSON of a valid record with top-level fields replaced, or removed where None is given."""
    content = json.loads(rec.to_bytes(rec.seal(make_record())))
    content = {key: changes.get(key, value) for key, value in content.items()} | changes
    return json.dumps({key: value for key, value in content.items() if value is not None}).encode()


def test_bytes_read_back_as_the_same_record() -> None:
    record = rec.seal(make_record())
    data = rec.to_bytes(record)
    assert rec.from_bytes(data, "x") == record
    assert rec.to_bytes(rec.from_bytes(data, "x")) == data
    assert data.endswith(b"}\n")
    assert data.count(b"\n") == 1


def test_id_is_the_hash_of_the_content_and_not_of_the_id() -> None:
    record = make_record()
    sealed = rec.seal(record)
    assert sealed.id == rec.record_id(record) == rec.record_id(sealed)
    content = json.loads(rec.to_bytes(record))
    del content["id"], content["checksums"]
    assert sealed.id == digest(content)[:16]
    assert rec.record_id(make_record(seed=2)) != sealed.id


def test_whole_numbers_in_float_fields_are_floats() -> None:
    whole, exact = make_record(peak_memory_mib=512), make_record(peak_memory_mib=512.0)
    assert rec.to_bytes(whole) == rec.to_bytes(exact)
    assert rec.record_id(whole) == rec.record_id(exact)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (0, "expected a whole number from 1 on, got 0"),
        (3, "newer than the 2 that this checkout reads: update the checkout"),
        (None, "missing"),
        ("1", "expected a whole number"),
        (True, "expected a whole number"),
    ],
)
def test_schema_versions_have_messages_of_their_own(schema: Any, message: str) -> None:
    with pytest.raises(RegistryError, match=f"^runs/x.json: schema: .*{message}") as caught:
        rec.from_bytes(edited(schema=schema), "runs/x.json")
    assert caught.value.field == "schema"
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (edited(benchmark=3), "benchmark"),
        (edited(benchmark=None), "benchmark"),
        (edited(id=None), "id"),
        (edited(checksums=None), "checksums"),
        (edited(extra=1), "extra"),
        (edited(outcome="fine"), "outcome"),
        (edited(seed=1.5), "seed"),
        (edited(times={"train_seconds": 1.0}), "times.evaluate_seconds"),
        (edited(times={"train_seconds": "1", "evaluate_seconds": 1.0}), "times.train_seconds"),
        (edited(results={}), "results"),
        (edited(verdict={"word": "reproduced"}), "verdict"),
        (b"", "content"),
        (b"[]", "content"),
        (b'{"schema":1,"lr":00}', "lr"),
        (b'{"schema":1,"a":' + b"[" * 100_000, "content"),
        (b"\xff\xfe", "content"),
    ],
)
def test_what_is_no_record_is_refused_by_field(data: bytes, field: str) -> None:
    with pytest.raises(RegistryError, match=r"^x\.json: ") as caught:
        rec.from_bytes(data, "x.json")
    assert caught.value.field.split("[")[0] == field
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"peak_memory_mib": float("nan")}, "peak_memory_mib"),
        ({"peak_memory_mib": np.float32(1)}, "peak_memory_mib"),
        ({"peak_memory_mib": "1"}, "peak_memory_mib"),
        ({"times": rec.Times(train_seconds=1.0, evaluate_seconds=np.float32(1))}, "times.evaluate_seconds"),
        ({"outcome": "stopped"}, "outcome"),
    ],
)
def test_a_wrong_type_is_not_written(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RegistryError, match=f"record of binaryconnect-mnist: {field}") as caught:
        rec.to_bytes(make_record(**changes))
    assert caught.value.field == field


def test_comparable_is_blind_to_interruptions_and_to_nothing_else() -> None:
    whole, resumed = make_record(sittings=1), make_record(sittings=3, peak_memory_mib=1.0)
    slower = msgspec.structs.replace(resumed.curve, seconds=[9.0] * 6, images_per_second=[1.0] * 6)
    resumed = msgspec.structs.replace(resumed, curve=slower)
    assert rec.comparable(rec.seal(whole)) == rec.comparable(rec.seal(resumed))
    assert rec.comparable(whole) != rec.comparable(make_record(seed=2))
    other = make_record(weights_sha256=digest("one bit more"))
    assert rec.comparable(whole) != rec.comparable(other)
    text = json.dumps(rec.comparable(whole))
    assert "seconds" not in text
    assert "2024-" not in text


@given(st.lists(st.booleans(), max_size=70))
def test_bits_unpack_as_they_were_packed(correct: list[bool]) -> None:
    text = rec.pack_bits(np.array(correct, dtype=bool))
    assert rec.unpack_bits(text, len(correct)).tolist() == correct
    assert rec.unpack_bits(text, len(correct)).dtype == bool
    assert int.from_bytes(rec.packed_bytes(text, len(correct)), "big").bit_count() == sum(correct)


@pytest.mark.parametrize(("text", "n"), [("AAAA", 8), ("AAAA", 25), ("", 1), ("A", 8), ("/w==", 7), ("é", 8)])
def test_bits_of_another_length_are_refused(text: str, n: int) -> None:
    with pytest.raises(RegistryError, match="test_correct"):
        rec.unpack_bits(text, n)


def test_declared_epoch_has_the_fewest_validation_errors_and_ties_go_to_the_later() -> None:
    curve = msgspec.structs.replace(make_curve(1, 5), valid_wrong=[9, 4, 7, 4, 5], test_wrong=[50, 60, 40, 70, 40])
    correct = rec.pack_bits(np.arange(TEST_IMAGES) >= curve.test_wrong[3])
    results = rec.summarize(curve, TEST_IMAGES, correct, {})
    assert results is not None
    assert rec.declared_epoch(curve, {}) == results.declared.epoch == 4
    assert results.declared.test_wrong == 70
    assert results.last.epoch == 5
    assert results.best_test.epoch == 5
    assert rec.declared_epoch(curve, {"protocol": {"selection": "best_test"}}) == 5
    assert rec.declared_epoch(make_curve(1, 0), {"protocol": {"selection": "best_test"}}) == 0
    first = {"protocol": {"selection": "first_best_test"}}
    assert rec.declared_epoch(curve, first) == rec.points(curve, TEST_IMAGES, first)["best_test"].epoch == 3
    assert rec.declared_epoch(make_curve(1, 0), first) == 0
    assert rec.summarize(make_curve(1, 0), TEST_IMAGES, None, {}) is None
    assert rec.declared_epoch(make_curve(1, 0), {}) == 0


def test_an_error_is_in_percent() -> None:
    assert rec.error_percent(115, 10_000) == 1.15


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_what_the_verdict_counts_is_the_first_images(images: int, seed: int) -> None:
    """As the authors' loop, which leaves out the images that do not fill a last batch."""
    right = np.random.default_rng(seed).random(images) < 0.9
    curve = make_curve(1, 1)
    settings = {"train": {"batch_size": min(images, 50)}, "protocol": {"counted_test_images": "whole_batches"}}
    counted = images - images % min(images, 50)
    results = rec.summarize(curve, images, rec.pack_bits(right), settings)
    assert results is not None
    assert results.counted.test_wrong == np.count_nonzero(~right[:counted])
    assert results.counted.test_images == counted


def test_images_that_count_follow_from_the_recipe() -> None:
    settings = {"train": {"batch_size": 50}, "protocol": {"counted_test_images": "whole_batches"}}
    assert rec.counted_images(settings, 26_032) == 26_000
    assert rec.counted_images({"train": {"batch_size": 50}, "protocol": {}}, 26_032) == 26_032
