"""Which code a run was made with."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]
# What cannot change a number: a run that is recorded while the README is edited is not made with other code.
_NOT_CODE = (":(exclude)results/runs", ":(exclude)results/table.csv", ":(exclude)docs", ":(exclude)*.md")
# Of files that git does not know, what a run may be made with.
_NEW_CODE = ("*.py", "benchmarks/*.yaml")


@dataclass(frozen=True)
class Code:
    """A commit, and what differed from it, new files included: `dirty` if any code did, then with the SHA-256 of it."""

    commit: str | None
    dirty: bool
    diff_sha256: str | None


def code_version() -> Code:
    """The code of this checkout; commit None, dirty False if it is none of git's, or git does not say what differs."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("diff", "HEAD", "--", ".", *_NOT_CODE)
    new = _git("ls-files", "-z", "--others", "--exclude-standard", "--", *_NEW_CODE)
    if commit is None or changed is None or new is None:
        return Code(None, False, None)
    names = [os.fsdecode(name) for name in new.split(b"\0") if name]
    difference = changed + b"".join(name.encode() + (_REPOSITORY / name).read_bytes() for name in names)
    dirty = bool(difference)
    return Code(commit.decode().strip(), dirty, hashlib.sha256(difference).hexdigest() if dirty else None)


def _git(*arguments: str) -> bytes | None:
    try:
        return subprocess.run(
            ["git", "-C", str(_REPOSITORY), *arguments], capture_output=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
