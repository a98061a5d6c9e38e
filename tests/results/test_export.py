"""The results table for papers and data frames: which rows and columns, LaTeX, Parquet."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import make_record
from test_table import rows

from results.escape import for_latex
from results.views.cells import HEADINGS, OTHER_HEADINGS
from results.views.csv import to_csv
from results.views.json import to_json
from results.views.latex import to_latex
from results.views.markdown import to_markdown
from results.views.parquet import to_parquet
from results.views.rows import Benchmark, Row
from results.views.selection import Filter, sort_rows

EVERY_SPECIAL = r"""\input{/etc/passwd} $x$ & # _ % ~ ^ <|> "q" `q` 'q' '' -- --- [1] *""" + " é Č ± ß 中 \x1b\n"


def some_rows() -> list[Row]:
    records = [make_record(seed, benchmark="b-two") for seed in (1, 2)] + [make_record(benchmark="a-one")]
    return rows(records, [Benchmark(id="c-none", paper=EVERY_SPECIAL, data="svhn", target=None)])


# -- which rows, which columns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter("runs", ">=", "1"), "a-one b-two"),
        (Filter("runs", "=", "1"), "a-one"),
        (Filter("runs", "!=", "1.0"), "c-none b-two"),
        (Filter("target", "=", ""), "c-none"),
        (Filter("target", "!=", ""), "a-one b-two"),
        (Filter("target", "<", "2"), "a-one b-two"),  # a row without a number is not less than another
        (Filter("target", "!=", "2"), "c-none a-one b-two"),
        (Filter("benchmark", "~", "-TWO"), "b-two"),
        (Filter("benchmark", "=", "-two"), ""),
        (Filter("date", ">", "2024"), "a-one b-two"),
    ],
)
def test_filters(wanted: Filter, names: str) -> None:
    wanted.check()
    assert " ".join(row.benchmark for row in some_rows() if wanted.fits(row)) == names


def test_a_mean_is_found_by_its_digits() -> None:
    row = some_rows()[0]._replace(test_error=0.1 + 0.2)
    fits = {sign for sign in ("=", "!=", "<", "<=", ">", ">=") if Filter("test_error", sign, "0.3").fits(row)}
    assert fits == {"=", "<=", ">="}


@pytest.mark.parametrize("wanted", [Filter("runs", "~", "1"), Filter("runs", "<", ""), Filter("target", "=", "nan")])
def test_a_number_is_compared_with_numbers(wanted: Filter) -> None:
    with pytest.raises(ValueError, match="is a number: expected one"):
        wanted.check()


def test_rows_without_a_value_are_last_in_either_order() -> None:
    table = some_rows()
    assert [row.benchmark for row in sort_rows(table, "runs")] == ["c-none", "a-one", "b-two"]
    assert [row.benchmark for row in sort_rows(table, "target", descending=True)] == ["a-one", "b-two", "c-none"]
    assert [row.benchmark for row in sort_rows(table, "benchmark", descending=True)] == ["c-none", "b-two", "a-one"]


def test_every_column_can_be_had_in_every_form() -> None:
    assert {*HEADINGS, *OTHER_HEADINGS} == set(Row._fields)
    table, columns = some_rows(), ("verdict", "decimals", "test_error", "notes")
    assert to_csv(table, columns).splitlines()[0] == ",".join(columns)
    assert list(json.loads(to_json(table, columns))[0]) == list(columns)
    assert to_markdown(table, columns=columns).startswith(
        "| Verdict | Decimals | Test error (%) | Notes |\n| --- | --: |"
    )
    assert "Verdict & Decimals & Test error" in to_latex(table, columns)


def test_what_has_no_column_stands_beside_what_it_belongs_to() -> None:
    row = some_rows()[2]._replace(
        train_error=0.5, notes="mixed code", diverged=1, precision="bfloat16", target_kind="mem"
    )
    text = to_markdown([row], columns=("target", "test_error", "runs", "verdict", "engine")).splitlines()[2]
    mean, deviation = f"{row.test_error:.3f}", f"{row.seed_deviation:.3f}"
    assert text.startswith(f"| 1.15 (mem) | {mean} ± {deviation}, training 0.500 | 2 (+1 diverged) | ")
    assert text.endswith("; mixed code | gluon cpu, bfloat16 |")
    apart = to_markdown([row], columns=("test_error", "seed_deviation", "train_error")).splitlines()[2]
    assert apart == f"| {mean} | {deviation} | 0.500 |"


# -- LaTeX -------------------------------------------------------------------------------------------------------------


def test_latex_says_mean_and_deviation() -> None:
    text = to_latex(some_rows()[2:])
    assert "\\begin{tabular}{llrrrl}\n\\toprule\nBenchmark & Data & Target (\\%) & Test error (\\%) & Runs" in text
    assert re.search(
        r"\nb-two & mnist & 1\.15 & \d+\.\d{3} \$\\pm\$ \d\.\d{3} & 2 & reproduced \(provisional\) \\\\\n", text
    )
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")


@given(st.text())
def test_no_character_of_a_text_is_a_command_of_latex(text: str) -> None:
    escaped = for_latex(text)
    assert escaped.isascii()
    assert escaped.replace("\n", "").isprintable()
    words = r"\\text(backslash|asciitilde|asciicircum|less|greater|bar)\{\}|\\char\d\d|\$\\pm\$"
    known = words + r"|\\[{}$&#_%]|\\[`'^~\"cv](?=\{)"
    assert not set(re.sub(known, "", escaped)) & set('\\$&#_%~^<>|"`')
    assert re.sub(r"\\[{}]", "", escaped).count("{") == re.sub(r"\\[{}]", "", escaped).count("}")
    assert not re.search(r"--|''|,,", escaped)


def test_ordinary_text_is_as_it_was_in_latex() -> None:
    assert for_latex("Efficient BNN, 1.06 (2nd): a-b; c.d/e") == "Efficient BNN, 1.06 (2nd): a-b; c.d/e"
    assert for_latex("Hub\N{LATIN SMALL LETTER A WITH ACUTE}, 中") == r"Hub\'{a}, U+4E2D"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_a_paper_takes_the_table_in(tmp_path: Path) -> None:
    """The whole of ASCII at the beginning of a row, where "[" or "*" would belong to the line's end before it."""
    odd = [some_rows()[0]._replace(paper=chr(code) + EVERY_SPECIAL) for code in range(32, 127)]
    (tmp_path / "table.tex").write_text(to_latex(odd, ("paper", "test_error", "notes")))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\usepackage[paperwidth=4in,paperheight=30in]{geometry}\n"
        "\\begin{document}\\input{table}\\end{document}\n"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "paper.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "1 page" in result.stdout


# -- Parquet -----------------------------------------------------------------------------------------------------------


def test_parquet_reads_back_with_types_and_is_the_same_bytes() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = some_rows()
    content = to_parquet(table)
    assert to_parquet(table) == content
    read = parquet.read_table(io.BytesIO(content))
    assert read.to_pylist() == [row._asdict() for row in table]
    types = {field.name: str(field.type) for field in read.schema}
    assert (types["runs"], types["target"], types["verdict"]) == ("int64", "double", "string")
    assert parquet.read_table(io.BytesIO(to_parquet([], ("runs",)))).num_rows == 0


def test_without_pyarrow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"`python -m pip install pyarrow==[\d.]+` installs it"):
        to_parquet([])
