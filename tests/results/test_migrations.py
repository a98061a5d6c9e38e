"""Records of older schemas: read as they were written, with what they stored; a contradiction is found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import fastjsonschema
import msgspec
import pytest
from published import FIRST
from record_factory import make_record

from results import registry
from results.errors import NewerSchemaError, RegistryError
from results.record import Record, content_of, from_bytes, pack_bits, seal, seal_problems, to_bytes
from results.record.canonical import canonical_json, digest, to_builtins
from results.record.json_schema import FILE, json_schema, to_text

RUNS = Path(__file__).parents[2] / "results" / "runs"
OLD = sorted((Path(__file__).parent / "schemas" / "1").glob("*.json"))
PUBLISHED = FIRST
# As they were committed: a record keeps its bytes whatever the schema of today is.
SHA256 = {
    "4665776cbd583d9a": "8c4cefa5eb15c780831f890bc61ca0dccd229807f8bb8de0b61788587e5265d4",
    "76827fca344d3200": "93103641568aab26b3518a8151e7b674d7136e86250c46ab3dadabd000431c86",
    "0b5029908e1a9efa": "3c024ea9db2c570b73e9ae79941509c0c9e44091660cd2bd375c879e25a86e30",
    "237fe4a5f6da1e2c": "94b9f0b31533a3b261f942eb1b1629d8c80a654fdb6493d96cb074c966417ceb",
}


def resealed(content: dict[str, Any]) -> bytes:
    """The text of a record of any schema, with the name and the checksums that its content demands."""
    unsealed = {field: value for field, value in content.items() if field not in ("id", "checksums")}
    parts = unsealed | {f"curve.{column}": values for column, values in unsealed["curve"].items()}
    del parts["curve"]
    checksums = {field: digest(value)[:8] for field, value in parts.items()}
    return canonical_json(unsealed | {"id": digest(unsealed)[:16], "checksums": checksums}) + b"\n"


def found_in(tmp_path: Path, data: bytes) -> list[str]:
    """The fields that `verify` names in a record that is the only one of its registry, which has no weights."""
    content = json.loads(data)
    path = tmp_path / content["benchmark"] / f"{content['id']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    found = [problem.field for problem in registry.verify(tmp_path) if problem.field != "published_weights"]
    path.unlink()
    return found


@pytest.mark.parametrize("path", OLD + PUBLISHED, ids=lambda path: path.stem)
def test_a_record_of_schema_1_says_what_it_always_said(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    stored, record = content_of(data, path.name), from_bytes(data, path.name)
    assert stored["schema"] == 1
    assert record.schema == 2
    assert record.id == stored["id"] == path.stem
    assert list(seal_problems(data, path.stem, path.name)) == []
    assert resealed(stored) == data  # or the tests below prove nothing
    assert found_in(tmp_path, data) == []
    assert to_builtins(record.results) == stored["results"]
    assert (record.restarts, record.seeds, record.seed) == (
        stored["restarts"], stored["seeds"], stored["seeds"]["run"],
    )  # fmt: skip
    assert to_builtins(record.engine) == stored["engine"]
    assert (record.harness, record.recipe.version, record.recipe.defaults) == ("0.1.0", 1, [])
    assert {sitting.machine for sitting in record.sittings} == {None}
    assert record.curve == msgspec.convert(stored["curve"], type(record.curve))


def test_published_records_keep_their_names_and_bytes() -> None:
    found = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in PUBLISHED}
    assert found | SHA256 == found


def test_a_migrated_record_is_registered_with_its_own_bytes(tmp_path: Path) -> None:
    data = OLD[0].read_bytes()
    path = registry.add(data, tmp_path)
    assert (path.name, path.read_bytes()) == (OLD[0].name, data)
    assert registry.add(data, tmp_path) == path


CHANGES: list[tuple[str, Any, str]] = [
    ("results.declared.epoch", 5, "results.declared.epoch"),
    ("results.declared.test_wrong", 3, "results.declared.test_wrong"),
    ("results.declared.test_images", 3, "results.declared.test_images"),
    ("results.counted.test_error", 0.5, "results.counted.test_error"),
    ("results.last.epoch", 1, "results.last.epoch"),
    ("results.last.valid_error", None, "results.last.valid_error"),
    ("results.best_test.test_error", 0.0, "results.best_test.test_error"),
    ("results.more", 1, "results.more"),
    ("results", None, "results"),
    ("restarts", 0, "restarts"),
    ("seeds.labels", 1, "seeds.labels"),
]


@pytest.mark.parametrize(("field", "value", "named"), CHANGES)
def test_what_schema_1_stored_must_be_what_follows(tmp_path: Path, field: str, value: Any, named: str) -> None:
    """Even where name and checksums were made anew."""
    content = json.loads((OLD[0].parent / "4a7321e5caaf3916.json").read_bytes())
    *outer, last = field.split(".")
    inner = content
    for name in outer:
        inner = inner[name]
    inner[last] = value
    data = resealed(content)
    assert named in found_in(tmp_path, data)
    with pytest.raises(RegistryError, match=rf"record of binaryconnect-mnist: .*\b{named}"):
        registry.add(data, tmp_path)


def test_what_schema_1_stored_must_be_there(tmp_path: Path) -> None:
    content = json.loads(OLD[0].read_bytes())
    del content["results"]["last"]["epoch"]
    assert found_in(tmp_path, resealed(content)) == ["results.last.epoch"]
    for field in ("seeds", "engine", "times"):
        content = json.loads(OLD[0].read_bytes())
        del content[field]
        with pytest.raises(RegistryError, match=f"^x: {field}: missing or of the wrong type for schema 1"):
            from_bytes(resealed(content), "x")


# -- later schemas, damage ---------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_passed_over_with_a_warning_each(tmp_path: Path) -> None:
    good = registry.write(make_record(), tmp_path)
    newer = good.with_name("1" * 16 + ".json")
    newer.write_bytes(resealed(json.loads(to_bytes(seal(make_record(2)))) | {"schema": 3}))
    damaged = good.with_name("2" * 16 + ".json")
    damaged.write_bytes(good.read_bytes()[:-20])
    contradictory = good.with_name("3" * 16 + ".json")
    contradictory.write_bytes(to_bytes(seal(make_record(test_correct=pack_bits([True] * 400)))))
    warnings: list[str] = []
    assert [path for path, _ in registry.read_all(tmp_path, warnings.append)] == [good]
    assert len(warnings) == 3
    assert all("\n" not in warning for warning in warnings)
    assert f"passed over: {newer}: schema: version 3 is newer than the 2 that this checkout reads" in warnings[0]
    assert {problem.path for problem in registry.verify(tmp_path)} == {newer, damaged, contradictory}
    with pytest.raises(NewerSchemaError):
        registry.read(newer)


def test_list_and_table_go_on_without_a_record_that_they_cannot_read(cli: Any, tmp_path: Path) -> None:
    root = tmp_path / "registry" / "runs"
    path = root / "binaryconnect-mnist" / f"{'1' * 16}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(resealed(json.loads(to_bytes(seal(make_record()))) | {"schema": 3}))
    path.with_name(f"{'2' * 16}.json").write_bytes(b"{\x1b[2J")
    for command in (("list", "--data", "svhn"), ("table", "--write")):
        result = cli(*command)
        assert result.returncode == 0, result.stderr
        warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: passed over: ")]
        assert [("version 3 is newer" in line, "not a record" in line) for line in warnings] == [
            (True, False),
            (False, True),
        ]
        assert "\x1b" not in result.stderr
    result = cli("verify")
    assert result.returncode == 7
    assert f"{path}: schema: version 3 is newer" in result.stdout
    assert result.stdout.endswith("2 records, 2 problems\n")


# -- the JSON Schema ---------------------------------------------------------------------------------------------------


def test_the_json_schema_is_that_of_the_records() -> None:
    mend = 'python -c "from results.record.json_schema import FILE, to_text; FILE.write_text(to_text())"'
    assert FILE.read_text() == to_text(), mend
    validate = fastjsonschema.compile(json_schema())
    fresh = [make_record(), make_record(evaluates=True), make_record(validates=False), make_record(scoring=False)]
    migrated = [from_bytes(path.read_bytes(), path.name) for path in OLD + PUBLISHED]
    for record in [*map(seal, fresh), *migrated]:
        validate(json.loads(to_bytes(record)))
    content = json.loads(to_bytes(seal(make_record())))
    for change in ({"schema": 1}, {"id": "x"}, {"seed": "1"}, {"results": None}, {"sittings": [{}]}):
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            validate(content | change)


def test_every_field_of_the_schema_is_described() -> None:
    parts = json_schema()["$defs"]
    assert set(parts["Record"]["required"]) == set(Record.__struct_fields__) - {
        "published_weights",
        "unpublished_reason",
    }
    assert all(part["description"] for part in parts.values())
