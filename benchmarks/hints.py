"""Commands in messages, as they work when they are typed where the reader is.

All rooms write `python cli.py COMMAND ...` and `python -m pip install -r FILE` or `NAME==VERSION`. The command line,
before it prints a message, puts in the Python that runs, paths from the current folder, and the folders that its own
options have named.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click

from benchmarks.start import REPOSITORY, relative

_COMMAND = re.compile(r"\bpython cli\.py(?: (?P<name>queue [a-z]+|[a-z-]+)\b)?")
_INSTALL = re.compile(r"\bpython -m pip install (?:-r (?P<file>[\w.-]+\.txt)|(?P<package>[\w-]+==[\w.]+))")
_FOLDERS = f"{__name__}.folders"  # in a context's meta: {"--runs": folder}


def remember_folder(ctx: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """Callback of an option that names a folder: commands in messages get it too, if the user gave it."""
    source = ctx.get_parameter_source(str(parameter.name))
    if source is click.core.ParameterSource.COMMANDLINE:
        use_folder(ctx, parameter.opts[0], value)
    return value


def use_folder(ctx: click.Context, option: str, folder: Path) -> None:
    """Have commands in messages name this folder."""
    ctx.meta.setdefault(_FOLDERS, {})[option] = folder


def as_typed(text: str) -> str:
    """The text with its commands as they work here."""
    text = _COMMAND.sub(lambda found: " ".join([program(), *_arguments(found["name"])]), text)
    return _INSTALL.sub(lambda found: f"{python()} -m pip install {_installed(found)}", text)


def _installed(found: re.Match[str]) -> str:
    return found["package"] or f"-r {_from_here(found['file'])}"


def program() -> str:
    """What to type for this command line: `python cli.py`, or with paths."""
    return f"{python()} {_from_here('cli.py')}"


def python(*, anywhere: bool = False) -> str:
    """What to type for the Python that runs: `python` where the shell finds the same one by that name.

    Else its path, from the current folder, or one that does `anywhere`.
    """
    found = shutil.which("python")
    # tox has put its environment in front of PATH; the user's shell has not.
    if found is not None and "TOX_ENV_DIR" not in os.environ and _same_program(found, sys.executable):
        return "python"
    path = sys.executable if anywhere else relative(sys.executable or "python3")
    return quoted(path if os.path.dirname(path) else os.path.join(os.curdir, path))


def _same_program(one: str, other: str) -> bool:
    """Links of several environments lead to one Python: the folder says which environment it is."""
    return os.path.dirname(os.path.abspath(one)) == os.path.dirname(os.path.abspath(other)) and os.path.samefile(
        one, other
    )


def _from_here(file: str) -> str:
    return quoted(relative(os.path.join(REPOSITORY, file)))


def _arguments(name: str | None) -> list[str]:
    """A command's name, and the folders that were named to the one that runs, of those that it has options for."""
    if name is None:
        return []
    ctx = click.get_current_context(silent=True)
    folders: dict[str, Path] = ctx.meta.get(_FOLDERS, {}) if ctx else {}
    root = ctx.find_root() if ctx else None
    command: click.Command | None = root.command if root else None
    for word in name.split():
        command = command.get_command(root, word) if root and isinstance(command, click.Group) else None
    # By its callback: `table` and `list` have a --data, too, which names a data set.
    parameters = [p for p in command.params if p.callback is remember_folder] if command else []
    known = {option for parameter in parameters for option in parameter.opts}
    return [name, *(f"{option} {quoted(str(folder))}" for option, folder in folders.items() if option in known)]


def quoted(word: str) -> str:
    r"""The word as a shell takes it; what the terminal's encoding lacks by its bytes, as in $'d\303\244ta'."""
    if os.name == "nt":
        return subprocess.list2cmdline([word])
    try:
        word.encode(sys.stderr.encoding or "ascii")
    except UnicodeEncodeError:
        plain = set(range(ord(" "), 127)) - set(b"\\'")
        return "$'" + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in os.fsencode(word)) + "'"
    return shlex.quote(word)
