"""Bringing the records, weights, registered groups and re-evaluations of other machines and people into a registry.

A registry is four sets: records, each named by its content; weights, each named by its record; lines of registered
groups, each of which names its group; and lines of re-evaluations, each of which names its record. To merge is to have
all that any of them has, so nothing depends on the order in which registries are merged, or on how often. What has a
problem is refused whole, and the rest comes in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET

from results import lines, reevaluations, registered, registry, weights
from results.entries import Entry
from results.errors import RegistryError, RegistryFileError, field_and_message
from results.events import Event
from results.index import entries
from results.lines import SUFFIX
from results.record import Record, checks
from results.reevaluations import Reevaluation
from results.registry import ExtraCheck, Problem, file_content
from results.verification import (
    Claim,
    check_content,
    check_file,
    contradictions,
    in_folder,
    record_files,
    stray_weights,
)

EXPECTED = (
    "a registry (runs/, weights/, registered/, reevaluated/), a folder of records, <id>.json, or <benchmark>.jsonl"
)


class Source(NamedTuple):
    """What lies where a user says that there is something: files. root: of the registry there; None of loose files."""

    records: list[Path]
    groups: list[Path]
    problems: list[Problem]
    reevaluations: Sequence[Path] = ()
    root: Path | None = None


class Merged(NamedTuple):
    """What came in, or would: records, and how many were there already; lines of groups by benchmark; what did not.

    in_order: benchmarks of which the lines of groups were put in order. reevaluations: new ones by benchmark.
    """

    added: list[Entry]
    known: int
    lines: dict[str, int]
    in_order: list[str]
    reevaluations: dict[str, int]
    refused: list[Problem]


class _Incoming(NamedTuple):
    path: Path
    data: bytes
    weights: Path
    entry: Entry
    claim: Claim | None


def source(path: Path) -> Source:
    """What lies at a place: see EXPECTED; of a checkout of this project its results.

    Raises RegistryFileError if there is nothing of that.
    """
    if path.is_file() and path.suffix == ".json":
        return Source([path], [], [])
    if path.is_file() and path.suffix == SUFFIX:
        return Source([], [path], [])
    for folder in (path / "results", path):
        if any((folder / name).is_dir() for name in ("runs", "registered")):
            return _registry(folder / "runs")
    if loose := sorted(file for file in path.glob("*.json") if not file.name.startswith(".")):
        return Source(loose, [], [])
    if any(path.glob("*/*.json")):
        return _registry(path)
    raise RegistryFileError(f"{path}: has no record and no registered group: expected {EXPECTED}")


def _registry(root: Path) -> Source:
    records, problems = record_files(root)
    wrong = [Problem(*problem) for problem in registered.problems(root)]
    wrong += [Problem(*problem) for problem in lines.problems(reevaluations.folder_of(root), reevaluations.read_file)]
    unreadable = {problem.path for problem in wrong}
    groups, measured = (
        [path for path in lines.files_in(folder) if path not in unreadable]
        for folder in (registered.folder_of(root), reevaluations.folder_of(root))
    )
    return Source(records, groups, [*problems, *wrong, *stray_weights(root)], measured, root)


def merge(
    paths: Iterable[Path],
    root: Path,
    extra_checks: Iterable[ExtraCheck] = (),
    *,
    file_of: weights.FileOf | None = None,
    dry_run: bool = False,
) -> Merged:
    """Bring what lies at `paths` into the registry at `root`, each record and file of groups whole or not at all.

    Args:
        extra_checks: of records, as of `results.verification.verify`.
        file_of: what weights that come in are stored in, see `weights.store`.

    Raises RegistryFileError if a place has nothing, or the registry cannot be read or written.
    """
    sources = [source(path) for path in paths]
    refused = [problem for found in sources for problem in found.problems]
    incoming: dict[str, _Incoming] = {}
    for found in sources:
        for path in found.records:
            checked = _checked(path, found.root, tuple(extra_checks))
            if isinstance(checked, _Incoming):
                incoming.setdefault(f"{checked.entry.benchmark}/{checked.entry.id}", checked)
            else:
                refused.append(checked)
    new = {name: one for name, one in incoming.items() if not _is_known(one, root)}
    contradicting = _contradicting(new.values(), root)
    refused += contradicting
    added = []
    for one in new.values():
        if one.path not in {problem.path for problem in contradicting}:
            try:
                if not dry_run:
                    _add(one, root, file_of)
                added.append(one.entry)
            except RegistryFileError:
                raise
            except RegistryError as error:  # another file has its name here
                refused.append(Problem(one.path, error.field or "content", str(error)))
    new_lines, in_order, problems = _merge_groups([path for found in sources for path in found.groups], root, dry_run)
    measured = [path for found in sources for path in found.reevaluations]
    new_measured, contradicting = _merge_reevaluations(measured, added, root, dry_run)
    problems += contradicting
    return Merged(added, len(incoming) - len(new), new_lines, in_order, new_measured, [*refused, *problems])


# -- records -----------------------------------------------------------------------------------------------------------


def _checked(path: Path, root: Path | None, extra_checks: tuple[ExtraCheck, ...]) -> _Incoming | Problem:
    """A record that is what it must be, or what is wrong with it first."""
    try:
        data = file_content(path)
    except RegistryError as error:
        return Problem(path, *field_and_message(error, path))
    in_place = () if root is None else (functools.partial(in_folder, path, root),)
    _, problems, entry, claim = check_content(data, path, (*in_place, functools.partial(_weights, path), *extra_checks))
    if problems or entry is None:
        (field, message), *more = problems
        return Problem(path, field, f"{message}; and {len(more)} more" if more else message)
    return _Incoming(path, data, _weights_path(path, entry), entry, claim)


def _weights(path: Path, record: Record) -> Iterator[checks.FieldProblem]:
    where = _weights_path(path, record)
    return (("published_weights", f"the file {where} {problem}") for problem in weights.problems_at(where, record))


def _weights_path(path: Path, record: Record | Entry) -> Path:
    """Where the weights of the record at `path` lie: beside it, or as in a registry."""
    beside = weights.present(path.with_suffix(weights.SUFFIX))
    return beside if beside.exists() else weights.path_of(path.parents[1], record.benchmark, record.id)


def _is_known(one: _Incoming, root: Path) -> bool:
    path = root / one.entry.benchmark / f"{one.entry.id}.json"
    published = weights.path_of(root, one.entry.benchmark, one.entry.id)
    has_weights = one.entry.published_weights is UNSET or published.exists()
    return has_weights and path.is_file() and file_content(path) == one.data


def _contradicting(new: Iterable[_Incoming], root: Path) -> list[Problem]:
    """Problems of new records that say otherwise of a network than another new one, or one that is here."""
    claims: dict[str, list[tuple[Path, str]]] = {}
    for one in new:
        if one.claim is not None:
            claims.setdefault(one.claim.network, []).append((one.path, one.claim.outcome))
    paths = {path for of_network in claims.values() for path, _ in of_network}
    for path in record_files(root)[0] if claims else ():
        claim = check_file(path, root).claim
        if claim is not None and claim.network in claims:
            claims[claim.network].append((path, claim.outcome))
    return [problem for problem in contradictions(claims) if problem.path in paths]


def _add(one: _Incoming, root: Path, file_of: weights.FileOf | None) -> None:
    described = one.entry.published_weights
    packed = None if described is UNSET else weights.packed_at(one.weights, described.bytes)
    registry.add(one.data, root, packed, file_of)


# -- registered groups -------------------------------------------------------------------------------------------------


def _merge_groups(paths: Iterable[Path], root: Path, dry_run: bool) -> tuple[dict[str, int], list[str], list[Problem]]:
    """New lines by benchmark; benchmarks whose lines were put in order; problems. All files here get their normal form.

    So the bytes of a registry depend on what was merged alone, not on what was here before.
    """
    here = lines.files_in(registered.folder_of(root))
    found: dict[str, dict[Path, list[Event]]] = {path.name.removesuffix(SUFFIX): {} for path in here}
    problems = []
    for path in paths:
        if not checks.BENCHMARK.fullmatch(path.name.removesuffix(SUFFIX)):
            problems.append(Problem(path, "content", f"has no benchmark's name, expected <benchmark>{SUFFIX}"))
            continue
        try:
            events = registered.checked_events(path)
        except RegistryError as error:
            problems.append(Problem(path, *field_and_message(error, path)))
            continue
        found.setdefault(path.name.removesuffix(SUFFIX), {})[path] = events
    counts, in_order = {}, []
    for benchmark, files in sorted(found.items()):
        try:
            merged = registered.merge(root, benchmark, files, dry_run=dry_run)
        except RegistryFileError:
            raise
        except RegistryError as error:  # of the file here: nothing comes into it
            problems.append(Problem(registered.path_of(root, benchmark), error.field or "content", str(error)))
            continue
        problems += [Problem(path, "content", why) for path, why in merged.refused]
        if merged.new:
            counts[benchmark] = merged.new
        elif merged.is_changed:
            in_order.append(benchmark)
    return counts, in_order, problems


# -- re-evaluations ----------------------------------------------------------------------------------------------------


def _merge_reevaluations(
    paths: Sequence[Path], added: Iterable[Entry], root: Path, dry_run: bool
) -> tuple[dict[str, int], list[Problem]]:
    """New measurements by benchmark; problems of files, each of which comes in whole or not at all.

    All files here get their normal form, as those of groups. added: records that came in, or would.
    """
    known = {entry.id: entry for entry in (*entries(root, lambda _: None), *added)} if paths else {}
    here = lines.files_in(reevaluations.folder_of(root))
    new: dict[str, set[Reevaluation]] = {path.name.removesuffix(SUFFIX): set() for path in here}
    problems = []
    for path in paths:
        if found := reevaluations.contradictions(path, known):
            problems += [Problem(*problem) for problem in found]
        else:
            new.setdefault(path.name.removesuffix(SUFFIX), set()).update(reevaluations.read_file(path))
    counts = {}
    for benchmark, measured in sorted(new.items()):
        try:
            missing = measured - set(reevaluations.read(root, benchmark))
            counts[benchmark] = len(missing) if dry_run else reevaluations.add(root, benchmark, *missing)
        except RegistryFileError:
            raise
        except RegistryError as error:  # of the file here: nothing comes into it
            problems.append(Problem(reevaluations.path_of(root, benchmark), error.field or "content", str(error)))
    return {benchmark: count for benchmark, count in counts.items() if count}, problems


# -- nothing may be lost -----------------------------------------------------------------------------------------------


def lost(before: Path, root: Path) -> list[Problem]:
    """What the registry at `before` has and that at `root` has not, or has otherwise: nothing is ever removed.

    Raises RegistryFileError as `source`, RegistryError if a file of groups is not what it must be.
    """
    found, problems = source(before), []
    old_root = found.root or before
    for path in found.records:
        here = root / path.parent.name / path.name
        if not here.is_file() or not path.is_file() or file_content(here) != file_content(path):
            problems.append(_changed(here, before))
    problems += [_changed(here, before) for here in _lost_weights(old_root, root)]
    facts: list[tuple[Path, Path, Callable[[Path], Iterable[object]]]] = [
        *((path, registered.folder_of(root), registered.events) for path in found.groups),
        *((path, reevaluations.folder_of(root), reevaluations.read_file) for path in found.reevaluations),
    ]
    for path, folder, read in facts:
        here = folder / path.name
        if gone := len(set(read(path)) - set(read(here))):
            problems.append(Problem(here, "content", f"lacks {gone} lines that {before} has: lines are never removed"))
    return problems


def _changed(here: Path, before: Path) -> Problem:
    return Problem(here, "content", f"is not what {before} has: nothing published is removed or changed")


def _lost_weights(old_root: Path, root: Path) -> Iterator[Path]:
    """Where weights are missing or others. What they are stored in may be another file, and say more of them."""
    folder = weights.folder_of(old_root)
    for path in sorted(path for suffix in weights.SUFFIXES for path in folder.glob(f"*/*{suffix}")):
        here = weights.path_of(root, path.parent.name, path.stem)
        largest = path.stat().st_size
        try:
            if (found := weights.packed_at(here, largest)) is None or found != weights.packed_at(path, largest):
                yield here
        except RegistryFileError:
            raise
        except RegistryError:
            yield here
