"""What `tox -e docs` holds of the built site; mkdocs itself, with --strict, holds its links."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "docs" / "site"
POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'self' 'unsafe-inline' data: blob:">"""


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("docs_site_check", SITE / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://host/a.js"></script>',
        '<link rel="stylesheet" href="//host/a.css">',
        '<link rel="preconnect" href="https://fonts.host">',
        '<img src="a.png" srcset="a.png 1x, https://host/b.png 2x">',
        '<iframe src="http://host"></iframe>',
        '<p style="background: url(https://host/a.png)">',
        "<style>@import 'https://host/a.css'</style>",
    ],
)
def test_whatever_a_page_loads_from_another_host_is_found(check, tmp_path, html):
    (tmp_path / "page.html").write_text(f"<head>{POLICY}</head>{html}")
    (found,) = check.problems(tmp_path)
    assert found.startswith(f"{tmp_path / 'page.html'}: loads ")


def test_links_that_a_reader_follows_may_lead_anywhere(check, tmp_path):
    links = '<a href="https://host">there</a><link rel="canonical" href="https://host"><img src="data:image/png,"><p>http://host'
    (tmp_path / "page.html").write_text(f"<head>{POLICY}</head>{links}")
    assert check.problems(tmp_path) == []


def test_a_page_must_forbid_the_rest(check, tmp_path):
    (tmp_path / "page.html").write_text("<head></head>")
    (tmp_path / "style.css").write_text("@font-face { src: url('https://host/font.woff2') }")
    assert check.problems(tmp_path) == [
        f"{tmp_path / 'style.css'}: loads https://host/font.woff2",
        f"{tmp_path / 'page.html'}: has no Content-Security-Policy",
    ]
    assert check.problems(tmp_path / "absent") == [f"{tmp_path / 'absent'}: has no page"]


def test_what_the_site_shares_with_the_command_line_has_the_locks_version():
    """A package without a version in the site's list has that of the lock, and no other is without one."""
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)", (SITE.parents[1] / "requirements.txt").read_text(), re.MULTILINE))
    lines = re.findall(r"^([\w.-]+)(==\S+)?", (SITE / "requirements.txt").read_text(), re.MULTILINE)
    names = {name for name, pin in lines if not pin and not name.startswith("-")}
    assert {"click", "msgspec", "PyYAML", "rich"} <= names <= lock.keys()
