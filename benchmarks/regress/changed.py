"""Which benchmarks a change can touch: where that is not known for sure, all of them.

A file of the catalog touches its benchmark and the variants of that. A module touches all benchmarks if what measures
them imports it, at its top or inside of a function; the engine that is asked for, and `data_prep`, import by name too,
so that all that is in them counts. Documents, tests, the registry and what begins with a dot touch none. Any other
file, such as a deleted module, a reference or tox.ini, touches all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from benchmarks.engine import ENGINES
from benchmarks.errors import CodeError
from benchmarks.paths import REPOSITORY
from benchmarks.recipe.loading import catalog_files
from benchmarks.regress.imports import module_name, modules, reached
from benchmarks.run.provenance import UnknownCommitError, code_version, git_output

CATALOG, REFERENCES = "benchmarks/catalog/", "benchmarks/regress/references/"
MEASURING = ("benchmarks.regress.suite", "benchmarks.regress.measure")
COMMAND = {"cli", "commands.regress"}  # what else these import is for other commands, and for the registry
_VARIANT_OF = re.compile(r"""^variant_of:\s*["']?([\w.-]+)""", re.MULTILINE)


class RevisionError(CodeError):
    """A revision that this repository does not have: the message says what was expected."""

    exit_code = 2


def touched(rev: str, engine: str | None = None, repository: Path = REPOSITORY) -> tuple[list[str], dict[str, str]]:
    """The benchmarks that the change since a revision can touch, sorted, and the others with the reason.

    Args:
        rev: a commit, branch or tag; what is not committed belongs to the change.
        engine: that trains; None: any.

    Raises:
        RevisionError: there is no such revision.
        CodeError: git does not say what changed.
        RecipeError: the catalog cannot be read.
    """
    catalog = catalog_files(repository / CATALOG)
    changed = changed_files(rev, repository)
    engines = [*ENGINES] if engine is None else [engine]
    found = {one for one in _own_benchmarks(changed, catalog) if one in catalog}
    if any(_touches_all(name, engines) for name in changed) or _is_imported(changed, engines, repository):
        found = {*catalog}
    return sorted(found), dict.fromkeys(sorted(catalog.keys() - found), f"the change since {rev} cannot touch it")


# -- files -------------------------------------------------------------------------------------------------------------


def changed_files(rev: str, repository: Path = REPOSITORY) -> list[str]:
    """Files that differ from a revision's, are not in it, or are gone, sorted; with slashes.

    Raises:
        RevisionError, CodeError: as `touched`.
    """
    code = code_version(repository)
    if code.commit is None:
        raise CodeError(f"{code.note}, and so not what changed since {rev}{f': {code.mend}' if code.mend else ''}")
    commit = _commit(rev, repository)
    since = git_output(repository, "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", commit, "--")
    untracked = git_output(repository, "ls-files", "--others", "--exclude-standard", "-z")
    names = {os.fsdecode(name) for name in (*since.split(b"\0"), *untracked.split(b"\0")) if name}
    return sorted(names | {*code.changed})  # code.changed: also what git is told to ignore


def _commit(rev: str, repository: Path) -> str:
    try:
        found = git_output(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
        return found.decode().strip()
    except UnknownCommitError:
        is_shallow = git_output(repository, "rev-parse", "--is-shallow-repository").strip() == b"true"
        mend = "`git fetch --unshallow` brings what a shallow clone left out" if is_shallow else "`git log` has them"
        raise RevisionError(f"{rev!r} is no commit here: expected a commit, branch or tag; {mend}") from None


def _own_benchmarks(changed: Iterable[str], catalog: Mapping[str, Path]) -> set[str]:
    """Benchmarks whose files changed, and all variants of them."""
    found = {PurePosixPath(name).stem for name in changed if name.startswith(CATALOG) and name.endswith(".yaml")}
    if not found:
        return found
    variants = {name: _VARIANT_OF.findall(path.read_text(encoding="utf-8")) for name, path in catalog.items()}
    while more := {name for name, of in variants.items() if found.intersection(of)} - found:
        found |= more
    return found


def _touches_none(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        (any(part.startswith(".") for part in path.parts) and name != ".gitattributes")
        or "__pycache__" in path.parts  # of a checkout without our .gitignore
        or path.parts[0] in ("docs", "tests")
        or path.suffix in (".md", ".cff")
        or name == "LICENSE"
        or (path.parts[0] == "results" and path.suffix != ".py")
        or name.startswith((CATALOG, f"{REFERENCES}history/"))
    )


def _touches_all(name: str, engines: Collection[str]) -> bool:
    """Whether it does by its name; what is a module is looked for among the imported ones besides."""
    if _touches_none(name):
        return False
    rooms = {ENGINES[engine].partition(".")[0] for engine in ENGINES}
    mine = {ENGINES[engine].partition(".")[0] for engine in engines}
    room = name.partition("/")[0]
    if room in rooms or room == "data_prep":
        return room in mine or room == "data_prep"
    if name in {f"{REFERENCES}{engine}.json" for engine in ENGINES}:
        return name in {f"{REFERENCES}{engine}.json" for engine in engines}
    return not name.endswith(".py")


def _is_imported(changed: Iterable[str], engines: Iterable[str], repository: Path) -> bool:
    """Whether a module changed that measuring imports, or one that is gone or no Python any longer."""
    others = {ENGINES[engine].partition(".")[0] for engine in ENGINES.keys() - {*engines}}
    names = {
        module_name(Path(name))
        for name in changed
        if name.endswith(".py") and not _touches_none(name) and name.partition("/")[0] not in others
    }
    if not names:
        return False
    files = modules(repository)
    if names - files.keys():
        return True
    try:
        return bool(names & (COMMAND | reached([*MEASURING, *(ENGINES[engine] for engine in engines)], files)))
    except SyntaxError:
        return True
