"""The results table: what counts, how it is written, and that the same records give the same bytes."""

from __future__ import annotations

import io
import json
import statistics
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from record_factory import make_record
from rich.console import Console

from results import registry, table
from results.errors import RegistryError
from results.record import Record, Target

UNRUN = table.Benchmark(id="binarynet-svhn", paper="BinaryNet", data="svhn", target=2.8, decimals=2, kind="2nd")
NO_TARGET = table.Benchmark(id="memorization", paper="Memorization", data="cifar10", target=None)


def rendered(found: list[table.Row]) -> str:
    """`to_rich` on a wide console."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    with console.capture() as captured:
        console.print(table.to_rich(found))
    return captured.get()


def judged(record: Record, word: str, provisional: bool = True) -> Record:
    verdict = msgspec.structs.replace(record.verdict, word=word, provisional=provisional)
    return msgspec.structs.replace(record, verdict=verdict)


def declared(record: Record) -> float:
    assert record.results is not None
    return record.results.declared.test_error


def test_one_run_shows_its_error_with_the_binomial_standard_error() -> None:
    record = make_record()
    (row,) = table.rows([record])
    assert row.runs == 1
    assert (row.test_error, row.spread) == (declared(record), record.verdict.standard_error)
    assert (row.verdict, row.engine, row.date) == ("not reproduced (provisional)", "gluon cpu", "2024-05-02")
    assert f"| 1.15 | {declared(record):.3f} ± {record.verdict.standard_error:.3f} | 1 |" in table.to_markdown([row])


def test_several_runs_show_mean_and_standard_deviation() -> None:
    records = [make_record(seed) for seed in (1, 2, 3)]
    (row,) = table.rows(records)
    errors = [declared(record) for record in records]
    assert row.runs == 3
    assert row.test_error == pytest.approx(statistics.mean(errors))
    assert row.spread == pytest.approx(statistics.stdev(errors))


def test_the_same_run_again_is_not_a_second_measurement() -> None:
    (row,) = table.rows([make_record(sittings=1), make_record(sittings=2)])
    assert row.runs == 1


def test_only_finished_scoring_runs_are_averaged_and_diverged_ones_are_told() -> None:
    empty = make_record(seed=9, epochs=0, sittings=1, outcome="diverged")
    records = [make_record(), make_record(2, scoring=False), make_record(3, outcome="killed"), empty]
    (row,) = table.rows(records)
    assert (row.runs, row.diverged, row.test_error) == (1, 1, declared(records[0]))
    assert "1 (+1 diverged)" in table.to_markdown([row])
    assert table.rows([make_record(scoring=False)]) == []
    (row,) = table.rows([empty])
    assert (row.runs, row.diverged, row.test_error, row.spread) == (0, 1, None, None)


def test_benchmarks_without_a_record_are_not_run_and_keep_their_place() -> None:
    found = table.rows([make_record(benchmark="z"), make_record(benchmark="a")], [UNRUN, NO_TARGET])
    assert [row.benchmark for row in found] == ["binarynet-svhn", "memorization", "a", "z"]
    assert [row.verdict for row in found[:2]] == ["not run", "not run"]
    text = rendered(found)
    assert "2.80 (2nd)" in text
    assert "2.80 (2nd)" in table.to_markdown(found)
    assert "memorization" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["reproduced"], "reproduced (provisional)"),
        (["reproduced", "reproduced"], "reproduced (provisional)"),
        (["reproduced", "not reproduced", "reproduced"], "1 not reproduced, 2 reproduced (provisional)"),
        (["no published target"], "no published target"),
    ],
)
def test_verdicts_of_several_runs(words: list[str], text: str) -> None:
    (row,) = table.rows([judged(make_record(seed), word) for seed, word in enumerate(words)])
    assert row.verdict == text


def test_a_verdict_that_is_not_provisional_says_so_by_silence() -> None:
    (row,) = table.rows([judged(make_record(), "reproduced", provisional=False)])
    assert row.verdict == "reproduced"


def test_decimals_are_one_more_than_the_papers() -> None:
    target = Target(test_error=11.4, decimals=1, test_images=400, source="paper", kind="mem")
    (row,) = table.rows([make_record(target=target)])
    cells = table.to_markdown([row]).splitlines()[2].split(" | ")
    assert cells[3] == "11.4 (mem)"
    assert cells[4].startswith("11.50 ± ")
    assert table.percent_text(1.15, 3) == "1.150"
    assert table.percent_text(None, 3) == "-"


def test_csv_reads_back_and_is_the_same_bytes_in_any_order_of_seeds(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for seed in (7, 2, 9, 0, 4, 1, 8, 3, 6, 5):
        registry.write(make_record(seed, benchmark="ab"[seed % 2]), root)
    table.write_csv(root, tmp_path / "table.csv")
    first = (tmp_path / "table.csv").read_bytes()
    table.write_csv(root, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == first
    frame = pd.read_csv(io.BytesIO(first), keep_default_na=False)
    assert frame.benchmark.tolist() == ["a", "b"]
    assert frame.runs.tolist() == [5, 5]
    assert frame.target.tolist() == [1.15, 1.15]
    assert frame.target_kind.tolist() == ["read", "read"]
    assert b"\r" not in first


def test_an_empty_table_has_its_headings() -> None:
    assert table.to_csv([]).startswith("benchmark,paper,")
    assert table.to_markdown([]).startswith("| Benchmark |")
    assert json.loads(table.to_json([])) == []


def test_json_has_the_unrounded_numbers() -> None:
    record = make_record()
    (row,) = json.loads(table.to_json(table.rows([record])))
    assert row["test_error"] == declared(record)
    assert row["spread"] == record.verdict.standard_error


def test_no_form_is_broken_by_a_name() -> None:
    odd = table.Benchmark(id="odd", paper="a|b [red]", data="d", target=None)
    found = table.rows([], [odd])
    assert "a|b [red]" in rendered(found)
    assert "a|b [red]" in table.to_columns(found)
    assert "a\\|b [red]" in table.to_markdown(found)


def test_replace_section_replaces_what_is_between_the_markers_only() -> None:
    text = f"# Title\n\n{table.BEGIN}\nold\n{table.END}\n\nafter\n"
    replaced = table.replace_section(text, "| new |\n")
    assert replaced == f"# Title\n\n{table.BEGIN}\n| new |\n{table.END}\n\nafter\n"
    assert table.replace_section(replaced, "| new |\n") == replaced


@pytest.mark.parametrize("text", ["", table.BEGIN, table.END + table.BEGIN, (table.BEGIN + table.END) * 2])
def test_replace_section_needs_the_two_markers(text: str) -> None:
    with pytest.raises(RegistryError, match="results:begin"):
        table.replace_section(text, "x")


def test_a_benchmark_without_a_target_shows_its_training_error() -> None:
    records = [make_record(seed, evaluates=True) for seed in (1, 2)]
    (row,) = table.rows(records)
    assert row.verdict == "no published target"
    mean = sum(r.curve.train_error[r.results.declared.epoch - 1] for r in records) / 2
    assert row.train_error == mean
    assert f", training {mean:.3f}" in table.to_markdown([row])
    assert f",{mean:.3f}\n" in table.to_csv([row])
    assert table.rows([make_record()])[0].train_error is None
