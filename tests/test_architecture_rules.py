"""What keeps the house readable: short modules, short functions, no circles of imports, rooms in one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.regress.imports import imported, modules

ROOT = Path(__file__).parents[1]
MODULES = modules(ROOT)
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60
# The rooms of benchmarks/ from the ground up: each imports those before it. A facade imports its own modules alone.
FLOORS = ["recipe", "machine", "engine", "verdict", "run", "leaderboard", "bench", "regress", "queue"]


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_no_module_is_long():
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_no_function_is_long():
    found = {
        f"{name}.{function.name}": length
        for name, path in MODULES.items()
        if ".kernels." not in name
        for function in functions(ast.parse(path.read_bytes(), path))
        if (length := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    }
    assert found == {}


def test_no_modules_import_each_other_in_a_circle():
    rest = {name: imported(path, MODULES, at_import=True) - {name} for name, path in MODULES.items()}
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
        for name in imported(path, MODULES, at_import=False)
        if name.startswith("benchmarks.")
    }
    assert needed & above == set()


def test_the_floors_are_all_rooms_of_benchmarks():
    rooms = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__init__.py")}
    assert rooms == set(FLOORS)
