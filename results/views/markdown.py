"""The results table in Markdown, and its section in the README."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from results.errors import RegistryError, RegistryFileError
from results.escape import for_markdown
from results.files import read_whole, write_atomically
from results.registry import Problem
from results.views.cells import HEADINGS, NOTE, NUMBERS, OTHER_HEADINGS, cells_of
from results.views.rows import Row

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def to_markdown(
    table: Sequence[Row],
    entries: Mapping[str, str] = MappingProxyType({}),
    columns: Sequence[str] = tuple(HEADINGS),
) -> str:
    """The table for the README, with a note on how to read it.

    Args:
        entries: of the benchmarks of the catalog the file that has every setting with its source, as the README would
            link it. Their rows link it, and the records that they are derived from.
    """
    headings = HEADINGS | OTHER_HEADINGS
    lines = [[headings[column] for column in columns], ["--:" if column in NUMBERS else "---" for column in columns]]
    lines += [_cells(row, entries.get(row.benchmark), columns) for row in table]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + f"\n\n{NOTE}\n"


def _cells(row: Row, entry: str | None, columns: Sequence[str]) -> list[str]:
    cells = {column: for_markdown(cell) for column, cell in cells_of(row, columns).items()}
    if entry is not None:  # a name of the catalog is no text of a record, and so it may be a part of a link
        links = {"benchmark": entry}
        if row.runs or row.diverged:
            links["runs"] = f"results/runs/{row.benchmark}"
        cells |= {column: f"[{cells[column]}]({link})" for column, link in links.items() if column in cells}
    return list(cells.values())


def replace_section(text: str, markdown: str) -> str:
    """The text with what stands between the two results markers replaced, with the line ends that it has.

    Raises RegistryError if each marker is not there exactly once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise RegistryError(f"no place for the results table: expected one line {BEGIN} and after it one line {END}")
    section = f"{BEGIN}\n{markdown.strip()}\n{END}"
    if "\r\n" in text:
        section = section.replace("\n", "\r\n")
    return f"{before}{section}{after}"


def write_section(path: Path, markdown: str) -> None:
    """`replace_section` in a file, which keeps its mode, and stays a link if it is one.

    A file that would not change is not touched. Raises RegistryError as `replace_section`, RegistryFileError if the
    file cannot be read or written.
    """
    text = _read_text(path)
    replaced = replace_section(text, markdown)
    if replaced != text:
        file = path.resolve()
        write_atomically(file, replaced.encode(), stat.S_IMODE(file.stat().st_mode))


def check_section(table: Sequence[Row], path: Path, entries: Mapping[str, str] = MappingProxyType({})) -> list[Problem]:
    """Whether the results in `path` (README.md) are this table; nothing where there is no such file."""
    if not path.exists():
        return []
    try:
        text = _read_text(path)
        wrong = replace_section(text, to_markdown(table, entries)) != text
    except RegistryError as error:
        return [Problem(path, "results", str(error))]
    mend = "does not follow from the records; `python cli.py table --write` mends it"
    return [Problem(path, "results", mend)] if wrong else []


def _read_text(path: Path) -> str:
    """The text of a file, its line ends as they are."""
    try:
        return read_whole(path).decode()
    except OSError as error:
        raise RegistryFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise RegistryError(f"{path}: expected text in UTF-8") from None
