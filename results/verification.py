"""Proving a registry: every file of it, one record at a time, and what records must agree on among each other.

No record may end it with an error, or keep another from being checked. No more than one record is held at a time.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from results import registered, weights
from results.entries import Entry, entry_of
from results.errors import RegistryError, field_and_message
from results.record import Record, checks, content_of, from_bytes, seal_problems
from results.record.canonical import digest
from results.record.migrations import dropped_problems
from results.registry import ExtraCheck, Problem, file_content

SERIAL = 200  # up to so many records no other process is worth its start
CHUNK = 50  # records that a process is given at a time
# What an unfinished or killed `results.files.write_atomically` leaves: ".<name of the file>.<8 characters>.tmp".
_UNFINISHED = re.compile(r"\.[^/]+\.(json|weights|safetensors)\.[a-z0-9_]{8}\.tmp")


class Claim(NamedTuple):
    """What a record says of a network: the same weights, evaluated in the same way, have the same outcome."""

    network: str
    outcome: str


class Checked(NamedTuple):
    """One file: its problems; if it has none that keep it from being read, what the table and other records need."""

    path: Path
    problems: list[checks.FieldProblem]
    entry: Entry | None
    claim: Claim | None


class Verified(NamedTuple):
    """A registry's problems by file, the records that the table is made of, and how many records there are."""

    problems: list[Problem]
    entries: list[Entry]
    records: int


def verify(
    root: Path,
    extra_checks: Iterable[ExtraCheck] = (),
    processes: int | None = None,
    checked: Callable[[], None] = lambda: None,
) -> Verified:
    """Check every file under `root`, and the weights beside it. The order of what is found depends on names alone.

    Args:
        extra_checks: functions of a record that give (field, message) pairs.
        processes: at a time; one a core if None.
        checked: called after each file.
    """
    files, found = record_files(root)
    claims: dict[str, list[tuple[Path, str]]] = {}
    entries = []
    for path, problems, entry, claim in _checked(files, root, tuple(extra_checks), processes):
        checked()
        found += [Problem(path, *problem) for problem in problems]
        if entry is not None and not problems:
            entries.append(entry)
        if claim is not None:
            claims.setdefault(claim.network, []).append((path, claim.outcome))
    found += contradictions(claims)
    found += stray_weights(root)
    found += [Problem(*problem) for problem in registered.problems(root)]
    return Verified(sorted(found, key=lambda problem: problem.path), entries, len(files))


def record_files(root: Path) -> tuple[list[Path], list[Problem]]:
    """The files of records, sorted, and a problem for everything else: the registry holds nothing besides.

    `<root>/<benchmark>/<id>.json` alone, regular files in folders; and what an unfinished write leaves, a name like
    `.<id>.json.k3_x9a0b.tmp`, which is passed over.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    for folder in _listed(root, problems):
        if not folder.is_dir(follow_symlinks=False):
            problems.append(_unexpected(folder, "a folder of a benchmark's records"))
            continue
        for entry in _listed(Path(folder.path), problems):
            if not _UNFINISHED.fullmatch(entry.name):
                named = entry.name.endswith(".json") and not entry.name.startswith(".")
                if named and entry.is_file(follow_symlinks=False):
                    files.append(Path(entry.path))
                else:
                    problems.append(_unexpected(entry, "a record, <id>.json"))
    return files, problems


def _listed(folder: Path, problems: list[Problem]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []  # before the first record
    except OSError as error:
        problems.append(Problem(folder, "content", f"cannot be read: {error.strerror or error}"))
        return []


def _unexpected(entry: os.DirEntry[str], expected: str) -> Problem:
    kind = "a link" if entry.is_symlink() else "a folder" if entry.is_dir() else "a file"
    if kind == "a file" and not entry.is_file():
        kind = "a pipe or device"
    return Problem(Path(entry.path), "content", f"is {kind} that does not belong here, expected {expected}: remove it")


# -- one record --------------------------------------------------------------------------------------------------------


def _checked(
    files: list[Path], root: Path, extra_checks: tuple[ExtraCheck, ...], processes: int | None
) -> Iterator[Checked]:
    """Each file's outcome, in the order of the files."""
    processes = processes or _usable_cores()
    if len(files) <= SERIAL or processes == 1:
        yield from (check_file(path, root, extra_checks) for path in files)
        return
    check = functools.partial(check_file, root=root, extra_checks=extra_checks)
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(check, files, chunksize=CHUNK)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_file(path: Path, root: Path, extra_checks: Iterable[ExtraCheck] = ()) -> Checked:
    """All that is to be known of one file of the registry at `root`. Raises nothing."""
    try:
        data = file_content(path)
    except RegistryError as error:
        return Checked(path, [field_and_message(error, path)], None, None)
    in_place = (functools.partial(in_folder, path, root), functools.partial(_weights, root))
    return check_content(data, path, (*in_place, *extra_checks))


def check_content(data: bytes, path: Path, extra_checks: Iterable[ExtraCheck] = ()) -> Checked:
    """All that is to be known of the content of one file, wherever it lies. Raises nothing.

    extra_checks: of a record that is consistent with itself.
    """
    try:
        record = from_bytes(data, str(path))
        found = list(seal_problems(data, path.stem, str(path)))
    except RegistryError as error:
        return Checked(path, [field_and_message(error, path)], None, None)
    except Exception as error:
        return Checked(path, [checks.unchecked(error)], None, None)
    dropped = functools.partial(_dropped, data)
    inconsistent = checks.problems(record) or checks.guarded(dropped, record)
    if inconsistent:  # what comes now reckons with what stands there
        return Checked(path, found + inconsistent, None, None)
    for check in extra_checks:
        found += checks.guarded(check, record)
    return Checked(path, found, entry_of(record), claim_of(record))


def in_folder(path: Path, root: Path, record: Record) -> Iterator[checks.FieldProblem]:
    """Whether a record's file lies in its benchmark's folder."""
    if path.parent != root / record.benchmark:
        yield "benchmark", f"is {record.benchmark}, but the file is not in that folder"


def _dropped(data: bytes, record: Record) -> Iterator[checks.FieldProblem]:
    return dropped_problems(content_of(data, record.id), record)


def _weights(root: Path, record: Record) -> Iterator[checks.FieldProblem]:
    return (("published_weights", f"the file {problem}") for problem in weights.problems(record, root))


# -- records among each other ------------------------------------------------------------------------------------------


def claim_of(record: Record) -> Claim | None:
    """What a consistent record says of its declared network; None if it has none."""
    if record.results is None:
        return None
    model, protocol = record.recipe.settings.get("model", {}), record.recipe.settings.get("protocol", {})
    evaluation = [model.get("evaluation_weights"), model.get("evaluation_statistics", "running")]
    evaluation += [protocol.get("evaluation_batch_size"), record.data.test.digest]
    return Claim(digest([record.weights_sha256, *evaluation]), digest(record.test_correct))


def contradictions(claims: Mapping[str, Sequence[tuple[Path, str]]]) -> Iterator[Problem]:
    """Problems of the records of one network that say otherwise of it. claims: network -> records, their outcomes."""
    for of_network in claims.values():
        if len({outcome for _, outcome in of_network}) > 1:
            for path, outcome in of_network:
                other = next(p for p, o in of_network if o != outcome)
                message = f"is that of {other.parent.name}/{other.stem} too, which has other test images right"
                yield Problem(path, "weights_sha256", message)


def stray_weights(root: Path) -> Iterator[Problem]:
    """Weights without a record, and what is no weights beside weights."""
    problems: list[Problem] = []
    for folder in _listed(weights.folder_of(root), problems):
        if not folder.is_dir(follow_symlinks=False):
            continue
        for entry in _listed(Path(folder.path), problems):
            path, known = Path(entry.path), (root / folder.name).is_dir()
            record = root / folder.name / f"{path.stem}.json"
            if _UNFINISHED.fullmatch(entry.name):
                continue
            if entry.name.endswith(weights.SUFFIXES) and not entry.name.startswith("."):
                if not record.exists():
                    message = f"belongs to no record: there is no {record.name}; remove it"
                    problems.append(Problem(path, "content", message))
                elif weights.present(path.with_suffix(weights.SUFFIX)) != path:
                    message = "lies beside the .safetensors file that has taken its place; remove it"
                    problems.append(Problem(path, "content", message))
                elif entry.is_symlink():
                    problems.append(_unexpected(entry, "the weights themselves"))
            elif known:  # a folder of that name may be somebody's own where the records are not in the repository
                problems.append(_unexpected(entry, f"a record's weights, <id>{weights.SUFFIX}"))
    yield from problems
