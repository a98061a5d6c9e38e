"""Finds the run that a user means."""

from __future__ import annotations

from pathlib import Path

from benchmarks.errors import RunError
from benchmarks.run.folder import RunFolder


def find_run(root: Path, text: str) -> RunFolder:
    """The run that a user names: the folder's path, "<benchmark>/<folder>", or a beginning of <folder> that fits one
    run.

    Raises:
        RunError: none fits, or several.
    """
    for path in (Path(text), root / text):
        if (path / "run.json").exists():
            return RunFolder(path.resolve())
    runs = sorted(path.parent for path in root.glob("*/*/run.json"))
    exact = [path for path in runs if path.name == text]  # it may be the beginning of another, as X of X-2
    matches = exact or [path for path in runs if path.name.startswith(text)]
    matches = matches or [path for path in runs if path.parent.name == text]
    if len(matches) == 1:
        return RunFolder(matches[0])
    if not matches:
        raise RunError(
            f"no run {text!r} in {root}: expected a run's folder or name; `python cli.py reproduce ID` starts one"
        )
    names = ", ".join(RunFolder(path).name for path in matches[-5:])
    raise RunError(f"{len(matches)} runs fit {text!r}: name one of {names}")
