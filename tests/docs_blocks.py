"""The code of the pages: blocks between fences, the command lines in them, and commands within sentences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/catalog/*/*.md")),
    *sorted(ROOT.glob("*/README.md")),
]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """What stands between two fences. page: from the repository's folder. line: that of the text's first line."""

    page: str
    line: int
    language: str
    text: str

    @property
    def command_lines(self) -> list[str]:
        """The lines of a shell block, those that end in a backslash joined with the next, without comments."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [text for line in lines if (text := re.sub(r"(^|\s)#.*", "", line).strip())]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    return [Block(name, text[: found.start(2)].count("\n") + 1, *found.groups()) for found in _BLOCK.finditer(text)]


def spans(page: Path) -> list[str]:
    """The code within sentences, each on one line."""
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose)]
