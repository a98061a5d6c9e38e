"""The registry on real files: written once and whole, found, and every edit of every record noticed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from record_factory import make_record
from writing import last_writing

from benchmarks.run.folder import read_sealed_record
from results import registry
from results.errors import RegistryError, RegistryFileError
from results.record import Record, from_bytes, record_id, seal, to_bytes
from results.record.canonical import canonical_json, digest, leaves
from results.record.checks import BENCHMARK

HERE = Path(__file__).parent
INTACT = to_bytes(seal(make_record()))

same_folder = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def record_file(root: Path) -> Path:
    """An intact record in an otherwise empty registry."""
    path = root / "binaryconnect-mnist" / f"{record_id(make_record())}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(INTACT)
    return path


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that can import the project and the factory."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent.parent)])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ---- writing ----


def test_write_names_the_file_by_its_content_and_read_gives_the_record_back(tmp_path: Path) -> None:
    path = registry.write(make_record(), tmp_path / "new" / "runs")
    sealed = seal(make_record())
    assert path == tmp_path / "new" / "runs" / "binaryconnect-mnist" / f"{sealed.id}.json"
    assert registry.read(path) == sealed
    assert path.read_bytes() == INTACT
    assert path.stat().st_mode & 0o777 == 0o644
    assert registry.verify(tmp_path / "new" / "runs") == []


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    path = registry.write(make_record(), tmp_path)
    before = last_writing(path)
    assert registry.write(registry.read(path), tmp_path) == path
    assert last_writing(path) == before
    assert os.listdir(path.parent) == [path.name]


def test_a_different_file_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    path = record_file(tmp_path)
    path.write_text("{}")
    with pytest.raises(RegistryError, match=re.escape(str(path))):
        registry.write(make_record(), tmp_path)
    assert path.read_text() == "{}"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "0" * 16}, "id"),
        ({"harness": 1}, "harness"),
        ({"paper": "/home/ann"}, "paper"),
        ({"recipe": msgspec.structs.replace(make_record().recipe, version=0)}, "recipe.version"),
    ],
)
def test_a_bad_record_is_not_written(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RegistryError, match=f"record of binaryconnect-mnist: {field}: ") as caught:
        registry.write(make_record(**changes), tmp_path)
    assert caught.value.field == field
    assert not list(tmp_path.iterdir())


def test_several_processes_writing_the_same_record_leave_one_file(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from record_factory import make_record
from results import registry
while time.time() < float(sys.argv[2]):
    pass
for seed in range(20):
    registry.write(make_record(seed), Path(sys.argv[1]))
"""
    processes = [start(code, tmp_path, time.time() + 1) for _ in range(3)]
    assert [(process.wait(600), process.communicate()[1]) for process in processes] == [(0, "")] * 3
    assert len(registry.read_all(tmp_path, pytest.fail)) == len(list(tmp_path.rglob("*.*"))) == 20
    assert registry.verify(tmp_path) == []


def test_a_kill_while_writing_leaves_no_half_record(tmp_path: Path) -> None:
    code = """
import itertools, sys
from pathlib import Path
from record_factory import make_record
from results import registry
for seed in itertools.count(int(sys.argv[2])):
    registry.write(make_record(seed, epochs=60), Path(sys.argv[1]))
    print(seed, flush=True)
"""
    for attempt in range(4):
        process = start(code, tmp_path, attempt * 10_000)
        assert process.stdout is not None
        assert process.stdout.readline()  # it is writing
        time.sleep(0.013 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(registry.read_all(tmp_path, pytest.fail)) >= 4
    assert registry.verify(tmp_path) == []


def test_a_full_disk_leaves_no_file_and_one_clear_line(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from record_factory import make_record
from results import registry
from results.errors import RegistryError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    registry.write(make_record(), Path(sys.argv[1]))
except RegistryError as error:
    print(error)
    sys.exit(error.exit_code)
"""
    process = start(code, tmp_path)
    output, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (1, "")
    assert re.fullmatch(r".*\.json: cannot be written: .*\n", output)
    assert not list(tmp_path.rglob("*.*"))


def test_a_place_that_cannot_be_written_to_is_no_fault_of_the_record(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(RegistryFileError, match="cannot be written") as caught:
        registry.write(make_record(), tmp_path / "runs")
    assert caught.value.exit_code == 1
    with pytest.raises(RegistryFileError, match="cannot be read: No such file"):
        registry.read(tmp_path / "absent.json")


# ---- reading and finding ----


def test_read_all_is_sorted_and_skips_unfinished_writes(tmp_path: Path) -> None:
    paths = {registry.write(make_record(seed, benchmark=name), tmp_path) for seed in (1, 2) for name in ("b", "a")}
    (tmp_path / "a" / ".half.json").write_text("{")
    (tmp_path / "a" / ".half.json.x.tmp").write_text("{")
    assert [path for path, _ in registry.read_all(tmp_path, pytest.fail)] == sorted(paths)
    assert registry.read_all(tmp_path / "absent", pytest.fail) == []
    assert registry.verify(tmp_path / "absent") == []


def test_find_by_beginning_of_id_or_by_path(tmp_path: Path) -> None:
    paths = [registry.write(make_record(seed), tmp_path) for seed in range(20)]
    for path in paths:
        assert registry.find(tmp_path, path.stem) == path
        assert registry.find(tmp_path, path.stem[:12]) == path
        assert registry.find(tmp_path / "elsewhere", str(path)) == path
    common = next(path.stem[0] for path in paths if sum(other.stem[0] == path.stem[0] for other in paths) > 1)
    with pytest.raises(RegistryError, match="; give more digits"):
        registry.find(tmp_path, common)
    for absent in ("xyz", "", str(tmp_path), "absent.json"):
        with pytest.raises(RegistryError, match="no record"):
            registry.find(tmp_path, absent)


# ---- verifying ----


def test_verify_collects_every_problem_of_every_file(tmp_path: Path) -> None:
    good = registry.write(make_record(7), tmp_path)
    edited = record_file(tmp_path)
    content = json.loads(INTACT)
    content["seed"], content["recipe"]["version"] = 4, 0
    edited.write_bytes(canonical_json(content) + b"\n")
    (tmp_path / "binaryconnect-mnist" / "broken.json").write_text("{")
    misplaced = tmp_path / "other" / good.name
    misplaced.parent.mkdir()
    misplaced.write_bytes(good.read_bytes())
    stray = tmp_path / good.name
    stray.write_bytes(good.read_bytes())
    renamed = good.with_name("0" * 16 + ".json")
    renamed.write_bytes(good.read_bytes())
    found = {(problem.path, problem.field) for problem in registry.verify(tmp_path)}
    assert found == {
        (edited, "seed"),
        (edited, "recipe"),
        (edited, "recipe.version"),
        (tmp_path / "binaryconnect-mnist" / "broken.json", "content"),
        (misplaced, "benchmark"),
        (stray, "content"),
        (renamed, "id"),
    }
    assert all(str(problem).startswith(f"{problem.path}: {problem.field}: ") for problem in registry.verify(tmp_path))


def test_what_cannot_be_a_record_is_refused_without_being_read(tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for, and a huge file fill the memory."""
    pipe, huge = (tmp_path / "a" / f"{digit * 16}.json" for digit in "01")
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    with huge.open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "a" / f"{'2' * 16}.json").mkdir()
    warnings: list[str] = []
    assert registry.read_all(tmp_path, warnings.append) == []
    assert len(warnings) == 3
    messages = {problem.path: problem.message for problem in registry.verify(tmp_path)}
    assert messages[pipe].startswith("is a pipe or device that does not belong here")
    assert messages[huge] == "is no file of at most 67,108,864 bytes, as all of a registry are"
    assert len(messages) == 3
    for read in (registry.read, read_sealed_record):
        with pytest.raises(RegistryError, match="is no file of at most"):
            read(pipe)


def test_verify_asks_the_extra_checks(tmp_path: Path) -> None:
    path = record_file(tmp_path)
    found = registry.verify(tmp_path, [lambda record: [("target", f"is not {record.paper}'s")]])
    assert found == [registry.Problem(path, "target", "is not BinaryConnect's")]


def test_an_edit_that_reseals_the_checksum_is_still_found(tmp_path: Path) -> None:
    path = record_file(tmp_path)
    other = json.loads(to_bytes(seal(make_record(peak_memory_mib=1.5))))
    path.write_bytes(canonical_json(other | {"id": path.stem}) + b"\n")
    assert [problem.field for problem in registry.verify(tmp_path)] == ["content (hash)"]
    path.write_bytes(canonical_json(other) + b"\n")
    assert [problem.field for problem in registry.verify(tmp_path)] == ["id"]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b'"peak_memory_mib":512.5', b'"peak_memory_mib":512.50', "peak_memory_mib"),
        (b'"valid_error":[', b'"valid_error": [', "content"),
        (b'"seed":1', b'"seed":7,"seed":1', "content"),
        (b"}\n", b"}", "content"),
    ],
)
def test_other_bytes_for_the_same_value_are_found(tmp_path: Path, old: bytes, new: bytes, field: str) -> None:
    path = record_file(tmp_path)
    assert old in INTACT
    path.write_bytes(INTACT.replace(old, new, 1))
    assert [problem.field for problem in registry.verify(tmp_path)] == [field]


def names(problem: registry.Problem, field: str) -> bool:
    """Whether a problem is about the top-level field that `field` is in, or about that field's checksum."""
    tops = {re.split(r"[.\[]", name.removeprefix("checksums."))[0] for name in (problem.field, field)}
    return len(tops) == 1 or (problem.field.startswith("checksums[") and field.startswith("checksums."))


DIGITS = [match.start() for match in re.finditer(rb"\d", INTACT)]


@same_folder
@given(st.sampled_from(DIGITS), st.integers(1, 9))
def test_editing_one_digit_is_found_and_names_file_and_field(tmp_path: Path, place: int, step: int) -> None:
    path = record_file(tmp_path)
    digit = b"%d" % ((INTACT[place] - ord("0") + step) % 10)
    edited = INTACT[:place] + digit + INTACT[place + 1 :]
    path.write_bytes(edited)
    found = registry.verify(tmp_path)
    assert found
    assert {problem.path for problem in found} == {path}
    assert all(problem.field and not problem.field.startswith("content") for problem in found), found
    with contextlib.suppress(ValueError):  # a number that no JSON has: 0123
        before, after = (dict(leaves(json.loads(data, parse_float=str))) for data in (INTACT, edited))
        # A field's name may have changed, and its value be null.
        fields, absent = before.keys() | after.keys(), object()
        changed = [field for field in fields if before.get(field, absent) != after.get(field, absent)]
        assert any(names(problem, field) for problem in found for field in changed), (changed, found)


LEAVES = [field for field, _ in leaves(json.loads(INTACT))]
OTHER_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@same_folder
@given(st.sampled_from(LEAVES), OTHER_VALUES)
def test_changing_any_single_value_is_found(tmp_path: Path, field: str, value: object) -> None:
    path = record_file(tmp_path)
    content = json.loads(INTACT)
    old = dict(leaves(content))[field]
    if canonical_json(old) == canonical_json(value):
        return
    set_leaf(content, field, value)
    path.write_bytes(canonical_json(content) + b"\n")
    found = registry.verify(tmp_path)
    assert found
    assert any(names(problem, field) for problem in found), found


def set_leaf(content: Any, field: str, value: object) -> None:
    """Set the value at "curve.lr[3]" or "checksums.curve.lr" (whose keys have dots of their own)."""
    if field.startswith("checksums."):
        content["checksums"][field.removeprefix("checksums.")] = value
        return
    *keys, last = [int(key) if key.isdigit() else key for key in re.findall(r"[^.\[\]]+", field)]
    for key in keys:
        content = content[key]
    content[last] = value


@same_folder
@given(st.sampled_from(LEAVES), OTHER_VALUES | st.just([]) | st.just({}))
@example("benchmark", "")
@example("benchmark", "another")
def test_whatever_stands_in_a_sealed_record_is_a_problem_or_none(tmp_path: Path, field: str, value: object) -> None:
    """It is never the end of the program, though name and checksums are right; and it is listed if it verifies."""
    content = json.loads(INTACT)
    set_leaf(content, field, value)
    try:
        data = to_bytes(seal(msgspec.convert(content, Record)))
    except msgspec.ValidationError:
        return  # another type: not sealed
    path = tmp_path / "binaryconnect-mnist" / f"{json.loads(data)['id']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    warnings: list[str] = []
    listed, problems = registry.read_all(tmp_path, warnings.append), registry.verify(tmp_path)
    path.unlink()
    # In another benchmark's folder, and else as it must be: it is read, and `verify` says so.
    misplaced = [problem.field for problem in problems] == ["benchmark"] and BENCHMARK.fullmatch(str(value))
    assert (len(listed), len(warnings)) == ((0, 1) if problems and not misplaced else (1, 0))


JSON_VALUES = st.recursive(
    OTHER_VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)


@same_folder
@given(JSON_VALUES, st.text(), st.floats(0, allow_nan=False, allow_infinity=False))
def test_whatever_the_settings_are_the_record_reads_back(tmp_path: Path, value: Any, text: str, number: float) -> None:
    record = make_record(peak_memory_mib=number)
    chosen = record.recipe.settings | {"anything": {"value": value, text: number}}
    recipe = msgspec.structs.replace(record.recipe, digest=digest(chosen), settings=chosen)
    sealed = seal(make_record(peak_memory_mib=number, recipe=recipe))
    data = to_bytes(sealed)
    assert to_bytes(from_bytes(data, "x")) == data
    assert record_id(from_bytes(data, "x")) == sealed.id
