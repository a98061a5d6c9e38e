"""The history of a benchmark: which runs are a series, its changes, and those that were meant."""

from __future__ import annotations

import json
import os

import msgspec
import pytest
from record_factory import make_record

from results import registry
from results.errors import RegistryError
from results.history import ERROR, SPEED, AcceptedChange, accepted_problems, history, read_accepted
from results.record import Record


def series_of(count: int, slow_from: int) -> list[Record]:
    """Runs day by day, from one of them on at half the speed."""
    found = []
    for day in range(count):
        record = make_record(seed=day + 1)
        speed = [1000.0 / (1 + (day >= slow_from)) + day % 3] * len(record.curve.epoch)
        sittings = [msgspec.structs.replace(s, started=f"2024-06-{day + 1:02}T12:00:00Z") for s in record.sittings]
        curve = msgspec.structs.replace(record.curve, images_per_second=speed)
        found.append(msgspec.structs.replace(record, sittings=sittings, curve=curve, id=f"{day:016x}"))
    return found


def test_a_slower_run_is_a_change_of_speed_and_not_of_error():
    records = series_of(12, slow_from=7)
    errors, speeds = history(reversed(records))
    assert (errors.figure, speeds.figure) == (ERROR, SPEED)
    assert [point.started for point in speeds.points] == [record.sittings[0].started for record in records]
    (change,) = speeds.changes
    assert (change.record, change.accepted) == (records[7].id, None)
    assert change.before > 1.9 * change.after
    assert errors.changes == []


def test_an_accepted_change_has_its_reason():
    records = series_of(12, slow_from=7)
    accepted = [AcceptedChange(record=records[7].id, figure=SPEED, reason="two runs at once")]
    assert history(records, accepted)[1].changes[0].accepted == "two runs at once"
    accepted = [AcceptedChange(record=records[7].id, figure=ERROR, reason="another figure")]
    assert history(records, accepted)[1].changes[0].accepted is None


def test_machines_are_not_mixed_in_a_series_of_speeds():
    record = make_record(2)
    engine = msgspec.structs.replace(record.engine, device_name="another")
    elsewhere = [msgspec.structs.replace(sitting, engine=engine) for sitting in record.sittings]
    found = history([make_record(1), msgspec.structs.replace(record, sittings=elsewhere)])
    assert [(series.figure, len(series.points)) for series in found] == [(ERROR, 2), (SPEED, 1), (SPEED, 1)]


def test_what_does_not_score_is_in_no_series():
    assert history([make_record(scoring=False), make_record(outcome="diverged")]) == []


def test_the_file_of_accepted_changes(tmp_path):
    path = tmp_path / "accepted_changes.json"
    assert read_accepted(path) == []
    change = {"record": "ab", "figure": SPEED, "reason": "new kernel"}
    path.write_text(json.dumps({"schema": 1, "changes": [change]}))
    assert read_accepted(path) == [AcceptedChange(**change)]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"schema": 2, "changes": []}', '{"schema": 1, "changes": [], "more": 1}',
     '{"schema": 1, "changes": [{"record": "a", "figure": "size", "reason": ""}]}'],
)  # fmt: skip
def test_a_malformed_file_of_accepted_changes_is_one_line(tmp_path, text):
    path = tmp_path / "accepted_changes.json"
    path.write_text(text)
    with pytest.raises(RegistryError, match=r"accepted_changes\.json: ") as refused:
        read_accepted(path)
    assert "\n" not in str(refused.value)


def test_the_command(cli, tmp_path):
    root = tmp_path / "runs-registry"
    for record in series_of(11, slow_from=6):
        registry.write(msgspec.structs.replace(record, id=""), root)
    picture = tmp_path / "history.png"
    arguments = ("table", "--history", "binaryconnect-mnist", "--registry", str(root))
    result = cli(*arguments, "--plot", str(picture))
    assert result.returncode == 0, result.stderr
    assert "-- from 1,001.000 to 500.800 on average (p = " in result.stdout
    assert picture.stat().st_size > 10_000
    content = json.loads(cli(*arguments, "--json").stdout)
    assert [len(series["changes"]) for series in content["series"]] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--history", "nonsense"], "nonsense"),
        (["--history", "binarynet-mnist"], "no scoring run has a result"),
        (["--plot", "a.png"], "--plot goes with --history ID"),
        (["--history", "binarynet-mnist", "--all"], "--history goes with --json, --plot and --registry alone"),
    ],
)
def test_wrong_usage_is_one_line(cli, arguments, message):
    result = cli("table", *arguments)
    assert result.returncode != 0
    assert message in result.stderr.splitlines()[-1]


def test_verify_finds_an_accepted_change_of_no_record(tmp_path):
    path = tmp_path / "accepted_changes.json"
    change = {"record": "573cd6f024bf1322", "figure": SPEED, "reason": "new kernel"}
    path.write_text(json.dumps({"schema": 1, "changes": [change]}))
    assert accepted_problems(path, {"573cd6f024bf1322"}) == []
    (problem,) = accepted_problems(path, {"ad944925f69c3244"})
    assert (problem.path, problem.field) == (path, "changes[0].record")
    path.write_text("{")
    assert len(accepted_problems(path, set())) == 1
    path.unlink()
    os.mkfifo(path)  # which would be waited for
    (problem,) = accepted_problems(path, set())
    assert "is no file" in problem.message
