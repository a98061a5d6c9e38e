"""The pages: their links lead somewhere, and the index has them all."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from docs_blocks import PAGES, ROOT


def test_every_relative_link_leads_to_a_file():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#\s]+)", _without_code(page))]
    assert len(links) > 20
    assert [(p.name, link) for p, link in links if "://" not in link and not (p.parent / link).exists()] == []


def _without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_anchor_is_a_heading():
    links = [(page, *link) for page in PAGES for link in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text())]
    inside = [
        (page, (page.parent / path) if path else page, anchor) for page, path, anchor in links if "://" not in path
    ]
    assert len(inside) > 20
    assert [(page.name, anchor) for page, target, anchor in inside if anchor not in anchors(target)] == []


def test_the_index_has_every_page():
    listed = re.findall(r"^- \[[\w./-]+\]\(([^)]+)\): ", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    pages = {page.name for suffix in ("md", "ipynb") for page in ROOT.glob(f"docs/*.{suffix}")} - {"index.md"}
    assert sorted(link for link in listed if not link.startswith("../")) == sorted(pages)


def test_the_architecture_page_names_every_package():
    named = set(re.findall(r"`((?:\w+/)+)`", (ROOT / "docs" / "architecture.md").read_text().partition("## From")[0]))
    rooms = {f"{p.parent.relative_to(ROOT).as_posix()}/" for p in ROOT.glob("*/**/__init__.py")}
    assert named == {room for room in rooms if not room.startswith((".", "tests/"))}


def test_the_citation_has_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version


@pytest.mark.parametrize("file", sorted(ROOT.glob(".github/**/*.yml")), ids=lambda path: path.name)
def test_the_hosts_files_are_yaml_with_what_they_need(file):
    content = yaml.safe_load(file.read_text())
    needed = {"name", "description", "body"} if "ISSUE_TEMPLATE" in file.parts else {"name", "jobs"}
    assert needed <= content.keys()


def test_pre_commit_has_the_versions_of_the_lock():
    (pinned,) = re.findall(r"^ruff==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["rev"] for repo in repos if "ruff" in repo["repo"]] == [f"v{pinned}"]
