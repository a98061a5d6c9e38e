"""Which code a run was made with: that of a commit, or a difference from it that has a digest."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks import provenance
from benchmarks.provenance import Code, code_version


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository of its own with one commit; git("add", ".") there."""

    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *name, *arguments], check=True, capture_output=True)

    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "runner.py").write_text("pass\n")
    (tmp_path / "README.md").write_text("one\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(provenance, "_REPOSITORY", tmp_path)
    return tmp_path


def test_a_clean_checkout_and_what_cannot_change_a_number(checkout):
    clean = code_version()
    assert len(clean.commit) == 40
    assert (clean.dirty, clean.diff_sha256) == (False, None)
    (checkout / "README.md").write_text("two\n")
    (checkout / "notes.txt").write_text("new\n")
    assert code_version() == clean


@pytest.mark.parametrize("name", ["benchmarks/runner.py", "benchmarks/mine.yaml", "new.py"])
def test_what_was_changed_or_is_new_has_a_digest_of_its_content(checkout, name):
    digests = set()
    for text in ("a = 1\n", "a = 2\n"):
        (checkout / name).write_text(text)
        code = code_version()
        assert code.dirty
        digests.add(code.diff_sha256)
    assert len(digests) == 2


def test_where_git_does_not_say_what_differs_nothing_is_claimed(checkout, monkeypatch):
    asked = provenance._git
    monkeypatch.setattr(provenance, "_git", lambda *a: None if a[0] == "diff" else asked(*a))
    assert code_version() == Code(None, False, None)
