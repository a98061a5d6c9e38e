"""Bytecode of another content than its source's, which Python takes, is found."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.errors import CodeError
from benchmarks.machine.bytecode import check_bytecode
from benchmarks.run.provenance import code_at_start
from bnn_gluon.kernels import compiled

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def source(tmp_path) -> Path:
    source = tmp_path / "constants with a space.py"
    source.write_text("BETA = 0.9\n")
    return source


def edit(source: Path, text: str = "BETA = 0.5\n") -> None:
    """As an editor, or `cp -p`, may do: neither size nor time tells it."""
    status = source.stat()
    source.write_text(text)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_bytecode_of_an_earlier_content_is_refused_and_the_command_that_is_named_mends_it(source):
    py_compile.compile(str(source))
    check_bytecode([source])
    edit(source)
    with pytest.raises(CodeError, match=r"Python runs an earlier content of .*; `rm (.*)`, and start again$") as error:
        check_bytecode([source])
    subprocess.run(shlex.split(str(error.value).split("`")[1]), check=True)
    check_bytecode([source])


def test_what_python_would_not_take_does_no_harm(source):
    check_bytecode([source])
    py_compile.compile(str(source))
    edit(source, "BETA = 0.55\n")  # another size
    check_bytecode([source])
    kept = Path(importlib.util.cache_from_source(str(source)))
    for content in (b"", b"short", bytes(100)):
        kept.write_bytes(content)
        check_bytecode([source])


@pytest.mark.parametrize("mode", list(py_compile.PycInvalidationMode))
def test_bytecode_that_is_taken_by_a_hash_is_compared_where_python_does_not(source, mode):
    py_compile.compile(str(source), invalidation_mode=mode)
    edit(source)
    if mode == py_compile.PycInvalidationMode.CHECKED_HASH:
        check_bytecode([source])
    else:
        with pytest.raises(CodeError):
            check_bytecode([source])


def test_a_content_that_cannot_be_compiled_is_another(source):
    py_compile.compile(str(source))
    edit(source, "BETA = (.9\n")
    with pytest.raises(CodeError):
        check_bytecode([source])


def test_bytecode_made_long_after_the_last_change_is_not_read(source, monkeypatch):
    kept = Path(py_compile.compile(str(source)))
    later = source.stat().st_ctime + 11
    os.utime(kept, (later, later))
    monkeypatch.setattr(Path, "open", None)
    check_bytecode([source])


@pytest.fixture
def stale(tmp_path, monkeypatch):
    """stale(name): have bytecode of another content for a file of this checkout, in a folder of its own."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))

    def plant(name: str) -> Path:
        source, before = REPOSITORY / name, tmp_path / "before.py"
        status = source.stat()
        before.write_text(source.read_text().replace("the", "teh", 1))
        os.utime(before, ns=(status.st_atime_ns, status.st_mtime_ns))
        kept = Path(importlib.util.cache_from_source(str(source)))
        py_compile.compile(str(before), str(kept))
        os.utime(kept, ns=(status.st_ctime_ns, status.st_ctime_ns))
        return source

    return plant


def test_no_run_begins(stale):
    check = code_at_start.__wrapped__
    check()
    source = stale("benchmarks/recipe/schedule.py")
    with pytest.raises(CodeError, match=re.escape(str(source))):
        check()


@pytest.mark.parametrize("name", ["bnn_gluon/kernels/ap2.py", "benchmarks/engine/updates.py"])
def test_no_loop_is_compiled_to_be_kept(stale, name):
    check = compiled.kept_in.__wrapped__
    check()
    source = stale(name)
    with pytest.raises(CodeError, match=re.escape(str(source))):
        check()
