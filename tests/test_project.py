"""The house as a whole: set-up, what may import what, and that nothing names the place where it was built."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
COMMANDS = sorted(path.stem for path in ROOT.glob("commands/*.py"))
HEAVY = {"mxnet", "gluoncv", "torch", "numba", "numpy", "pandas", "h5py", "tables", "scipy", "matplotlib"}

# -- set-up ------------------------------------------------------------------------------------------------------------


def readme_commands() -> list[str]:
    """The README's commands that set up everything by themselves."""
    return re.findall(r"^python3\.11 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_readme_has_three_commands_that_do_everything():
    tour, reproduce, tests = readme_commands()
    assert tour.endswith(" -r requirements.txt && .venv/bin/python cli.py tour")
    assert reproduce.endswith(" -e reproduce -- binaryconnect-mnist")
    assert tests.endswith(" -e tests")
    assert reproduce.partition(" -e ")[0] == tests.removesuffix(" -e tests")


def test_ci_runs_the_command_that_the_readme_names():
    *_, tests = readme_commands()
    ci = ROOT / ".ci" / "run"
    assert ci.read_text().splitlines()[-1] == tests
    assert os.access(ci, os.X_OK)
    subprocess.run(["bash", "-n", str(ci)], check=True)


def requirement_lines() -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return [line for line in lines if line]


def test_lock_pins_everything_and_names_no_place():
    lines = requirement_lines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    names = [line.partition("==")[0].lower().replace("_", "-") for line in lines]
    assert len(names) == len(set(names))


def test_lock_holds_what_its_packages_need():
    """Whatever a locked package requires is locked too, in a version that it accepts; of those that are installed."""
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in requirement_lines())}
    installed = [name for name in pins for found in metadata.distributions(name=name) if found.version == pins[name]]
    assert installed
    for need in (Requirement(text) for name in installed for text in metadata.requires(name) or []):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            assert need.specifier.contains(pins[canonicalize_name(need.name)]), need


def test_to_install_it_as_a_package_is_refused_with_what_to_do():
    """Its rooms, `results` and others, are too general names for site-packages."""
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["build-backend"]
    command = f"from {backend} import get_requires_for_build_wheel as build; build(None)"
    refused = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("error: this project is no package, it is run from its clone: `python -m pip")


def test_every_file_is_checked_out_with_the_bytes_that_were_committed():
    """Records are named by their bytes: git may turn no LF into CRLF, whatever core.autocrlf says."""
    files = ["cli.py", "README.md", "results/table.csv", "results/runs/a/b.json"]
    result = subprocess.run(
        ["git", "check-attr", "text", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        pytest.skip("not a git checkout")
    assert result.stdout.splitlines() == [f"{file}: text: unset" for file in files]


# -- nothing heavy before it is needed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["cli.py", "--help"],
        ["cli.py", "reproduce", "--help"],
        ["cli.py", "list"],
        ["cli.py", "list", "--json"],
        ["cli.py", "show", "binaryconnect-mnist"],
        ["-c", f"import {', '.join(ROOMS)}"],
        ["-c", f"import {', '.join(f'commands.{name}' for name in COMMANDS if name != '__init__')}"],
    ],
    ids=lambda command: " ".join(command)[:40],
)
def test_answers_at_once_import_nothing_heavy(command):
    assert {name.partition(".")[0] for name in imported_by(command)} & HEAVY == set()


def test_a_command_is_loaded_when_it_is_asked_for():
    code = "import sys, cli; cli.cli(['list'], standalone_mode=False); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name for name in result.stdout.splitlines()[-1].split() if name.startswith("commands.")}
    others = {"commands.filters", "commands.options", "commands.output", "commands.registry"}
    assert loaded == {"commands.list_benchmarks", *others}


def imported_by(command: list[str]) -> set[str]:
    """Names of all modules that a Python command imports."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = {
        line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")
    }
    assert "encodings" in imported  # or this did not read what Python prints
    return imported


# -- who may import what -----------------------------------------------------------------------------------------------


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, at its top or inside of functions, for types only or not."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where something comes from"
            names.add(node.module or "")
    return names


@functools.cache
def sources() -> list[tuple[str, str]]:
    """(file, top-level package that it imports), of all files that are not tests."""
    files = [ROOT / "cli.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    return [(path.relative_to(ROOT).as_posix(), name.partition(".")[0]) for path in files for name in imports(path)]


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("mxnet", r"bnn_gluon/.*"),
        ("gluoncv", r"bnn_gluon/.*"),
        ("numba", r"bnn_gluon/.*"),
        ("torch", r"bnn_torch/.*"),
        ("submitit", r"benchmarks/queue/slurm\w*\.py"),
        ("ray", r"benchmarks/queue/ray\w*\.py"),
        ("tables", r"data_prep/(storage|svhn)/.*"),
        ("h5py", r"data_prep/.*"),
        # An engine is opened by its name, through benchmarks.engine.
        ("bnn_gluon", r"bnn_gluon/.*"),
        ("bnn_torch", r"bnn_torch/.*"),
        # One direction: the command line -> benchmarks -> data and results; nobody reaches back.
        ("cli", r"-"),
        ("commands", r"cli\.py|commands/.*"),
        ("benchmarks", r"cli\.py|commands/.*|benchmarks/.*|bnn_\w+/.*"),
        ("data_prep", r"cli\.py|commands/.*|benchmarks/.*|data_prep/.*"),
        ("results", r"cli\.py|commands/.*|benchmarks/.*|results/.*"),
    ],
)
def test_only_one_room_imports(package, allowed):
    importers = {file for file, imported in sources() if imported == package}
    assert {file for file in importers if not re.fullmatch(allowed, file)} == set()


# -- nothing names the place where it was built ------------------------------------------------------------------------

# Put together, so that this file passes.
PLACES = ["/ro" + "ot/", "/wo" + "rk/", "../sha" + "red", "/opt/" + "pypi"]
# Holds such paths as examples of what no record may hold.
EXAMPLES = {"tests/results/test_checks.py"}


def test_no_file_names_a_place_of_its_author():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    files = {name for name in listing.stdout.decode().split("\0") if name} - EXAMPLES
    texts = {name: (ROOT / name).read_bytes() for name in sorted(files) if (ROOT / name).is_file()}
    found = [
        (name, place)
        for name, text in texts.items()
        for place in PLACES
        if b"\0" not in text and place.encode() in text
    ]
    assert found == []
