"""Text from records, made safe for each kind of output."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.escape import for_csv, for_json, for_markdown, for_terminal
from results.registry import Problem

EVIL = "\x1b]0;owned\x07\r\n<script>|`x` \x9b2J\u2028\u202e"


@given(st.text())
def test_a_terminal_gets_printable_characters_in_one_line(text: str) -> None:
    assert for_terminal(text).isprintable()
    assert for_terminal(for_terminal(text)) == for_terminal(text)
    assert (for_terminal(text) == text) == text.isprintable()


def test_problems_and_cells_show_what_would_command() -> None:
    shown = r"\x1b]0;owned\x07\r\n<script>|`x` \x9b2J\u2028\u202e"
    assert for_terminal(EVIL) == shown
    assert str(Problem("a.json", EVIL, EVIL)) == f"a.json: {shown}: {shown}"  # type: ignore[arg-type]
    assert for_markdown("<b>&`*[x](y)") == r"&lt;b&gt;&amp;\`\*\[x\](y)"
    assert for_markdown("Efficient BNN, 1.06 ± 0.10 (2nd)") == "Efficient BNN, 1.06 ± 0.10 (2nd)"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_a_spreadsheet_gets_no_formula(text: str) -> None:
    assert for_csv(text)[0] in "'\\"
    assert for_csv("a=1") == "a=1"


@given(st.dictionaries(st.text(), st.text()))
def test_json_says_the_same(content: dict[str, str]) -> None:
    text = for_json(json.dumps(content, indent=2, ensure_ascii=False))
    assert json.loads(text) == content
    assert text.replace("\n", "").isprintable()


@given(st.lists(st.text(), min_size=1))
def test_csv_has_a_line_a_row(cells: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(for_csv, cells))
    assert text.getvalue().count("\n") == 1
