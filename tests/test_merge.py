"""`merge`, `submit` and what git makes of two branches, as their users meet them: with real records and real git."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from results import registered
from results.views.markdown import BEGIN, END

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "results"
# Records stay for ever: three seeds of one group, and one with published weights.
FLOAT = [
    RESULTS / "runs" / "chawla-mlp-mnist-float" / f"{name}.json"
    for name in ("573cd6f024bf1322", "ad944925f69c3244", "dddfa8568b118ffb")
]
WITH_WEIGHTS = RESULTS / "runs" / "rwth-lenet5-mnist-binary" / "237fe4a5f6da1e2c.json"


def add(path: Path, results: Path) -> None:
    """Put a real record, and the weights published with it, into a folder of results."""
    for source in (path, RESULTS / "weights" / path.parent.name / f"{path.stem}.weights"):
        if source.exists():
            target = results / source.relative_to(RESULTS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


# -- merge -------------------------------------------------------------------------------------------------------------


def test_a_registry_is_brought_into_another(cli, tmp_path):
    there, here = tmp_path / "there", tmp_path / "registry"
    for path in (*FLOAT[:2], WITH_WEIGHTS):
        add(path, there)
    shutil.copytree(RESULTS / "registered", there / "registered")
    asked = cli("merge", str(there), "--dry-run")
    assert (asked.returncode, asked.stdout.count("would be added: ")) == (0, 3 + len(list(there.glob("registered/*"))))
    assert not here.exists()
    done = cli("merge", str(there))
    assert done.stdout == asked.stdout.replace("would be ", "")
    assert f"added: {WITH_WEIGHTS.parent.name}/{WITH_WEIGHTS.stem}: seed 1234, test error 0.830 %, with weights" in (
        done.stdout
    )
    assert "cli.py table --write` brings" in done.stderr
    again = cli("merge", str(there), "--json")
    found = json.loads(again.stdout)
    assert (again.returncode, found["added"], found["known"], found["refused"]) == (0, [], 3, [])
    assert cli("table", "--write").returncode == 0
    assert cli("verify").returncode == 0


def test_what_is_refused_is_one_line_each_and_the_rest_comes_in(cli, tmp_path):
    there = tmp_path / "there"
    for path in FLOAT[:2]:
        add(path, there)
    bad, good = (there / path.relative_to(RESULTS) for path in FLOAT[:2])
    bad.write_bytes(bad.read_bytes().replace(b'"paper":"', b'"paper":"x'))
    result = cli("merge", str(there))
    assert result.returncode == 7
    assert result.stdout.count("refused: ") == 1
    assert f"refused: {bad}: paper: was changed after the record was written" in result.stdout
    assert [path.name for path in tmp_path.glob("registry/runs/*/*")] == [good.name]
    for place in ("absent", str(tmp_path / "registry" / "runs" / "x.json")):
        refused = cli("merge", place)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"error: {place}: has no record and no registered group: expected a registry")


# -- two branches ------------------------------------------------------------------------------------------------------


def git(*arguments: str, cwd: Path) -> str:
    settings = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "merge.conflictStyle=merge"]
    result = subprocess.run(["git", *settings, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def project(tmp_path, cli):
    """A repository of git's with a table of one record, one registered group and no word of a second one."""
    project = tmp_path / "project"
    add(FLOAT[0], project / "results")
    shutil.copy(REPOSITORY / ".gitattributes", project)
    (project / "README.md").write_text(f"# A project\n\n{BEGIN}\n{END}\n\nProse.\n")
    root = project / "results" / "runs"
    registered.register(root, KEY, 1, None, time="2024-05-01T12:00:00Z")
    assert cli("table", "--write", "--registry", str(root)).returncode == 0
    git("init", "--quiet", "--initial-branch=main", cwd=project)
    commit(project)
    return project


KEY = next(
    group.key for group in registered.read(RESULTS / "runs", FLOAT[0].parent.name) if group.key.engine == "gluon"
)


def commit(project: Path) -> None:
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", "results", cwd=project)


def test_two_branches_that_add_runs_of_the_same_benchmark_merge_without_conflict(project, cli):
    """By plain `git merge`; what is derived is then mended by `table --write`."""
    root = project / "results" / "runs"
    for number, name in enumerate(("one", "other"), 1):
        git("switch", "--quiet", "--create", name, "main", cwd=project)
        add(FLOAT[number], project / "results")
        group = registered.register(root, KEY._replace(engine=name), 1, None, time=f"2024-05-0{4 - number}T12:00:00Z")
        registered.launched(root, group, number)
        registered.launched(root, registered.read(root, KEY.benchmark)[0], number)
        assert cli("table", "--write", "--registry", str(root)).returncode == 0
        assert cli("verify", "--registry", str(root)).returncode == 0
        commit(project)
    git("switch", "--quiet", "main", cwd=project)
    git("merge", "--quiet", "one", cwd=project)
    git("merge", "--quiet", "--no-edit", "other", cwd=project)
    assert git("status", "--porcelain", cwd=project) == ""

    found = {group.key.engine: list(group.last_event) for group in registered.read(root, KEY.benchmark)}
    assert found == {"gluon": [1, 2], "other": [2], "one": [1]}
    result = cli("verify", "--registry", str(root))
    assert (result.returncode, result.stdout.count("table --write` mends it")) == (7, 2)
    assert cli("table", "--write", "--registry", str(root)).returncode == 0
    result = cli("verify", "--registry", str(root))
    assert (result.returncode, result.stdout) == (0, "3 records, all valid\n")
    assert (project / "README.md").read_text().count("Prose.") == 1
