"""Text from records as it is safe to print: a record may come from anybody, and its text is data, never a command.

One function a kind of output. Each leaves ordinary text as it is.
"""

from __future__ import annotations

import json
import re

# What Markdown or the HTML in it would read as markup; GitHub's tables split their cells at a bar.
_MARKUP = re.compile(r"([\\`*_\[\]|~])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


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


def for_json(text: str) -> str:
    """JSON with the same content, in which nothing but newlines controls a terminal."""
    return "\n".join(map(_escaped_json, text.split("\n")))


def _escaped_json(line: str) -> str:
    """What is not printable stands within a string, where an escape means the same."""
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)
