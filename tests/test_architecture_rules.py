"""What keeps the house readable: short modules, short functions, no circles of imports, rooms in one direction."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60
# The rooms of benchmarks/ from the ground up: each imports those before it. A facade imports its own modules alone.
FLOORS = ["recipe", "machine", "engine", "verdict", "run", "leaderboard", "bench", "regress", "queue"]


@functools.cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name, tests left out."""
    files = [ROOT / "cli.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def imported(path: Path, *, at_import: bool) -> set[str]:
    """The modules of the house that a file imports: when it is imported itself, or ever; for types only never."""
    found: set[str] = set()

    def look(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                names = {f"{child.module}.{alias.name}" for alias in child.names}
                found.update(names & modules().keys() or {str(child.module)})
            look(child)

    look(ast.parse(path.read_bytes(), path))
    return found & modules().keys()


def test_no_module_is_long():
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_no_function_is_long():
    found = {
        f"{name}.{function.name}": length
        for name, path in modules().items()
        if ".kernels." not in name
        for function in functions(ast.parse(path.read_bytes(), path))
        if (length := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    }
    assert found == {}


def test_no_modules_import_each_other_in_a_circle():
    rest = {name: imported(path, at_import=True) - {name} for name, path in modules().items()}
    while leaves := [name for name, needs in rest.items() if not needs & rest.keys()]:
        for name in leaves:
            del rest[name]
    assert rest == {}


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_of_benchmarks_imports_those_below_it_alone(room):
    above = set(FLOORS[FLOORS.index(room) + 1 :])
    needed = {
        name.split(".")[1]
        for path in (ROOT / "benchmarks" / room).rglob("*.py")
        for name in imported(path, at_import=False)
        if name.startswith("benchmarks.")
    }
    assert needed & above == set()


def test_the_floors_are_all_rooms_of_benchmarks():
    rooms = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__init__.py")}
    assert rooms == set(FLOORS)
