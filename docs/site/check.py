"""Prove that a built site asks no other host for anything: python docs/site/check.py build/docs.

Links that a reader follows may lead anywhere. Whatever a browser loads by itself, scripts, styles, fonts and pictures,
must be of the site, and each page must have the browser refuse the rest, which covers what a script would ask for.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADED = {"src", "srcset", "data", "poster", "background"}
# Of <link> these only say where a page is; any other makes the browser load something.
HARMLESS = {"canonical", "prev", "next", "alternate", "license", "author"}
FOREIGN = re.compile(r"^\s*(https?:)?//|,\s*(https?:)?//", re.IGNORECASE)
FOREIGN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)


class Requests(HTMLParser):
    """What a page has the browser load from elsewhere, and whether the page forbids that."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.foreign: list[str] = FOREIGN_STYLE.findall(html)
        self.is_forbidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        loads = {name for name in values if name in LOADED}
        if tag == "link" and not set(values.get("rel", "").split()) <= HARMLESS:
            loads.add("href")
        self.foreign += [values[name] for name in loads if FOREIGN.search(values.get(name, ""))]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.is_forbidden = "default-src 'self'" in values["content"] and "http" not in values["content"]


def problems(site: Path) -> list[str]:
    """All that is wrong with the site, a line each."""
    pages = {path: Requests(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    styles = {path: FOREIGN_STYLE.findall(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.css"))}
    found = [f"{path}: loads {url}" for path, page in pages.items() for url in page.foreign]
    found += [f"{path}: loads {url}" for path, urls in styles.items() for url in urls]
    found += [f"{path}: has no Content-Security-Policy" for path, page in pages.items() if not page.is_forbidden]
    return found if pages else [f"{site}: has no page"]


if __name__ == "__main__":
    lines = problems(Path(sys.argv[1]))
    print("\n".join(lines) or "nothing is loaded from another host")
    sys.exit(bool(lines))
