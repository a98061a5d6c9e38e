"""Text from records as it is safe to print: a record may come from anybody, and its text is data, never a command.

One function a kind of output. Each leaves ordinary text as it is.
"""

from __future__ import annotations

import json
import re
import unicodedata

# What Markdown or the HTML in it would read as markup; GitHub's tables split their cells at a bar.
_MARKUP = re.compile(r"([\\`*_\[\]|~])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

# What LaTeX would read as a command, or as the argument of one ("[" or "*" after a line's end), or show as another
# character in the fonts that it begins with.
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "`": r"{\char96}", "[": "{[}", "]": "{]}", "*": "{*}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
}  # fmt: skip
_LATEX_LIGATURE = re.compile(r"([-',])(?=\1)")  # "--" would be a dash, "''" and ",," quotation marks
_LATEX_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`", "\N{COMBINING ACUTE ACCENT}": "'", "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~", "\N{COMBINING DIAERESIS}": '"', "\N{COMBINING CEDILLA}": "c",
    "\N{COMBINING CARON}": "v",
}  # fmt: skip


def for_terminal(text: str) -> str:
    r"""The text in one line, with what is no printable character (ESC, newline, a reversing mark) as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def for_markdown(text: str) -> str:
    """The text as a cell of a table shows it: markup does nothing."""
    return _MARKUP.sub(r"\\\1", for_terminal(text)).translate(_ENTITIES)


def for_csv(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula: a formula gets an apostrophe before it."""
    printable = for_terminal(text)
    return f"'{printable}" if printable.startswith(("=", "+", "-", "@")) else printable


def for_latex(text: str) -> str:
    """The text as a cell of a LaTeX table shows it, in ASCII, for any engine and font encoding: no command works.

    Letters with the usual accents keep them; for any other character stands its number, as `U+4E2D`.
    """
    return _LATEX_LIGATURE.sub(r"\1{}", "".join(map(_latex_character, for_terminal(text))))


def _latex_character(char: str) -> str:
    if char.isascii() or char in _LATEX:
        return _LATEX.get(char, char)
    letter, accent = unicodedata.normalize("NFD", char)[:1], unicodedata.normalize("NFD", char)[1:]
    if letter.isascii() and accent in _LATEX_ACCENTS:
        return f"\\{_LATEX_ACCENTS[accent]}{{{letter}}}"
    return f"U+{ord(char):04X}"


def for_json(text: str) -> str:
    """JSON with the same content, in which nothing but newlines controls a terminal."""
    return "\n".join(map(_escaped_json, text.split("\n")))


def _escaped_json(line: str) -> str:
    """What is not printable stands within a string, where an escape means the same."""
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)
