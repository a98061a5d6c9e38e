"""Which module of the house imports which, read from the source; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path


def modules(repository: Path) -> dict[str, Path]:
    """Every module by its dotted name, tests left out."""
    rooms = [path.parent for path in repository.glob("*/__init__.py")]
    files = [repository / "cli.py", *(path for room in rooms for path in room.rglob("*.py"))]
    return {module_name(path.relative_to(repository)): path for path in files}


def module_name(path: Path) -> str:
    """The dotted name of a file's module, by its path in the repository."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, known: Collection[str], *, at_import: bool) -> set[str]:
    """The modules that a file imports: when it is imported itself, or ever; for types only never.

    Args:
        known: modules of which it is asked.
    """
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
                found.update(names.intersection(known) or {str(child.module)})
            look(child)

    look(ast.parse(path.read_bytes(), path))
    return found.intersection(known)


def reached(roots: Iterable[str], files: Mapping[str, Path]) -> set[str]:
    """The modules that are ever imported, with the packages around them, where these are.

    Raises:
        SyntaxError: a file is no Python.
    """
    found: set[str] = set()
    rest = set(roots)
    while rest:
        name = rest.pop()
        found.add(name)
        parts = name.split(".")
        around = {".".join(parts[:count]) for count in range(1, len(parts))} & files.keys()
        rest |= (around | imported(files[name], files.keys(), at_import=False)) - found
    return found
