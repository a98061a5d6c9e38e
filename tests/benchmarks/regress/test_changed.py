"""Which benchmarks a change can touch, in real git repositories."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.engine import ENGINES
from benchmarks.errors import CodeError
from benchmarks.paths import REPOSITORY
from benchmarks.recipe import benchmark_ids
from benchmarks.regress import changed
from benchmarks.regress.imports import modules, reached

# A small house with the names of this one: each module with the line that imports another.
HOUSE = {
    "cli.py": "",
    "commands/__init__.py": "",
    "commands/regress.py": "import benchmarks.leaderboard",
    "commands/tour.py": "import benchmarks.recipe",
    "benchmarks/__init__.py": "",
    "benchmarks/leaderboard.py": "import benchmarks.recipe",
    "benchmarks/recipe.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import benchmarks.leaderboard",
    "benchmarks/regress/__init__.py": "",
    "benchmarks/regress/suite.py": "def run():\n    from benchmarks import recipe",
    "benchmarks/regress/measure.py": "from benchmarks.engine.words import WORD",
    "benchmarks/engine/__init__.py": "",
    "benchmarks/engine/words.py": "WORD = 1",
    "bnn_gluon/__init__.py": "",
    "bnn_gluon/engine.py": "import results.statistics",
    "bnn_gluon/by_name.py": "",
    "bnn_torch/__init__.py": "",
    "bnn_torch/engine.py": "",
    "data_prep/__init__.py": "",
    "data_prep/fixtures/small.npz": "",
    "results/__init__.py": "",
    "results/statistics.py": "",
    "results/views.py": "",
    "results/table.csv": "",
    "tests/test_it.py": "import benchmarks.recipe",
    "docs/page.md": "",
    "docs/site/requirements.txt": "",
    "README.md": "",
    "LICENSE": "",
    ".github/workflows/ci.yml": "",
    ".gitattributes": "",
    ".gitignore": "ignored.py",
    "requirements.txt": "",
    "requirements-torch.txt": "",
    "tox.ini": "",
    "benchmarks/regress/references/gluon.json": "",
    "benchmarks/regress/references/history/gluon-1.json": "",
    "benchmarks/catalog/versions.csv": "",
    "benchmarks/catalog/one/README.md": "",
    "benchmarks/catalog/one/a.yaml": "id: a",
    "benchmarks/catalog/one/a-b.yaml": "id: a-b\nvariant_of: a  # of the paper",
    "benchmarks/catalog/two/a-b-c.yaml": 'id: a-b-c\nvariant_of: "a-b"',
    "benchmarks/catalog/two/d.yaml": "id: d\ntitle: variant_of a",
}
ALL, NONE = ["a", "a-b", "a-b-c", "d"], []


def git(folder: Path, *arguments: str) -> str:
    identity = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    environment = os.environ | identity | alone
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit."""
    folder = tmp_path_factory.mktemp("house")
    for name, text in HOUSE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def house(committed: Path) -> Path:
    git(committed, "reset", "-q", "--hard", "main")
    git(committed, "clean", "-q", "-d", "-f", "-x")
    return committed


@pytest.mark.parametrize(
    ("name", "engine", "expected"),
    [
        ("benchmarks/engine/words.py", "gluon", ALL),
        ("benchmarks/engine/__init__.py", "gluon", ALL),  # a package around an imported module is imported itself
        ("benchmarks/recipe.py", "torch", ALL),  # imported inside of a function
        ("benchmarks/leaderboard.py", "gluon", NONE),  # for types alone, and by the command for the registry
        ("cli.py", "gluon", ALL),
        ("commands/regress.py", "gluon", ALL),
        ("commands/tour.py", "gluon", NONE),
        ("bnn_gluon/engine.py", "gluon", ALL),
        ("bnn_gluon/engine.py", "torch", NONE),
        ("bnn_gluon/by_name.py", "gluon", ALL),
        ("bnn_torch/engine.py", "gluon", NONE),
        ("bnn_torch/engine.py", "torch", ALL),
        ("bnn_torch/engine.py", None, ALL),
        ("data_prep/fixtures/small.npz", "gluon", ALL),
        ("results/statistics.py", "gluon", ALL),
        ("results/statistics.py", "torch", NONE),
        ("results/views.py", "gluon", NONE),
        ("results/table.csv", "gluon", NONE),
        ("tests/test_it.py", "gluon", NONE),
        ("tests/new.py", "gluon", NONE),
        ("docs/page.md", "gluon", NONE),
        ("docs/site/requirements.txt", "gluon", NONE),
        ("README.md", "gluon", NONE),
        ("LICENSE", "gluon", NONE),
        (".github/workflows/ci.yml", "gluon", NONE),
        (".gitattributes", "gluon", ALL),
        ("requirements.txt", "torch", ALL),
        ("requirements-torch.txt", "gluon", ALL),
        ("tox.ini", "gluon", ALL),
        ("benchmarks/regress/references/gluon.json", "gluon", ALL),
        ("benchmarks/regress/references/gluon.json", "torch", NONE),
        ("benchmarks/regress/references/history/gluon-1.json", "gluon", NONE),
        ("benchmarks/catalog/versions.csv", "gluon", NONE),
        ("benchmarks/catalog/one/README.md", "gluon", NONE),
        ("benchmarks/catalog/one/a.yaml", "gluon", ["a", "a-b", "a-b-c"]),
        ("benchmarks/catalog/two/d.yaml", "gluon", ["d"]),
        ("nobody/knows.this", "gluon", ALL),
        ("benchmarks/table.json", "gluon", ALL),
    ],
)
def test_a_file_touches(house, name, engine, expected):
    (house / name).parent.mkdir(exist_ok=True)
    with (house / name).open("a") as file:
        file.write("# changed\n")
    found, left_out = changed.touched("HEAD", engine, house)
    assert found == expected
    assert left_out == {other: "the change since HEAD cannot touch it" for other in ALL if other not in expected}


def test_nothing_changed_touches_nothing(house):
    assert changed.touched("main", "gluon", house)[0] == NONE


@pytest.mark.parametrize("name", ["benchmarks/engine/words.py", "commands/tour.py"])
def test_a_module_that_is_gone_or_renamed_touches_all(house, name):
    git(house, "mv", name, "commands/other.py")
    assert changed.touched("HEAD", "gluon", house)[0] == ALL


def test_a_module_that_is_no_python_touches_all(house):
    (house / "commands/tour.py").write_text("")
    (house / "benchmarks/engine/words.py").write_text("def")
    assert changed.touched("HEAD", "gluon", house)[0] == ALL


def test_a_file_of_the_catalog_that_is_gone_touches_its_variants(house):
    (house / "benchmarks/catalog/one/a-b.yaml").unlink()
    assert changed.touched("HEAD", "gluon", house)[0] == ["a-b-c"]


@pytest.mark.parametrize("staged", [False, True])
def test_what_is_committed_staged_or_neither_belongs_to_the_change(house, staged):
    git(house, "checkout", "-q", "--detach")
    (house / "benchmarks/catalog/two/e f.yaml").write_text("id: e f\n")
    git(house, "add", "-A")
    git(house, "commit", "-q", "-m", "second")
    (house / "benchmarks/catalog/two/d.yaml").write_text("id: d\n")
    if staged:
        git(house, "add", "-A")
    assert changed.touched("main", "gluon", house)[0] == ["d", "e f"]


def test_code_that_git_ignores_belongs_to_the_change(house):
    (house / "bnn_gluon" / "ignored.py").write_text("")
    assert changed.touched("HEAD", "gluon", house)[0] == ALL


@pytest.mark.parametrize("rev", ["nope", "--output=x", "", "main:cli.py", "a\nb"])
def test_an_unknown_revision_is_refused_in_one_line(house, rev):
    with pytest.raises(changed.RevisionError) as refused:
        changed.touched(rev, "gluon", house)
    assert refused.value.exit_code == 2
    assert str(refused.value) == f"{rev!r} is no commit here: expected a commit, branch or tag; `git log` has them"
    assert git(house, "status", "--porcelain") == ""


def test_in_a_shallow_clone_the_refusal_says_how_to_get_the_rest(house, tmp_path):
    git(tmp_path, "clone", "-q", "--depth", "1", house.as_uri(), "clone")
    with pytest.raises(changed.RevisionError, match=r"expected .*; `git fetch --unshallow` brings"):
        changed.touched("HEAD~1", "gluon", tmp_path / "clone")


def test_a_copy_without_git_is_refused(tmp_path):
    (tmp_path / "benchmarks" / "catalog").mkdir(parents=True)
    with pytest.raises(
        CodeError, match=r"no commit is known: a copy without \.git, and so not what changed since main: use git clone"
    ):
        changed.touched("main", "gluon", tmp_path)


# -- this house --------------------------------------------------------------------------------------------------------

FILES = modules(REPOSITORY)
REACHED = {engine: reached([*changed.MEASURING, module], FILES) for engine, module in ENGINES.items()}


def test_what_computes_is_reached_and_what_prints_is_not():
    assert {"bnn_gluon.quantize", "benchmarks.run.protocol", "benchmarks.regress.budgets"} <= REACHED["gluon"]
    assert {"bnn_torch.quantize", "benchmarks.engine.updates", "results.statistics"} <= REACHED["torch"]
    others = {"commands.tour", "results.views.markdown", "benchmarks.queue.plan", "benchmarks.bench.measure"}
    assert others <= FILES.keys() - REACHED["gluon"]


def test_an_engine_does_not_import_the_other():
    assert not any(name.startswith("bnn_torch") for name in REACHED["gluon"])
    assert not any(name.startswith("bnn_gluon") for name in REACHED["torch"])


def test_what_is_imported_by_name_is_in_rooms_that_count_as_a_whole():
    """The graph cannot see it: of such modules all that is in their room touches all; of opening.py see ENGINES."""
    by_name = {
        name
        for name in REACHED["gluon"] | REACHED["torch"]
        if re.search("import_module|__import__", FILES[name].read_text())
    }
    rooms = {name.partition(".")[0] for name in by_name - {"benchmarks.engine.opening"}}
    assert rooms <= {"data_prep", "bnn_gluon", "bnn_torch"}


def test_every_name_of_the_catalog_is_known():
    assert sorted(changed.catalog_files(REPOSITORY / changed.CATALOG)) == benchmark_ids()
