"""The results table: what counts, how it is written, and that the same records give the same bytes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pandas as pd
import pytest
from record_factory import make_record

from results import registry
from results.errors import RegistryError, RegistryFileError
from results.groups import key_of
from results.record import Record, RecordedTarget
from results.registered import Registration
from results.statistics import binomial_standard_error
from results.views.cells import HEADINGS, percent_text
from results.views.csv import check_csv, to_csv, write_csv
from results.views.json import to_json
from results.views.markdown import BEGIN, END, check_section, replace_section, to_markdown, write_section
from results.views.rows import Benchmark, Row
from results.views.rows import rows as view_rows
from results.views.text import to_columns, to_text

ROOT = Path(__file__).parents[2]
UNRUN = Benchmark(id="binarynet-svhn", paper="BinaryNet", data="svhn", target=2.8, decimals=2, kind="2nd")
NO_TARGET = Benchmark(id="memorization", paper="Memorization", data="cifar10", target=None)


def rendered(found: list[Row]) -> str:
    """The table on a wide terminal."""
    return to_text(found, 200)


class Judged(NamedTuple):
    """A verdict; what "reproduced" means is for benchmarks.verdict to say."""

    word: str = "reproduced"
    provisional: bool = True


def rows(records: Iterable[Record], benchmarks: Iterable[Benchmark] = ()) -> list[Row]:
    """As `results.views.rows.rows`, where every run reproduced."""
    return view_rows(records, lambda _: Judged(), benchmarks)


def declared(record: Record) -> float:
    assert record.results is not None
    return record.results.declared.test_error


def binomial(record: Record) -> float:
    assert record.results is not None
    return binomial_standard_error(record.results.counted.test_wrong, record.results.counted.test_images)


def test_one_run_shows_its_error_with_the_binomial_standard_error() -> None:
    record = make_record()
    (row,) = rows([record])
    assert row.runs == 1
    assert (row.test_error, row.seed_deviation) == (declared(record), None)
    assert row.binomial_error == pytest.approx(binomial(record))
    assert (row.verdict, row.engine, row.date) == ("reproduced (provisional)", "gluon cpu", "2024-05-02")
    assert f"| 1.15 | {declared(record):.3f} | - | {binomial(record):.3f} | 1 |" in to_markdown([row])


def test_errors_of_the_best_epoch_on_the_test_images_say_so_and_what_the_last_has() -> None:
    record = make_record()
    settings = record.recipe.settings | {"protocol": {"selection": "best_test"}}
    record = msgspec.structs.replace(record, recipe=msgspec.structs.replace(record.recipe, settings=settings))
    (row,) = rows([record])
    assert record.results is not None
    last = record.results.last.test_error
    assert row.notes == f"best epoch on the test images, as claimed: the last has {last:.3f}"
    assert f"; {row.notes} |" in to_markdown([row])


def test_several_runs_show_mean_and_standard_deviation() -> None:
    records = [make_record(seed) for seed in (1, 2, 3)]
    (row,) = rows(records)
    errors = [declared(record) for record in records]
    assert row.runs == 3
    assert row.test_error == pytest.approx(statistics.mean(errors))
    assert row.seed_deviation == pytest.approx(statistics.stdev(errors))


def test_the_same_run_again_is_not_a_second_measurement() -> None:
    (row,) = rows([make_record(sittings=1), make_record(sittings=2)])
    assert (row.runs, row.repetitions) == (1, 1)


def test_only_finished_scoring_runs_are_averaged_and_diverged_ones_are_told() -> None:
    empty = make_record(seed=9, epochs=0, sittings=1, outcome="diverged", recipe=make_record().recipe)
    records = [make_record(), make_record(2, scoring=False), make_record(3, outcome="killed"), empty]
    (row,) = rows(records)
    assert (row.runs, row.diverged, row.test_error) == (1, 1, declared(records[0]))
    assert "1 (+1 diverged)" in to_markdown([row])
    assert rows([make_record(scoring=False)]) == []
    (row,) = rows([empty])
    assert (row.runs, row.diverged, row.test_error) == (0, 1, None)
    assert row.seed_deviation is row.binomial_error is None


def test_benchmarks_without_a_record_are_not_run_and_keep_their_place() -> None:
    found = rows([make_record(benchmark="z"), make_record(benchmark="a")], [UNRUN, NO_TARGET])
    assert [row.benchmark for row in found] == ["binarynet-svhn", "memorization", "a", "z"]
    assert [row.verdict for row in found[:2]] == ["not run", "not run"]
    text = rendered(found)
    assert "2.80 (2nd)" in text
    assert "2.80 (2nd)" in to_markdown(found)
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
    records = [make_record(seed) for seed in range(len(words))]
    (row,) = view_rows(records, lambda record: Judged(words[record.seed]))
    assert row.verdict == text


def test_a_verdict_that_is_not_provisional_says_so_by_silence() -> None:
    (row,) = view_rows([make_record()], lambda _: Judged(provisional=False))
    assert row.verdict == "reproduced"


def test_decimals_are_one_more_than_the_papers() -> None:
    target = RecordedTarget(test_error=11.4, decimals=1, test_images=400, source="paper", kind="mem")
    (row,) = rows([make_record(target=target)])
    cells = to_markdown([row]).splitlines()[2].split(" | ")
    assert cells[3] == "11.4 (mem)"
    assert cells[4:6] == ["11.50", "-"]
    assert percent_text(1.15, 3) == "1.150"
    assert percent_text(None, 3) == "-"


def test_csv_reads_back_and_is_the_same_bytes_in_any_order_of_seeds(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for seed in (7, 2, 9, 0, 4, 1, 8, 3, 6, 5):
        registry.write(make_record(seed, benchmark="ab"[seed % 2]), root)
    path, found = tmp_path / "table.csv", rows(record for _, record in registry.read_all(root, pytest.fail))
    assert [problem.path for problem in check_csv(found, path)] == [path]
    write_csv(found, path)
    first = path.read_bytes()
    write_csv(found, path)
    assert path.read_bytes() == first
    assert check_csv(found, path) == []
    assert [problem.path for problem in check_csv(found[:1], path)] == [path]
    frame = pd.read_csv(io.BytesIO(first), keep_default_na=False)
    assert frame.benchmark.tolist() == ["a", "b"]
    assert frame.runs.tolist() == [5, 5]
    assert frame.target.tolist() == [1.15, 1.15]
    assert frame.target_kind.tolist() == ["read", "read"]
    assert b"\r" not in first


def test_an_empty_table_has_its_headings() -> None:
    assert to_csv([]).startswith("benchmark,paper,")
    assert to_markdown([]).startswith("| Benchmark |")
    assert json.loads(to_json([])) == []


def test_json_has_the_unrounded_numbers() -> None:
    record = make_record()
    (row,) = json.loads(to_json(rows([record])))
    assert row["test_error"] == declared(record)
    assert row["binomial_error"] == pytest.approx(binomial(record))


def test_no_form_is_broken_by_a_name() -> None:
    odd = Benchmark(id="odd", paper="a|b [red]", data="d", target=None)
    found = rows([], [odd])
    assert "a|b [red]" in rendered(found)
    assert "a|b [red]" in to_columns(found)
    assert "a\\|b \\[red\\]" in to_markdown(found)


def test_no_text_of_a_record_is_a_command() -> None:
    paper = "=1+1\x1b[2J\n| <script>alert(1)</script> `x` \x9b1m\u202e"
    found = rows([make_record(benchmark="odd", paper=paper)])
    for text in (rendered(found), to_columns(found), to_csv(found), to_json(found)):
        assert text.replace("\n", "").isprintable()
    assert r"=1+1\x1b[2J\n| <script>" in to_columns(found)
    assert r",'=1+1\x1b[2J\n| <script>" in to_csv(found)
    _, _, line, *_ = to_markdown(found).splitlines()
    assert r"| =1+1\\x1b\[2J\\n\| &lt;script&gt;alert(1)&lt;/script&gt; \`x\` \\x9b1m\\u202e |" in line
    assert json.loads(to_json(found))[0]["paper"] == paper


def test_replace_section_replaces_what_is_between_the_markers_only() -> None:
    text = f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    replaced = replace_section(text, "| new |\n")
    assert replaced == f"# Title\n\n{BEGIN}\n| new |\n{END}\n\nafter\n"
    assert replace_section(replaced, "| new |\n") == replaced


@pytest.mark.parametrize("text", ["", BEGIN, END + BEGIN, (BEGIN + END) * 2])
def test_replace_section_needs_the_two_markers(text: str) -> None:
    with pytest.raises(RegistryError, match="results:begin"):
        replace_section(text, "x")


def test_a_readme_keeps_its_line_ends_its_mode_and_is_still_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "real.md", tmp_path / "README.md"
    file.write_bytes(f"# Title é\r\n{BEGIN}\r\nold\r\n{END}\r\nafter\r\n".encode())
    file.chmod(0o640)
    link.symlink_to("real.md")
    found = rows([make_record()])
    assert [problem.path for problem in check_section(found, link)] == [link]
    write_section(link, to_markdown(found))
    content = file.read_bytes()
    assert content.startswith(f"# Title é\r\n{BEGIN}\r\n| Benchmark |".encode())
    assert content.endswith(f"\r\n{END}\r\nafter\r\n".encode())
    assert content.count(b"\n") == content.count(b"\r\n")
    assert (os.readlink(link), file.stat().st_mode & 0o777) == ("real.md", 0o640)
    assert check_section(found, link) == []
    assert sorted(os.listdir(tmp_path)) == ["README.md", "real.md"]


def test_a_readme_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(b"\xff")
    with pytest.raises(RegistryError, match=r"README\.md: expected text in UTF-8"):
        write_section(path, "x")
    assert [problem.message for problem in check_section([], path)] == [f"{path}: expected text in UTF-8"]
    with pytest.raises(RegistryFileError, match="cannot be read"):
        write_section(tmp_path / "absent.md", "x")


def test_a_benchmark_without_a_target_shows_its_training_error() -> None:
    records = [make_record(seed, evaluates=True) for seed in (1, 2)]
    (row,) = view_rows(records, lambda _: Judged("no published target"))
    assert row.verdict == "no published target"
    mean = sum(r.curve.train_error[r.results.declared.epoch - 1] for r in records) / 2
    assert row.train_error == mean
    assert f", training {mean:.3f}" in to_markdown([row])
    assert f",{mean:.3f},float32,0,\n" in to_csv([row])
    assert rows([make_record()])[0].train_error is None


# -- on a terminal -----------------------------------------------------------------------------------------------------


LONG_ID = "memorization-cifar10-stochastic-sigmoid"  # as long as any of the catalog
WORDS = ("reproduced (provisional); mixed code", "1 not reproduced, 2 reproduced (provisional)", "not run")


def table_of_all_kinds() -> list[Row]:
    of_first = Benchmark(id=LONG_ID, paper="Memorization", data="cifar10", target=10.64, decimals=2, kind="2nd")
    of_other = Benchmark(id="binarynet-svhn", paper="BinaryNet", data="svhn", target=2.8, decimals=2)
    third = Benchmark(id="memorization-svhn-l2", paper="Memorization", data="svhn", target=None)
    found = rows([make_record(1, benchmark=LONG_ID, evaluates=True)], [of_first, of_other, third])
    return [row._replace(verdict=word, notes="") for row, word in zip(found, WORDS, strict=True)]


@pytest.mark.parametrize("width", [80, 100, 120, 160, 300])
def test_a_terminal_shows_no_id_target_error_or_verdict_cut_short(width: int) -> None:
    found = table_of_all_kinds()
    text = to_text(found, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    for row in found:
        assert row.benchmark in words
        assert set(row.verdict.split()) <= set(words)
        assert row.target is None or f"{row.target:.2f}" in words
        assert row.test_error is None or any(word.startswith(f"{row.test_error:.3f}") for word in words)


def test_what_has_no_room_is_named_and_the_widest_table_has_it_all() -> None:
    found = table_of_all_kinds()
    at_80, at_120, wide = (to_text(found, width) for width in (80, 120, 300))
    note = "A wider terminal, or a file, also shows Binomial SE, Last run, SD seeds, Engine,\nRuns, Data.\n"
    assert at_80.endswith(f"\n\n{note}")
    assert "also shows Binomial SE" in at_120
    assert "also shows" not in wide
    assert all(heading in wide for heading in HEADINGS.values() if heading != "Paper")


def test_the_rows_of_a_paper_stand_below_its_name() -> None:
    lines = to_text(table_of_all_kinds(), 300).splitlines()
    first, other = lines.index("Memorization"), lines.index("BinaryNet")
    below = [line.split()[0] for line in lines[first + 1 : first + 3]]
    assert below == [LONG_ID, "memorization-svhn-l2"]
    assert lines[other + 1].startswith("binarynet-svhn ")
    assert to_text([], 80).startswith("Benchmark ")


def on_a_terminal(width: int, *arguments: str) -> list[str]:
    """The lines that a command prints to a terminal of this width."""
    terminal, inside = pty.openpty()
    command, environment = [sys.executable, str(ROOT / "cli.py"), *arguments], os.environ | {"COLUMNS": str(width)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=inside) as process:
        os.close(inside)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux tells that nobody has the other end any more
            while found := os.read(terminal, 65536):
                shown += found
    os.close(terminal)
    assert process.returncode == 0
    return shown.decode().replace("\r", "").splitlines()


def test_the_commands_know_the_width_of_the_terminal() -> None:
    lines = on_a_terminal(80, "list", "--data", "svhn")
    assert max(map(len, lines)) <= 80
    assert "BinaryConnect" in lines
    assert any(line.startswith("binaryconnect-svhn-deterministic ") and line.endswith("not run") for line in lines)


# -- registered groups -------------------------------------------------------------------------------------------------


def test_of_a_registered_group_the_row_is_its_own_runs_with_its_verdict() -> None:
    first, second, other = make_record(1), make_record(2), make_record(7)
    group = Registration(1, key_of(first), 1, "2024-01-01T00:00:00Z", None, (1, 2), (1, 2), {})

    def table(records: list[Record], group: Registration = group) -> Row:
        (row,) = view_rows(records, lambda _: Judged(), (), [group], lambda _, found: f"of {len(found.seeds)}")
        return row

    row = table([first, second, other])
    assert (row.runs, row.repetitions, row.verdict) == (2, 1, "of 2")
    assert row.test_error == pytest.approx(statistics.mean([declared(first), declared(second)]))
    later = group._replace(time="2025-01-01T00:00:00Z")
    row = table([first, second, other], later)  # none of its runs is there: what there was before is shown
    assert (row.runs, row.repetitions, row.verdict) == (3, 0, "reproduced (provisional)")


def test_a_row_of_the_readme_leads_to_its_records_and_to_the_catalog():
    found = rows([make_record()], [UNRUN])
    linked = to_markdown(found, {"binaryconnect-mnist": "benchmarks/catalog/binaryconnect/binaryconnect-mnist.yaml"})
    assert "| [binaryconnect-mnist](benchmarks/catalog/binaryconnect/binaryconnect-mnist.yaml) |" in linked
    assert "| [1](results/runs/binaryconnect-mnist) |" in linked
    assert "| binarynet-svhn |" in linked


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    table, readme = tmp_path / "table.csv", tmp_path / "README.md"
    for path in (table, readme):
        os.mkfifo(path)
    for problem, path in zip([*check_csv([], table), *check_section([], readme)], (table, readme), strict=True):
        assert (problem.path, "is no file" in problem.message) == (path, True)
    with pytest.raises(RegistryError, match="is no file"):
        write_csv([], table)
    with pytest.raises(RegistryError, match="is no file"):
        write_section(readme, "")
