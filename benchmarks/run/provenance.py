"""Which code computes: the commit of this checkout, and which code files differ from it.

Code is what can change a number. Of the repository's own folder and of its packages (the folders in it that have an
`__init__.py`) these files are code:

- `*.py`, and modules that are compiled: `*.so`, and `*.pyc` outside of `__pycache__`;
- `requirements*.txt` in the repository's folder;
- `*.yaml` and `*.csv` in benchmarks/, the catalog;
- everything in data_prep/fixtures.

Whether git tracks or ignores a file, or takes it for unchanged, is not asked: the files are found and read here, and
git only names the commit and its files. So no setting of git and no bit of its index changes the answer. Names that
begin with a dot (locks and backups of editors) are passed over, and so is `__pycache__`.

A file is the same as the commit's if its bytes are, or if they are once CRLF is LF, as `core.autocrlf` checks out: no
number depends on the ends of lines. Any other filter of git makes a difference. A symbolic link counts as the file or
folder that it leads to; one that leads nowhere is no code, and one that is in the commit is always a difference.
Whether a file may be executed does not count. What a sparse checkout leaves out is gone.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.errors import CodeError
from benchmarks.machine.bytecode import check_bytecode
from benchmarks.paths import REPOSITORY
from results.escape import for_terminal

# Environment variable by which a command hands on its code to the commands that it starts.
HANDED_ON = "BNN_CODE_AT_START"
_MODULES = (".py", ".pyc", ".so")
_TEXTS = (".py", ".yaml", ".csv", ".txt")
_GIT_SECONDS = 60
_COMPUTING, _CATALOG = ("data_prep/", "benchmarks/", "bnn_"), "benchmarks/catalog/"


@dataclass(frozen=True)
class Code:
    """The code of a checkout.

    Attributes:
        commit: None if no commit is known; `dirty` is False then, and `note` and `mend` say why and what helps.
        dirty: whether any code file differs from the commit's, is not in it, or is gone.
        diff_sha256: if so, SHA-256 (hexadecimal) of what `sha256sum` prints of these files, sorted by the bytes of
            their names, with `deleted` in place of the digest of a file that is gone.
        files: SHA-256 (hexadecimal) of every code file by its name, such as "benchmarks/recipe/loading.py"; of *.py,
            *.yaml, *.csv and *.txt with LF in place of CRLF.
        changed: names of the files that differ, sorted.
    """

    commit: str | None
    dirty: bool
    diff_sha256: str | None
    note: str = ""
    mend: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    changed: tuple[str, ...] = ()

    @property
    def computing_sha256(self) -> str:
        """SHA-256 (hexadecimal) of the files that compute, names included: those of data_prep, benchmarks and engines.

        It stays the same from commit to commit as long as only the command line, results or documents change.
        """
        computing = [
            f"{sha256}  {name}\n" for name, sha256 in sorted(self.files.items()) if name.startswith(_COMPUTING)
        ]
        return hashlib.sha256("".join(computing).encode(errors="surrogateescape")).hexdigest()


def code_version(repository: Path = REPOSITORY) -> Code:
    """The code as it is now.

    Raises:
        CodeError: a code file or a folder cannot be read.
    """
    try:
        commit, blobs = _head(repository)
    except UnknownCommitError as unknown:
        found = _read_code(repository, {})
        digests = {name: content.sha256 for name, content in found.items()}
        return Code(None, False, None, f"no commit is known: {unknown.reason}", unknown.mend, digests)
    found = _read_code(repository, blobs)
    digests = {name: content.sha256 for name, content in found.items()}
    packages = _packages(blobs)
    committed = {name: blob for name, blob in blobs.items() if _is_code(name, packages)}
    same = {name for name, content in found.items() if committed.get(name) in content.blobs}
    changed = sorted((committed.keys() | found.keys()) - same, key=os.fsencode)
    if not changed:
        return Code(commit, False, None, files=digests)
    lines = b"".join(f"{digests.get(name, 'deleted')}  ".encode() + os.fsencode(name) + b"\n" for name in changed)
    return Code(commit, True, hashlib.sha256(lines).hexdigest(), files=digests, changed=tuple(changed))


@functools.cache
def code_at_start(repository: Path = REPOSITORY) -> Code:
    """The code with which this command began: it is asked for before anything is computed, and is taken once.

    Raises:
        CodeError: as `code_version`; another command has started this one, and had other code; or Python runs kept
            bytecode that is not of a file.
    """
    code = code_version(repository)
    check_bytecode(repository / name for name in code.files if name.endswith(".py"))
    if (text := os.environ.get(HANDED_ON)) is not None:
        expected: object = None
        with contextlib.suppress(ValueError):
            expected = json.loads(text)
        _check_same(expected if isinstance(expected, dict) else {}, code)
    return code


def check_unchanged(repository: Path = REPOSITORY) -> None:
    """Refuse to go on if the code has changed since the command began: what was loaded since is from then or now.

    Raises:
        CodeError: it has, or as `code_version`.
    """
    _check_same(_shortened(code_at_start(repository)), code_version(repository))


def handed_on(repository: Path = REPOSITORY) -> dict[str, str]:
    """The environment of commands that this one starts, now or in days: they refuse to compute with other code."""
    return {HANDED_ON: json.dumps(_shortened(code_at_start(repository)), separators=(",", ":"))}


def changed_files(code: Code, repository: Path = REPOSITORY) -> bytes:
    """The files that differ from the commit, as they are, in a zip archive; the same files give the same bytes.

    Those that are gone are named in `deleted.txt`, one a line.
    """
    there = [name for name in code.changed if name in code.files]
    gone = "".join(f"{name}\n" for name in code.changed if name not in code.files)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in there:
            archive.writestr(zipfile.ZipInfo(for_terminal(name)), (repository / name).read_bytes())
        if gone:
            archive.writestr(zipfile.ZipInfo("deleted.txt"), gone.encode(errors="surrogateescape"))
    return content.getvalue()


def name_files(names: Iterable[str], most: int = 3) -> str:
    """The first names of files, and how many more there are, printable."""
    shown = [for_terminal(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _shortened(code: Code) -> dict[str, str]:
    """What is handed on: an environment variable has room for some thousand files."""
    return {name: digest[:16] for name, digest in code.files.items()}


def _check_same(expected: Mapping[str, str], code: Code) -> None:
    """The commit is not compared: what is committed in the meantime, such as records, need not be code."""
    now = _shortened(code)
    other = sorted(name for name in expected.keys() | now.keys() if expected.get(name) != now.get(name))
    if other:
        again = shlex.join(["python", "cli.py", *sys.argv[1:]])
        raise CodeError(
            f"the code has changed since the command began ({name_files(other)}): nothing was computed; undo that,"
            f" or compute with the code as it is now: {again}"
        )


# -- files -------------------------------------------------------------------------------------------------------------


class _Content(NamedTuple):
    """SHA-256 of a file, and the names that git may have for it: of its bytes, and of those with LF for CRLF."""

    sha256: str
    blobs: frozenset[str]


def _read_code(repository: Path, committed: Mapping[str, str]) -> dict[str, _Content]:
    """Every code file that there is, by name. The names of `committed` also say which folders are packages."""
    found, blob = {}, next(iter(committed.values()), "")
    try:
        names = [entry.name for entry in os.scandir(repository) if not entry.name.startswith(".")]
        initial = [f"{name}/__init__.py" for name in names if os.path.isfile(repository / name / "__init__.py")]
        packages = _packages([*initial, *committed])
        for package in packages.intersection(names):
            names += _walk(repository / package, f"{package}/", ())
        for name in names:
            # A link that leads nowhere is no file, and an editor may replace a file at this moment.
            if _is_code(name, packages) and os.path.isfile(repository / name):
                with contextlib.suppress(FileNotFoundError):
                    found[name] = _read(repository / name, blob)
    except OSError as error:
        raise CodeError(
            f"{error.filename} cannot be read ({error.strerror}), and without it no record could say which code"
            f" computed: make it readable (`chmod u+rX {shlex.quote(os.fsdecode(error.filename))}`) or move it away"
        ) from error
    return found


def _packages(names: Iterable[str]) -> set[str]:
    return {name.partition("/")[0] for name in names if re.fullmatch(r"[^/]+/__init__\.py", name)}


def _is_code(name: str, packages: set[str]) -> bool:
    *folders, file = name.split("/")
    if any(part.startswith(".") or part == "__pycache__" for part in (*folders, file)):
        return False
    if not folders:
        return file.endswith(_MODULES) or fnmatch.fnmatchcase(file, "requirements*.txt")
    return folders[0] in packages and (
        file.endswith(_MODULES)
        or (folders[0] == "benchmarks" and file.endswith((".yaml", ".csv")))
        or folders[:2] == ["data_prep", "fixtures"]
    )


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Names of what lies in a folder and in those below it, but for a link that leads back to one above."""
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", (*above, identity))
        else:
            yield prefix + entry.name


def _read(path: Path, blob: str) -> _Content:
    """`blob` is any name that git has for a file here: it tells which hash makes them."""
    try:
        content = path.read_bytes()
    except OSError as error:
        error.filename = str(path)  # which an error of reading, other than one of opening, lacks
        raise
    with_lf = content.replace(b"\r\n", b"\n") if path.suffix in _TEXTS else content
    algorithm = hashlib.sha256 if len(blob) == 64 else functools.partial(hashlib.sha1, usedforsecurity=False)
    blobs = {algorithm(b"blob %d\0" % len(text) + text).hexdigest() for text in {content, with_lf}}
    return _Content(hashlib.sha256(with_lf).hexdigest(), frozenset(blobs))


# -- git ---------------------------------------------------------------------------------------------------------------


class UnknownCommitError(Exception):
    """Git does not say what it was asked: why, and the command that helps if one does."""

    def __init__(self, reason: str, mend: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.mend = for_terminal(reason), mend and for_terminal(mend)


def _head(repository: Path) -> tuple[str, dict[str, str]]:
    """The commit that is checked out in this very folder, and git's name for the content of each of its files."""
    if not os.path.lexists(repository / ".git"):
        raise UnknownCommitError("a copy without .git", "use git clone")
    commit, _, top = os.fsdecode(git_output(repository, "rev-parse", "HEAD", "--show-toplevel")).partition("\n")
    if os.path.realpath(top.removesuffix("\n")) != os.path.realpath(repository):
        raise UnknownCommitError(f"git takes this folder for one of another checkout, {top.strip()}", "use git clone")
    blobs = {}
    for line in git_output(repository, "ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0"):
        entry, _, name = line.partition(b"\t")
        if name:
            blobs[os.fsdecode(name)] = entry.split()[2].decode()
    return commit, blobs


def git_output(repository: Path, *arguments: str) -> bytes:
    """What git prints, whatever the user's environment and configuration are.

    The user's configuration is read only where git refuses the checkout of another user: what is trusted nevertheless
    stands there. No setting in it changes what the two commands above print.
    """
    alone = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    result = _run_git(repository, arguments, alone)
    if b"safe.directory" in result.stderr:
        result = _run_git(repository, arguments, {})
    if result.returncode == 0:
        return result.stdout
    complaint = os.fsdecode(result.stderr)
    trust = re.search(r"git config --global --add safe\.directory .+", complaint)
    if trust:
        raise UnknownCommitError("git does not trust this checkout, which is another user's", trust[0])
    raise UnknownCommitError(f"git says: {(complaint.strip() or str(result.returncode)).splitlines()[0]}")


def _run_git(
    repository: Path, arguments: Iterable[str], variables: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {
        "GIT_CEILING_DIRECTORIES": str(repository.absolute().parent),  # the repository around a copy is another one
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",  # the language in which its refusals are read
    }
    try:
        return subprocess.run(
            ["git", "-C", str(repository), *arguments],
            env=environment | dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except FileNotFoundError as error:
        raise UnknownCommitError("git is not installed", "apt-get install git") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnknownCommitError(f"git cannot be asked: {error}") from error
