"""Which code a run was made with: that of a commit, or what differs from it; in real checkouts of a small house."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.doctor import examine_provenance
from benchmarks.errors import CodeError
from benchmarks.queue import side_by_side
from benchmarks.run.provenance import (
    HANDED_ON,
    REPOSITORY,
    changed_files,
    check_unchanged,
    code_at_start,
    code_version,
    handed_on,
    name_files,
)

HOUSE = {
    "cli.py": "import benchmarks\n",
    "requirements.txt": "numpy==1.23.5\n",
    "benchmarks/__init__.py": "",
    "benchmarks/runner.py": "pass\n",
    "benchmarks/catalog/paper/one.yaml": "id: one\n",
    "benchmarks/catalog/paper/one.csv": "epoch,error\n",
    "data_prep/__init__.py": "",
    "data_prep/fixtures/small.npz": "a\r\nb",
    "results/__init__.py": "",
    "results/table.csv": "1\n",
    "results/runs/one/1.json": "{}",
    "tests/test_runner.py": "pass\n",
    "docs/conf.py": "pass\n",
    "README.md": "one\n",
}
COPY = "no commit is known: a copy without .git"


def git(folder, *arguments):
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def build(folder, *init):
    for name, text in HOUSE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    git(folder, "init", "-q", *init)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """A user without configuration of git, nor anything that another test has left."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("XDG_CONFIG_HOME", HANDED_ON, *(name for name in os.environ if name.startswith("GIT_"))):
        monkeypatch.delenv(variable, raising=False)
    code_at_start.cache_clear()
    yield
    code_at_start.cache_clear()


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "house").mkdir()
    return build(tmp_path / "house")


# -- what is code ------------------------------------------------------------------------------------------------------


def test_every_module_of_this_house_is_code_and_its_data_too():
    files = code_version().files
    modules = [*REPOSITORY.glob("*.py"), *(m for p in REPOSITORY.glob("*/__init__.py") for m in p.parent.rglob("*.py"))]
    folders = ("benchmarks/catalog/**/*.[cy]*", "benchmarks/queue/*.yaml", "data_prep/fixtures/*")
    data = [path for folder in folders for path in REPOSITORY.glob(folder)]
    locks = REPOSITORY.glob("requirements*.txt")
    names = {path.relative_to(REPOSITORY).as_posix() for path in (*modules, *data, *locks)}
    assert files.keys() == {name for name in names if "/." not in name}


def test_what_cannot_change_a_number_makes_no_difference(checkout):
    clean = code_version(checkout)
    assert (clean.commit, clean.dirty, clean.diff_sha256) == (git(checkout, "rev-parse", "HEAD"), False, None)
    for name in ("README.md", "tests/test_runner.py", "docs/conf.py", "results/table.csv"):
        (checkout / name).write_text("other\n")
    weights = checkout / "results" / "weights" / "one" / "1.weights"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"\x01")
    git(checkout, "add", "results/weights")
    for name in ("notes.txt", "script.sh", "benchmarks/.hidden.py", "benchmarks/__pycache__/a.pyc", "benchmarks/x.py~"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("new\n")
    (checkout / "scratch").mkdir()
    (checkout / "scratch" / "of_no_package.py").write_text("new\n")
    (checkout / "cli.py").chmod(0o755)
    assert code_version(checkout) == clean


@pytest.mark.parametrize(
    "name",
    [
        "cli.py", "new.py", "numpy/__init__.py", "requirements.txt", "requirements-torch.txt",
        "benchmarks/runner.py", "benchmarks/deep/er/mine.py", "benchmarks/runner.so",
        "benchmarks/catalog/paper/one.yaml", "benchmarks/catalog/mine/two.yaml", "benchmarks/catalog/paper/one.csv",
        "data_prep/fixtures/small.npz",
        "results/mean.py",
    ],
)  # fmt: skip
def test_what_was_changed_or_is_new_has_a_digest_of_its_content(checkout, name):
    digests = set()
    for text in ("a = 1\n", "a = 2\n"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
        code = code_version(checkout)
        line = f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n"
        assert (code.dirty, code.changed) == (True, (name,))
        assert code.diff_sha256 == hashlib.sha256(line.encode()).hexdigest()
        digests.add(code.diff_sha256)
    assert len(digests) == 2


def test_files_that_are_gone_count(checkout):
    shutil.rmtree(checkout / "data_prep")
    (checkout / "benchmarks" / "__init__.py").unlink()  # still a package: the commit has it
    code = code_version(checkout)
    names = ("benchmarks/__init__.py", "data_prep/__init__.py", "data_prep/fixtures/small.npz")
    assert code.changed == names
    lines = "".join(f"deleted  {name}\n" for name in names)
    assert code.diff_sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_the_files_that_differ_can_be_kept(checkout):
    (checkout / "benchmarks" / "runner.py").write_text("changed\n")
    (checkout / "benchmarks" / "new.py").write_text("new\n")
    (checkout / "data_prep" / "__init__.py").unlink()
    archive = changed_files(code_version(checkout), checkout)
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        found = {name: files.read(name) for name in files.namelist()}
    assert found == {
        "benchmarks/runner.py": b"changed\n",
        "benchmarks/new.py": b"new\n",
        "deleted.txt": b"data_prep/__init__.py\n",
    }
    assert changed_files(code_version(checkout), checkout) == archive


def test_links_count_as_what_they_lead_to(checkout, tmp_path):
    clean = code_version(checkout)
    runner = checkout / "benchmarks" / "runner.py"
    runner.rename(tmp_path / "elsewhere.py")
    runner.symlink_to(tmp_path / "elsewhere.py")
    (checkout / "benchmarks" / ".#runner.py").symlink_to("user@host.1234:5678")  # what Emacs makes
    (checkout / "benchmarks" / "nowhere.py").symlink_to("nothing")
    (checkout / "benchmarks" / "loop.py").symlink_to("loop.py")
    (checkout / "benchmarks" / "above").symlink_to("..")
    (checkout / "benchmarks" / "folder.py").mkdir()
    names = code_version(checkout).changed
    assert "benchmarks/above/cli.py" in names
    assert not any(name.startswith("benchmarks/above/benchmarks/") for name in names)  # once around is enough
    (checkout / "benchmarks" / "above").unlink()
    assert code_version(checkout) == clean
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "two.yaml").write_text("id: two\n")
    (checkout / "benchmarks" / "catalog" / "mine").symlink_to(tmp_path / "mine")
    assert code_version(checkout).changed == ("benchmarks/catalog/mine/two.yaml",)


def test_names_that_are_no_text(checkout):
    for name in (b"benchmarks/\xff.py", b"benchmarks/\xfe.py", b"benchmarks/a\nb.py"):
        Path(os.fsdecode(os.fsencode(checkout) + b"/" + name)).write_text("new\n")
    code = code_version(checkout)
    content = hashlib.sha256(b"new\n").hexdigest().encode()
    names = [b"benchmarks/a\nb.py", b"benchmarks/\xfe.py", b"benchmarks/\xff.py"]
    assert code.diff_sha256 == hashlib.sha256(b"".join(content + b"  " + name + b"\n" for name in names)).hexdigest()
    assert name_files(code.changed, 2) == "benchmarks/a\\nb.py, benchmarks/\\udcfe.py and 1 more"
    assert json.loads(handed_on(checkout)[HANDED_ON]).keys() == code.files.keys()


def test_what_cannot_be_read_is_one_line(checkout):
    path = checkout / "benchmarks" / "new.py"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(CodeError, match=r"new\.py cannot be read \(.+: make it readable \(`chmod u\+rX /") as caught:
        code_version(checkout)
    assert "\n" not in str(caught.value)
    finding = examine_provenance(checkout)
    assert (finding.status, finding.detail) == ("fail", str(caught.value))


# -- whatever git is told ----------------------------------------------------------------------------------------------


def test_no_setting_of_git_changes_what_is_found(checkout, tmp_path, monkeypatch):
    (checkout / "benchmarks" / "runner.py").write_text("changed\n")
    (checkout / "new.py").write_text("new\n")
    (checkout / "benchmarks" / "catalog" / "paper" / "one.yaml").unlink()
    expected = code_version(checkout)
    assert expected.changed == ("benchmarks/catalog/paper/one.yaml", "benchmarks/runner.py", "new.py")

    git(checkout, "update-index", "--assume-unchanged", "benchmarks/runner.py")
    git(checkout, "update-index", "--skip-worktree", "benchmarks/catalog/paper/one.yaml")
    (checkout / ".git" / "info" / "exclude").write_text("*\n")
    (checkout / ".git" / "info" / "attributes").write_text("*.py diff=other filter=other\n")
    for name, value in {
        "diff.context": "0", "diff.noprefix": "true", "diff.external": "true", "diff.other.textconv": "true",
        "filter.other.clean": "true", "core.quotePath": "false", "core.abbrev": "5", "core.ignoreStat": "true",
    }.items():  # fmt: skip
        git(checkout, "config", name, value)
    git_of_host = build_host(tmp_path) / ".git"
    (tmp_path / "home" / ".gitconfig").write_text("[this is no configuration\n")
    for variable, value in {
        "GIT_DIR": git_of_host, "GIT_WORK_TREE": tmp_path / "host", "GIT_INDEX_FILE": tmp_path / "none",
        "GIT_EXTERNAL_DIFF": "true", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.worktree",
        "GIT_CONFIG_VALUE_0": tmp_path, "GIT_CEILING_DIRECTORIES": tmp_path, "GIT_TRACE": "1", "LANGUAGE": "de",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, str(value))
    assert code_version(checkout) == expected


def test_a_commit_that_stands_in_for_another_is_not_taken(checkout):
    expected = code_version(checkout)
    (checkout / "cli.py").write_text("other\n")
    other = git(checkout, "commit-tree", "-m", "other", git(checkout, "stash", "create") + "^{tree}")
    git(checkout, "replace", expected.commit, other)
    assert code_version(checkout).changed == ("cli.py",)


def test_ends_of_lines_make_no_difference(checkout, tmp_path):
    git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", str(checkout), "crlf")
    crlf = tmp_path / "crlf"
    assert (crlf / "cli.py").read_bytes() == b"import benchmarks\r\n"
    assert code_version(crlf) == code_version(checkout)
    (checkout / "cli.py").write_bytes(b"a\nb\n")
    (crlf / "cli.py").write_bytes(b"a\r\nb\r\n")
    assert code_version(crlf) == code_version(checkout)
    (crlf / "data_prep" / "fixtures" / "small.npz").write_bytes(b"a\nb")  # no text: every byte counts
    assert code_version(crlf).changed == ("cli.py", "data_prep/fixtures/small.npz")


# -- which repository --------------------------------------------------------------------------------------------------


def build_host(tmp_path):
    """A repository of something else."""
    host = tmp_path / "host"
    host.mkdir()
    git(host, "init", "-q")
    git(host, "commit", "-q", "--allow-empty", "-m", "x")
    return host


@pytest.mark.parametrize("state", ["ignored", "committed", "GIT_DIR", "empty .git"])
def test_a_copy_inside_of_another_repository_has_no_commit(checkout, tmp_path, monkeypatch, state):
    host = build_host(tmp_path)
    copy = host / "house-main"
    copy.mkdir()
    subprocess.run(["tar", "x", "-C", copy], input=git_archive(checkout), check=True)
    note = COPY
    if state == "ignored":
        (host / ".gitignore").write_text("house-main/\n")
    elif state == "committed":
        git(host, "add", ".")
        git(host, "commit", "-qm", "vendored")
    elif state == "GIT_DIR":
        monkeypatch.setenv("GIT_DIR", str(host / ".git"))
    else:
        (copy / ".git").mkdir()
        note = "no commit is known: git says: fatal: not a git repository"
    code = code_version(copy)
    assert (code.commit, code.dirty, code.diff_sha256) == (None, False, None)
    assert code.note.startswith(note)
    assert code.files == code_version(checkout).files
    finding = examine_provenance(copy)
    assert (finding.status, finding.mend) == ("warn", "use git clone" if note == COPY else None)
    assert finding.detail == f"{code.note}: records cannot say which code made them"


def git_archive(checkout):
    return subprocess.run(["git", "-C", checkout, "archive", "HEAD"], check=True, capture_output=True).stdout


def test_a_folder_of_a_checkout_is_not_the_checkout(checkout):
    git(checkout, "config", "core.worktree", str(checkout.parent))
    assert "git takes this folder for one of another checkout" in code_version(checkout).note


def test_a_checkout_of_another_user_is_named_with_what_helps(checkout, tmp_path, monkeypatch):
    expected, real = code_version(checkout), shutil.which("git")
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "git"
    # What git's own tests set to have every file belong to somebody else.
    wrapper.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    finding = examine_provenance(checkout)
    assert finding.status == "warn"
    assert "git does not trust this checkout, which is another user's" in finding.detail
    assert finding.mend == f"git config --global --add safe.directory {checkout}"
    subprocess.run(finding.mend, shell=True, check=True)  # noqa: S602 - as a user types it
    assert code_version(checkout) == expected


def test_without_git_it_is_said(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    finding = examine_provenance(checkout)
    assert finding.detail.startswith("no commit is known: git is not installed")
    assert (finding.status, finding.mend) == ("warn", "apt-get install git")


def test_a_repository_without_a_commit_is_told_in_the_words_of_git(tmp_path):
    git(tmp_path, "init", "-q", "new")
    code = code_version(tmp_path / "new")
    assert code.commit is None
    assert code.note.startswith("no commit is known: git says: fatal: ambiguous argument 'HEAD'")


@pytest.mark.parametrize("kind", ["worktree", "submodule", "shallow", "link"])
def test_other_kinds_of_checkouts(checkout, tmp_path, kind):
    other, expected = tmp_path / "other", code_version(checkout)
    if kind == "worktree":
        git(checkout, "worktree", "add", "-q", "--detach", str(other))
    elif kind == "submodule":
        other = build_host(tmp_path) / "house"
        git(other.parent, "submodule", "--quiet", "add", str(checkout), "house")
    elif kind == "shallow":
        git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", "other")
    else:
        other.symlink_to(checkout)
    assert code_version(other) == expected
    (other / "cli.py").write_text("changed\n")
    assert code_version(other).changed == ("cli.py",)


def test_what_a_sparse_checkout_leaves_out_is_gone(checkout):
    expected = code_version(checkout)
    git(checkout, "sparse-checkout", "set", "benchmarks", "data_prep", "results")
    assert code_version(checkout) == expected
    git(checkout, "sparse-checkout", "set", "benchmarks", "results")
    assert code_version(checkout).changed == ("data_prep/__init__.py", "data_prep/fixtures/small.npz")


def test_a_repository_of_sha256_has_the_same_difference(checkout, tmp_path):
    (tmp_path / "other").mkdir()
    other = build(tmp_path / "other", "--object-format=sha256")
    assert not code_version(other).dirty
    for folder in (checkout, other):
        (folder / "cli.py").write_text("changed\n")
    assert replace(code_version(other), commit=code_version(checkout).commit) == code_version(checkout)


def test_doctor_names_what_has_changed(checkout):
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert examine_provenance(checkout).detail == f"commit {commit}"
    (checkout / "cli.py").write_text("changed\n")
    assert examine_provenance(checkout).detail == f"commit {commit}, changed since: cli.py: records will say so"


# -- one code for all that a command starts ----------------------------------------------------------------------------


def test_code_that_changes_while_it_is_loaded_is_refused(checkout, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cli.py", "reproduce", "one", "--set", "a=b c"])
    start = code_at_start(checkout)
    (checkout / "README.md").write_text("two\n")
    git(checkout, "commit", "-qam", "no code")
    check_unchanged(checkout)
    (checkout / "cli.py").write_text("changed\n")
    with pytest.raises(CodeError, match=r"began \(cli\.py\): .*: python cli\.py reproduce one --set 'a=b c'$"):
        check_unchanged(checkout)
    assert code_at_start(checkout) == start


def test_a_command_has_the_code_of_the_one_that_started_it(checkout, monkeypatch):
    monkeypatch.setenv(HANDED_ON, handed_on(checkout)[HANDED_ON])
    code_at_start.cache_clear()
    assert code_at_start(checkout) == code_version(checkout)
    code_at_start.cache_clear()
    (checkout / "new.py").write_text("new\n")
    (checkout / "cli.py").unlink()
    with pytest.raises(CodeError, match=r"the code has changed since the command began \(cli\.py, new\.py\)"):
        code_at_start(checkout)


def test_commands_are_given_the_code_of_now(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(f"import os\nprint(os.environ['{HANDED_ON}'])\n")
    monkeypatch.setattr(side_by_side, "CLI", script)
    (ended,) = side_by_side.carry_out({"one": []}, 1, "cpu", capture=True)
    assert ended.output.strip() == handed_on()[HANDED_ON]


def test_a_run_with_other_code_is_not_begun(process_cli, tmp_path):
    files = json.loads(handed_on()[HANDED_ON]) | {"cli.py": "0" * 16}
    arguments = ("reproduce", "binaryconnect-mnist", "--epochs", "1")
    result = process_cli(*arguments, **{HANDED_ON: json.dumps(files)})
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: the code has changed since the command began (cli.py): nothing was computed;")
    assert line.endswith(f"cli.py {' '.join(arguments)}")
    assert not (tmp_path / "runs").exists()
