"""Command lines one after another in one process, each as in a process of its own: frameworks are slow to import.

While a command runs, the process's standard streams are files, so that what a library writes past Python belongs to
the answer too, and an error that nobody caught ends as Python ends: with a traceback and exit code 1. What needs a
process of its own, signals, kills and what is imported, has `process_cli` in conftest.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from unittest import mock

REPOSITORY = Path(__file__).parents[1]


def folders(data_root: Path, home: Path) -> dict[str, str]:
    """What the environment says of a command line's folders."""
    return {
        "BNN_DATA": str(data_root),
        "BNN_RUNS": str(home / "runs"),
        "BNN_REGISTRY": str(home / "registry" / "runs"),
    }


class CommandServer:
    """Starts the process when first asked, with another catalog of benchmarks if one is given."""

    def __init__(self, catalog: Path | None = None) -> None:
        self._command = [sys.executable, __file__, *([] if catalog is None else [str(catalog)])]
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """As `python cli.py ARGUMENTS` with these changes of the environment."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([arguments, dict(environment)]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"cli.py {arguments}: the process ended, exit code {process.wait()}"
        return subprocess.CompletedProcess(["cli.py", *arguments], *json.loads(answer))

    def _start(self) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(self._command, **pipes)

    def __enter__(self) -> CommandServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.communicate()  # closes its input, which ends it


def carry_out(arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line."""
    import cli

    # Put back one by one: what an engine has set on opening, its number of threads, is there for good.
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    exit_code = 1
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _redirected("stdout", 1, out), _redirected("stderr", 2, err):
            try:
                cli.cli.main(arguments, "cli.py")
            except SystemExit as end:
                exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        return exit_code, _text(out), _text(err)


@contextmanager
def _redirected(name: str, descriptor: int, file: IO[bytes]) -> Iterator[None]:
    """Let a file take the place of a standard stream, Python's and the operating system's."""
    kept = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    with open(descriptor, "w", closefd=False) as stream, mock.patch.object(sys, name, stream):
        yield
    os.dup2(kept, descriptor)
    os.close(kept)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def main() -> None:
    """Answer every line of standard input with one of standard output."""
    sys.path.insert(0, str(REPOSITORY))  # not by PYTHONPATH, which a record tells and `resume` compares
    if sys.argv[1:]:
        from benchmarks.recipe import loading as recipe

        recipe.CATALOG = Path(sys.argv[1])
    jobs, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with open(os.devnull, "rb") as nothing:  # commands find no input
        os.dup2(nothing.fileno(), 0)
    for line in jobs:
        print(json.dumps(carry_out(*json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
