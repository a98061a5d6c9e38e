"""The pages: their links lead somewhere, and the index has them all."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("benchmarks/catalog/*/*.md"),
    *ROOT.glob("*/README.md"),
]


def test_every_relative_link_leads_to_a_file():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#\s]+)", page.read_text())]
    assert len(links) > 20
    assert [(p.name, link) for p, link in links if "://" not in link and not (p.parent / link).exists()] == []


def test_the_index_has_every_page():
    listed = set(re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "index.md").read_text()))
    assert listed == {page.name for page in ROOT.glob("docs/*.md")} - {"index.md"}


def test_the_architecture_page_names_every_package():
    named = set(re.findall(r"`((?:\w+/)+)`", (ROOT / "docs" / "architecture.md").read_text().partition("## From")[0]))
    rooms = {f"{p.parent.relative_to(ROOT).as_posix()}/" for p in ROOT.glob("*/**/__init__.py")}
    assert named == {room for room in rooms if not room.startswith((".", "tests/"))}


def test_the_citation_has_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
