"""Versions of catalog entries: the list is complete, and a correction makes no record invalid."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec
import pytest
from published import FIRST

from benchmarks.errors import RecipeError
from benchmarks.recipe import benchmark_ids, load_recipe
from benchmarks.recipe import versions as catalog_versions
from benchmarks.recipe.versions import VERSIONS, Version, current, version_of, versions
from benchmarks.verdict import check_record, judge_run, target_of
from benchmarks.verdict import rules as verdict
from results.record import Record, from_bytes
from results.views.rows import Benchmark, rows


@pytest.mark.parametrize("benchmark", benchmark_ids())
def test_the_list_has_every_entry_as_it_is_published_now(benchmark: str) -> None:
    listed, now = current(benchmark), version_of(load_recipe(benchmark))
    assert listed == now, (
        f"settings or target of {benchmark} are not those of its version: raise `version:` in its YAML, above"
        f" {listed.version if listed else 0}, and add to {VERSIONS.name} the line {','.join(map(str, now))}"
    )


def test_no_version_is_listed_twice_and_none_is_left_out() -> None:
    with VERSIONS.open(newline="") as file:
        lines = [(line["id"], int(line["version"])) for line in csv.DictReader(file)]
    assert len(lines) == len(set(lines)) == len(versions())
    assert {name for name, _ in lines} >= set(benchmark_ids())
    for name in {name for name, _ in lines}:
        numbers = sorted(number for other, number in lines if other == name)
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("text", ["", "id,version\n", "id,version,digest,test_error\nx,one,d,1\n"])
def test_a_list_that_is_none_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / "versions.csv"
    path.write_text(text)
    monkeypatch.setattr(catalog_versions, "VERSIONS", path)
    versions.cache_clear()
    try:
        with pytest.raises(RecipeError, match=r"catalog file versions\.csv: ") as caught:
            versions()
        assert "\n" not in str(caught.value)
    finally:
        versions.cache_clear()


# -- records, when an entry is corrected -------------------------------------------------------------------------------


@pytest.fixture(params=FIRST, ids=lambda path: path.parent.name)
def record(request: pytest.FixtureRequest) -> Record:
    return from_bytes(request.param.read_bytes(), request.param.name)


def corrected(monkeypatch: pytest.MonkeyPatch, record: Record, **changes: Any) -> Version:
    """As if the record's entry had been corrected since, in version 2."""
    first = versions()[record.benchmark, 1]
    second = first._replace(version=2, **changes)
    for module in (catalog_versions, verdict):
        monkeypatch.setattr(module, "versions", lambda: {(first.benchmark, 1): first, (first.benchmark, 2): second})
    return second


def with_recipe(record: Record, **changes: Any) -> Record:
    return msgspec.structs.replace(record, recipe=msgspec.structs.replace(record.recipe, **changes))


def test_a_record_of_the_latest_version_is_held_to_the_catalog(record: Record) -> None:
    assert list(check_record(record)) == []
    assert record.recipe.digest == load_recipe(record.benchmark).digest  # as earlier code computed it
    target = msgspec.structs.replace(record.target, test_error=3.5)
    assert [field for field, _ in check_record(msgspec.structs.replace(record, target=target))] == ["target.test_error"]


@pytest.mark.parametrize("changes", [{"test_error": "9.99"}, {"digest": "0" * 64}], ids=["target", "settings"])
def test_a_record_of_an_earlier_version_stays_valid(
    record: Record, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    second = corrected(monkeypatch, record, **changes)
    assert current(record.benchmark) == second
    assert list(check_record(record)) == []
    benchmark = Benchmark(id=record.benchmark, paper="p", data="d", target=None, digest=second.digest)
    (row,) = rows([record], lambda record: judge_run(record, target_of(record)), [benchmark])
    assert (row.verdict == "superseded") == ("digest" in changes)


def test_a_record_of_an_earlier_version_is_held_to_that_version(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrected(monkeypatch, record, test_error="9.99", digest="0" * 64)
    target = msgspec.structs.replace(record.target, test_error=9.99)
    for wrong, field in (
        (msgspec.structs.replace(record, target=target), "target.test_error"),
        (with_recipe(record, digest="0" * 64), "recipe.digest"),
        (with_recipe(record, scoring=False), "recipe.scoring"),
    ):
        with_weights = field == "recipe.scoring" and record.published_weights is not msgspec.UNSET
        expected = [field, *(["published_weights.bytes"] if with_weights else [])]
        assert [found for found, _ in check_record(wrong)] == expected


def test_a_version_that_does_not_exist_is_a_problem(record: Record) -> None:
    (problem,) = check_record(with_recipe(record, version=2))
    assert problem == ("recipe.version", "is 2, the catalog's versions go up to 1")


def test_a_setting_that_is_said_to_be_at_its_default_is(record: Record) -> None:
    """The digest does not cover it."""
    assert record.recipe.defaults == []  # of schema 1, which left them out
    field = next(field for field in load_recipe(record.benchmark).defaults if field.startswith("model.drop"))
    settings = record.recipe.settings | {"model": record.recipe.settings["model"] | {field.partition(".")[2]: 0.9}}
    lying = with_recipe(record, settings=settings, defaults=[field])
    assert list(check_record(lying)) == [(f"recipe.settings.{field}", "is 0.9, as a default 0.0")]
