"""References: those that are committed are whole; new ones replace them, and are kept."""

from __future__ import annotations

import functools
import os
import re

import msgspec
import pytest
from click.testing import CliRunner

import cli
from benchmarks.paths import REPOSITORY
from benchmarks.recipe import benchmark_ids
from benchmarks.regress import judge, reference, rules, suite
from benchmarks.regress.budgets import budget_of
from benchmarks.regress.measure import Measured, Scored
from benchmarks.regress.reference import Origin, ReferenceFileError, benchmark_of, merged, read, replace

ORIGIN = Origin("2026-11-26", "the first", "0" * 40, "a processor", {"version of numpy": "1"})
NAME, OTHER = "binaryconnect-mnist", "binarynet-mnist"


def measured(name: str = NAME, **changes: object) -> Measured:
    scores = tuple(Scored(seed, 1.0 + seed / 100, 50.0) for seed in range(1, 21))
    data = (0.0, 1.0, 0.1) * 3
    found = Measured(name, None, ORIGIN.factors, "b" * 16, 2.0, "d" * 16, True, data, scores, 400.0, (1.0, 1.1))
    return msgspec.structs.replace(found, **changes)


def of(*names: str) -> reference.Reference:
    return merged(None, "gluon", ORIGIN, {name: benchmark_of(measured(name)) for name in names})


@pytest.mark.parametrize("engine", ["gluon", pytest.param("torch", marks=pytest.mark.torch)])
def test_every_benchmark_of_an_engine_has_a_reference_in_its_budget(engine):
    chosen, _ = suite.can_train(engine, benchmark_ids())
    found = read(engine)
    assert found is not None
    assert sorted(found.benchmarks) == sorted(chosen)
    for name, one in found.benchmarks.items():
        assert one.budget == budget_of(name), name
        assert [score.seed for score in one.scores] == list(range(1, rules.REFERENCE_SEEDS + 1))
        assert len(one.speed) == rules.REFERENCE_ROUNDS
        assert found.origins[one.origin].reason


@pytest.mark.parametrize(
    ("engine", "package", "file"),
    [("gluon", "mxnet", "requirements.txt"), ("torch", "torch", "requirements-torch.txt")],
)
def test_references_were_measured_with_the_versions_that_are_pinned(engine, package, file):
    """With others bits and memory are "not comparable" on every machine, for ever, and the exit code says nothing."""
    pins = dict(re.findall(r"^(\w+)==(\S+)", (REPOSITORY / file).read_text(), re.MULTILINE))
    found = read(engine)
    assert found is not None
    for origin in found.origins:
        of = {name.removeprefix("version of "): version for name, version in origin.factors.items()}
        measured_with = {name: version.partition("+")[0] for name, version in of.items() if name in pins}
        assert measured_with == {name: pins[name] for name in measured_with}, origin.reason
        assert {"numpy", package} <= measured_with.keys()


def test_what_is_replaced_is_kept(tmp_path):
    assert read("gluon", tmp_path) is None
    assert replace(of(NAME), tmp_path) is None
    first = reference.path_of("gluon", tmp_path).read_bytes()
    second = Origin("2026-11-27", "the second", None, "another", {})
    new = merged(read("gluon", tmp_path), "gluon", second, {OTHER: benchmark_of(measured(OTHER))})
    kept = replace(new, tmp_path)
    assert kept == tmp_path / "history" / "gluon-1.json"
    assert kept.read_bytes() == first
    found = read("gluon", tmp_path)
    assert found is not None
    assert [found.of(name)[1].reason for name in (NAME, OTHER)] == ["the first", "the second"]


def test_an_origin_of_which_nothing_is_left_is_left_out():
    second = Origin("2026-11-27", "the second", None, "another", {})
    new = merged(of(NAME), "gluon", second, {NAME: benchmark_of(measured())})
    assert new.origins == [second]


def test_a_benchmark_is_compared_with_what_its_own_bits_depend_on(monkeypatch, tmp_path):
    """One has a layer that another kernel computes: measured by one command, they have two origins."""
    own = {NAME: ORIGIN.factors | {"features": "tables"}, OTHER: ORIGIN.factors | {"features": "none"}}
    found = {name: measured(name, factors=factors) for name, factors in own.items()}
    monkeypatch.setattr(suite.Suite, "measured_for_reference", lambda _: found)
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    monkeypatch.setattr(reference, "read", functools.partial(read, folder=tmp_path))
    monkeypatch.setattr(reference, "replace", functools.partial(replace, folder=tmp_path))
    arguments = ["regress", "--engine", "gluon", "--update", "--reason", "both", "--only", NAME, "--only", OTHER]
    assert CliRunner().invoke(cli.cli, arguments).exit_code == 0
    new = read("gluon", tmp_path)
    assert new is not None
    assert {name: new.of(name)[1].factors for name in own} == own
    assert [origin.reason for origin in new.origins] == ["both", "both"]


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"engine": "gluon"}',
        b'{"engine": "\xff"}',
        b'{"engine":"gluon","origins":[],"benchmarks":{},"schema":9}',
        b'{"engine":"torch","origins":[],"benchmarks":{}}',
    ],
)
def test_a_damaged_file_is_one_line(text, tmp_path):
    (tmp_path / "gluon.json").write_bytes(text)
    with pytest.raises(ReferenceFileError, match=r"gluon\.json: "):
        read("gluon", tmp_path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])  # a pipe would be waited for
def test_what_is_no_file_is_one_line_too(make, tmp_path):
    make(tmp_path / "gluon.json")
    with pytest.raises(ReferenceFileError, match=r"gluon\.json: content: is no file"):
        read("gluon", tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"origin": -1}, {"origin": 1}, {"scores": []}, {"speed": []}, {"speed": [0.0]}, {"memory": 0.0}, {"data": [1.0]}],
)
def test_a_reference_that_nothing_could_be_compared_with_is_damaged(changes, tmp_path):
    edited = of(NAME)
    edited.benchmarks[NAME] = msgspec.structs.replace(edited.benchmarks[NAME], **changes)
    replace(edited, tmp_path)
    with pytest.raises(ReferenceFileError, match=f"{NAME}: is no reference that .*`git -C "):
        read("gluon", tmp_path)


def test_no_history_is_written_over_where_some_of_it_was_deleted(tmp_path):
    for _ in range(3):
        replace(of(NAME), tmp_path)
    (tmp_path / "history" / "gluon-1.json").unlink()
    assert replace(of(NAME), tmp_path) == tmp_path / "history" / "gluon-3.json"


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"failed": "it ended"}, "it ended"), ({"scores": (Scored(3, None, None),)}, "diverges with seed 3")],
)
def test_a_measurement_that_failed_is_no_reference(changes, why):
    with pytest.raises(ReferenceFileError, match=why):
        benchmark_of(measured(**changes))


def word_of(kind: str, found: Measured, second: Measured | None = None) -> tuple[str, str]:
    again = {} if second is None else {NAME: second}
    (figure,) = judge.figures("gluon", of(NAME), {NAME: found}, again, [kind])
    return figure.word, figure.detail


def test_bits_that_differ_are_an_alarm_where_all_is_the_same_else_not_comparable():
    other = measured(bits="c" * 16)
    assert word_of("bits", measured())[0] == "ok"
    assert word_of("bits", other)[0] == "alarm"
    elsewhere = word_of("bits", msgspec.structs.replace(other, factors={"version of numpy": "2"}))
    assert elsewhere == ("not comparable", "version of numpy 2 here, 1 in the reference")


@pytest.mark.parametrize("changes", [{"draws": "e" * 16}, {"first_loss": 2.1}, {"data": (0.0, 1.0, 0.2) * 3}])
def test_what_is_the_same_on_every_machine_is_compared_on_every_machine(changes):
    assert word_of("bits", measured(factors={"version of numpy": "2"}, **changes))[0] == "alarm"


def test_draws_that_floating_point_made_are_compared_on_the_same_machine_alone():
    other = measured(factors={"version of numpy": "2"}, draws="e" * 16, exact_data=False)
    assert word_of("bits", other)[0] == "not comparable"


def test_speed_is_of_one_processor(monkeypatch):
    assert word_of("speed", measured())[0] == "not comparable"
    monkeypatch.setattr(judge, "cpu_model", lambda: ORIGIN.processor)
    assert word_of("speed", measured(speed=(1.05,)))[0] == "ok"
    slow = measured(speed=(1.3, 1.4))
    assert word_of("speed", slow, slow)[0] == "alarm"
    assert word_of("speed", slow, measured(speed=(1.0,)))[0] == "ok"


def test_memory_must_be_more_twice():
    large = measured(memory=450.0)
    assert word_of("memory", large, large)[0] == "alarm"
    assert word_of("memory", large, measured())[0] == "ok"


def test_an_error_that_is_not_what_the_scores_come_to_is_an_alarm_without_any_reference():
    (figure,) = judge.figures(
        "gluon", of(OTHER), {NAME: measured(miscounted="9 %, by the scores 18 %")}, {}, ["accuracy"]
    )
    assert (figure.word, figure.measured) == ("alarm", "9 %, by the scores 18 %")


def test_what_failed_is_not_measured_in_either_process():
    assert word_of("accuracy", measured(failed="killed")) == ("not measured", "killed")
    assert word_of("accuracy", measured(), measured(failed="killed")) == ("not measured", "killed")


def test_without_a_reference_nothing_is_comparable():
    (figure,) = judge.figures("gluon", of(OTHER), {NAME: measured()}, {}, ["accuracy"])
    assert (figure.word, figure.detail.startswith("no reference yet: `python cli.py regress")) == (
        "not comparable",
        True,
    )


def test_another_budget_is_not_comparable(monkeypatch):
    found = of(NAME)
    one = found.benchmarks[NAME]
    other = msgspec.structs.replace(one, budget=msgspec.structs.replace(one.budget, epochs=9))
    changed = msgspec.structs.replace(found, benchmarks={NAME: other})
    (figure,) = judge.figures("gluon", changed, {NAME: measured()}, {}, ["accuracy"])
    assert figure.word == "not comparable"
    assert judge.suspects(changed, {NAME: measured()}, ["accuracy"]) == {}
