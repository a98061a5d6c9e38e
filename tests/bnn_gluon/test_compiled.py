"""Machine code that is kept: what fits exactly is loaded, all else is compiled anew."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from bnn_gluon.kernels import compiled

REPOSITORY = Path(__file__).parents[2]


def add_one(values):
    for i in range(values.size):
        values[i] += 1


def adding(value):
    def add(values):
        for i in range(values.size):
            values[i] += value

    return add


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "kept_in", lambda: tmp_path)
    return tmp_path


def carried_out(function) -> tuple[np.ndarray, bool]:
    """What a function makes of zeros, and whether it was compiled for that."""
    loop, values = compiled.keep_compiled(numba.njit(function)), np.zeros(3, np.float32)
    loop(values)
    return values, bool(loop.stats.cache_misses)


def test_a_second_process_loads_what_the_first_has_compiled(folder):
    assert carried_out(add_one) == (pytest.approx([1, 1, 1]), True)
    assert carried_out(add_one) == (pytest.approx([1, 1, 1]), False)


@pytest.mark.parametrize("place", [0, 31, 32, 1000, -1])
def test_a_damaged_file_is_compiled_anew(folder, place):
    carried_out(add_one)
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert carried_out(add_one) == (pytest.approx([1, 1, 1]), True)
    file.write_bytes(content[:10])
    assert carried_out(add_one) == (pytest.approx([1, 1, 1]), True)


def test_functions_made_by_one_function_are_not_confused(folder):
    assert carried_out(adding(1.0)) == (pytest.approx([1, 1, 1]), True)
    assert carried_out(adding(2.0)) == (pytest.approx([2, 2, 2]), True)
    assert carried_out(adding(1.0)) == (pytest.approx([1, 1, 1]), False)


def test_a_folder_that_cannot_be_written_stops_nothing(folder, monkeypatch):
    monkeypatch.setattr(compiled, "kept_in", lambda: folder / "absent")
    assert carried_out(add_one) == (pytest.approx([1, 1, 1]), True)


def test_the_digest_is_of_the_content_of_all_files(tmp_path):
    (tmp_path / "kernels").mkdir()
    file, other = tmp_path / "kernels" / "b.py", tmp_path.with_suffix(".other")
    file.write_text("x = 1")
    other.write_text("y = 1")
    before = compiled.sources_digest(tmp_path, other)
    assert compiled.sources_digest(tmp_path, other) == before
    for changed in (file, other):
        changed.write_text("z = 2")
        assert compiled.sources_digest(tmp_path, other) != before
        before = compiled.sources_digest(tmp_path, other)


def test_where_it_is_kept_is_told_without_making_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.find_kept() is None
    assert list(tmp_path.iterdir()) == []
    made = compiled.kept_in.__wrapped__()
    assert made.is_relative_to(tmp_path)
    assert compiled.find_kept() == made


def kept_in(**variables: str) -> tuple[Path, str]:
    """The folder that a process with these variables uses, and what it says."""
    code = "from bnn_gluon.kernels.compiled import kept_in; print(kept_in())"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=os.environ | variables, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return Path(result.stdout.strip()), result.stderr


def test_it_lies_in_the_users_cache_else_among_temporary_files_else_nowhere(tmp_path):
    cache, temporary = tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    variables = {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(temporary)}
    first, _ = kept_in(**variables)
    assert first.parent == cache / "bnn-reproducibility"
    cache_that_is_a_file = tmp_path / "file"
    cache_that_is_a_file.write_text("")
    variables["XDG_CACHE_HOME"] = str(cache_that_is_a_file)
    second, _ = kept_in(**variables)
    assert second == temporary / f"bnn-reproducibility-{os.getuid()}" / first.name
    second.parent.chmod(0o777)  # anybody could leave machine code there
    third, said = kept_in(**variables)
    assert third.parent == temporary
    assert "it is compiled anew each time" in said
    assert not third.exists()  # it ended with the process


def test_what_older_versions_left_is_deleted_after_a_while(tmp_path):
    current, old, recent = (tmp_path / name for name in ("current", "old", "recent"))
    for folder in (current, old, recent):
        folder.mkdir()
    long_ago = os.stat(current).st_mtime - (compiled.UNUSED_DAYS + 1) * 86400
    os.utime(old, (long_ago, long_ago))
    compiled._delete_unused(current)
    assert set(tmp_path.iterdir()) == {current, recent}


# What numba compiles a function for; only the first two keep the machine code, so that Python may call it.
KEEPING = ("keep_compiled", "parallel.loop")
COMPILING = (*KEEPING, "njit", "intrinsic", "register_jitable")
FOR_TESTS = {"compare_with_uniforms"}  # which alone give a step its uniforms


def decorated(function: ast.FunctionDef, words: tuple[str, ...]) -> bool:
    return any(word in ast.unparse(one) for one in function.decorator_list for word in words)


def test_python_calls_no_compiled_function_that_is_not_kept():
    """Each process would compile it anew, and say so. Other compiled functions may call it: it is kept in theirs."""
    trees = {path: ast.parse(path.read_text()) for path in sorted((REPOSITORY / "bnn_gluon").rglob("*.py"))}
    functions = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    not_kept = {one.name for one in functions if decorated(one, ("njit",)) and not decorated(one, KEEPING)} - FOR_TESTS
    assert "build_tables" in not_kept
    found = []

    def look(node: ast.AST, place: str) -> None:
        if isinstance(node, ast.FunctionDef) and decorated(node, COMPILING):
            return
        if isinstance(node, ast.Name | ast.Attribute) and getattr(node, "id", getattr(node, "attr", "")) in not_kept:
            found.append(f"{place}:{node.lineno}: {ast.unparse(node)}")
        for child in ast.iter_child_nodes(node):
            look(child, place)

    for path, tree in trees.items():
        look(tree, path.name)
    assert found == []
