"""Every file of the site, and how they are written.

    files = site(board, table)      # path within the site -> bytes; the same leaderboard gives the same bytes
    write_site(files, Path("out"))

Whatever comes from a record is text to Jinja2, which escapes it; a page's Content-Security-Policy allows no source but
its own style and script, by their hashes, and images that stand in the page.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import msgspec
from markdown_it import MarkdownIt

from results.errors import RegistryFileError
from results.files import write_atomically
from results.views.html import badge, charts, curves, feed, numbers
from results.views.html.svg import element
from results.views.leaderboard import TIERS, Leaderboard

_TEMPLATES = Path(__file__).parent / "templates"
MARK = "leaderboard-site.txt"  # a folder that has it is one of ours, which a new site may take the place of
_MARK_TEXT = "Written by `python cli.py export --html`: the next one deletes what it no longer has.\n"
_LINK = re.compile(r'(href|src)="(?!https://)[^"]*"')


def site(board: Leaderboard, table: str) -> dict[str, bytes]:
    """The files by path: pages, data, feed and badges. table: the results table as CSV."""
    environment, shared = _environment(), _shared(board)
    by_id = {benchmark.id: benchmark for benchmark in board.benchmarks}
    papers = {paper.slug: paper for paper in board.papers}
    known = {run.id: run for run in board.runs}
    files: dict[str, bytes] = {}

    def page(path: str, template: str, **values: Any) -> None:
        root = "../" * path.count("/")
        text = environment.get_template(template).render(shared | {"path": path, "root": root} | values)
        files[path] = text.encode()

    tiers = list(TIERS)
    page("index.html", "index.html", rows=sorted(board.benchmarks, key=lambda b: -tiers.index(b.tier)))
    for benchmark in board.benchmarks:
        page(
            f"benchmark/{benchmark.id}.html", "benchmark.html", b=benchmark, paper=papers[benchmark.paper],
            curves=curves.draw(board.curves[benchmark.id], known), wide=charts.axis(benchmark, wide=True),
        )  # fmt: skip
        files[f"badge/{benchmark.id}.svg"] = badge.draw(benchmark).encode()
    for run in board.runs:
        page(f"record/{run.id}.html", "record.html", run=run, b=by_id.get(run.benchmark))
        files[f"record/{run.id}.json"] = board.files[run.id]
    for paper in board.papers:
        page(f"paper/{paper.slug}.html", "paper.html", paper=paper, story=_story(paper.story),
             benchmarks=[by_id[name] for name in paper.benchmarks])  # fmt: skip
    page("plots.html", "plots.html", plots=charts.scatters(board.benchmarks))
    page("changes.html", "changes.html")
    files["results.json"] = msgspec.json.format(msgspec.json.encode(board.to_builtins()), indent=1) + b"\n"
    files["results.csv"] = table.encode()
    files["feed.xml"] = feed.atom(board).encode()
    pages = sorted(path for path in files if path.endswith(".html"))
    page("sitemap.html", "sitemap.html", pages=[*pages, "sitemap.html"])
    files["sitemap.txt"] = "".join(f"{path}\n" for path in sorted([*pages, "sitemap.html"])).encode()
    files[MARK] = _MARK_TEXT.encode()
    return files


def write_site(files: Mapping[str, bytes], out: Path) -> None:
    """Write the files of a site into a folder; of an earlier site there, delete what is no longer part of it.

    Raises RegistryFileError if the folder holds anything but a site, or cannot be written to.
    """
    there = sorted(out.iterdir()) if out.is_dir() else []
    if there and not (out / MARK).is_file():
        raise RegistryFileError(f"{out}: is not empty, and no site: expected an empty folder, a new one, or a site's")
    write_atomically(out / MARK, files[MARK])
    for path, data in files.items():
        target = out / path
        if not target.is_file() or target.read_bytes() != data:
            write_atomically(target, data)
    folders = {name.split("/")[0] for name in files if "/" in name}
    for old in sorted(path for folder in folders for path in (out / folder).iterdir()):
        if old.is_file() and old.relative_to(out).as_posix() not in files:
            old.unlink()


def _shared(board: Leaderboard) -> dict[str, Any]:
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    return {
        "board": board, "tiers": TIERS, "policy": policy, "style": _own(style),
        "script": _own(script), "axis": charts.axis,
        "papers": {paper.slug: paper for paper in board.papers}, "known": {run.id for run in board.runs},
    }  # fmt: skip


def _own(text: str) -> markupsafe.Markup:
    """Markup that this program has made: text of its own files, never of a record."""
    return markupsafe.Markup(text)  # noqa: S704


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {
        "percent": numbers.percent, "size": numbers.size, "count": numbers.count, "hours": numbers.hours,
        "code": code, "url": lambda text: urllib.parse.quote(text, safe="-._~/"),
    }  # fmt: skip
    return environment


def _story(text: str) -> markupsafe.Markup:
    """The catalog's README as HTML: its heading is the page's, its raw HTML is text, its links into the repository are
    text too, for a site does not know where that is."""
    body = text.partition("\n")[2] if text.startswith("# ") else text
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render(body)
    return _own(_LINK.sub("", rendered))


def code(text: str) -> markupsafe.Markup:
    """The text, what stands between backticks as code."""
    parts = (element("code", part) if number % 2 else part for number, part in enumerate(text.split("`")))
    return markupsafe.Markup("").join(map(markupsafe.escape, parts))
