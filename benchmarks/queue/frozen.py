"""The code of a commit, for the runs that were queued with it: a clone of its own in the queue's folder.

Editing the checkout changes no run that waits. It is a clone, not a worktree, so that it is whole wherever the folder
is mounted, and a run in it can say which commit it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.errors import RunError
from benchmarks.paths import REPOSITORY
from benchmarks.run.provenance import HANDED_ON, code_at_start, handed_on, name_files
from results.errors import RegistryError, RegistryFileError
from results.files import read_whole, write_atomically

_ABANDONED = 3600.0  # seconds, in which any clone is made


def present_commit() -> str:
    """The commit of this checkout, whose code is what the commit has.

    Raises:
        RunError: it is not, or no commit is known.
    """
    code = code_at_start()
    if code.commit is None:
        mend = f"; {code.mend}" if code.mend else ""
        raise RunError(f"{code.note}: a queue takes the code of a commit{mend}")
    if code.dirty:
        raise RunError(
            f"the code is not that of commit {code.commit[:12]} ({name_files(code.changed)}): a queue takes the code of"
            " a commit: `git commit` the changes, or `git stash` them"
        )
    return code.commit


def freeze(folder: Path, commit: str) -> None:
    """Put the code of this checkout's commit into a folder, whole or not at all; nothing to do if it is there.

    Raises:
        RunError: git cannot.
        RegistryFileError: the folder cannot be written to.
    """
    expected = folder.with_suffix(".json")
    if expected.exists():
        return
    sweep(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        # `file://`, for git makes no shallow clone of a mere path.
        _git(temporary, "init", "--quiet")
        _git(temporary, "fetch", "--quiet", "--depth", "1", REPOSITORY.as_uri(), commit)
        _git(temporary, "-c", "core.autocrlf=false", "checkout", "--quiet", "--detach", "FETCH_HEAD")
        try:
            os.rename(temporary, folder)
        except OSError:
            if not (folder / "cli.py").exists():  # else another process was faster
                raise
        # Of this checkout, whose code files are those of the commit: `present_commit`.
        write_atomically(expected, handed_on()[HANDED_ON].encode())
    except OSError as error:
        raise RegistryFileError(f"{folder}: cannot be written: {error.strerror}; free or change that place") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove clones that a kill left half made: those that nobody can be at any more."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def environment_of(folder: Path) -> dict[str, str]:
    """What a command of the frozen code gets: with it, it refuses to compute if somebody has edited that.

    Raises:
        RunError: the code is not there.
    """
    try:
        text = read_whole(folder.with_suffix(".json")).decode()
        json.loads(text)
    except (OSError, ValueError, RecursionError, RegistryError) as error:
        raise RunError(f"{folder}: the code of that commit is not there ({error}): `queue add` brings it") from None
    return {HANDED_ON: text}


def _git(folder: Path, *arguments: str) -> None:
    """Raises RunError with what git says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    result = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=environment | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if result.returncode:
        complaint = (result.stderr.strip() or str(result.returncode)).splitlines()[-1]
        raise RunError(f"the code of the commit cannot be copied to the queue: git says: {complaint}")
