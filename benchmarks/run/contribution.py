"""What somebody contributes: the files of some runs of one benchmark, and the text of the pull request.

The files are those of a registry: records, the weights published with them, and all lines of their registered groups,
those of seeds that are missing too. What is derived, the table and the README, is no part of it.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import re
import shlex
import socket
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET

from benchmarks.errors import RunError
from benchmarks.recipe import usable_summaries
from benchmarks.verdict import check_record
from benchmarks.verdict.every import judge_all
from benchmarks.verdict.report import brief
from results import registered, registry, weights
from results.entries import Run
from results.errors import RegistryError
from results.escape import for_markdown
from results.events import SEEDS, SIZES, Event, name_of, order_of
from results.groups import key_of
from results.lines import line_of
from results.members import members
from results.record import Record, RecordedEngine, Sitting
from results.record.canonical import leaves, to_builtins
from results.registered import Registration
from results.verification import check_file

KINDS = {"read": "read at its source", "mem": "from memory", "2nd": "from a secondary source"}
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:[\w.+-]+/)+[\w.+-]*|\b[A-Za-z]:[\\/](?![\\/])")


class Contribution(NamedTuple):
    """files: content by name, below a folder; title and body of the pull request, in Markdown."""

    files: dict[str, bytes]
    title: str
    body: str


def contribution(records: Sequence[Record], recorded: Sequence[Run], root: Path) -> Contribution:
    """The contribution of some runs.

    Args:
        records: the runs, each a record of the registry.
        recorded: all that the registry has.
        root: the registry.

    Raises:
        RunError: a run is no contribution, and why: not scoring, other code than that of a commit, killed, a path.
        RegistryError: a record, or the file of its group, is not what it must be.
    """
    records = sorted(records, key=lambda record: record.seed)
    key = key_of(records[0])
    if any(key_of(record) != key for record in records):
        raise RunError("no contribution: these runs are not averaged: expected one benchmark, engine and precision")
    if len({record.seed for record in records}) < len(records):
        raise RunError("no contribution: two runs have the same seed: submit the repetition by itself")
    for record in records:
        _check(record, root)
    events = registered.checked_events(registered.path_of(root, key.benchmark))
    lines = sorted({event for event in events if event.group == name_of(key)}, key=order_of)
    _check_lines(lines)
    return Contribution(dict(_files(records, lines, root)), _title(records), _body(records, lines, recorded, root))


# -- what is no contribution -------------------------------------------------------------------------------------------


def _check(record: Record, root: Path) -> None:
    path = root / record.benchmark / f"{record.id}.json"
    name = f"{record.benchmark}, seed {record.seed} ({record.id})"
    if problems := list(_obstacles(record)):
        raise RunError(f"{name}: no contribution: {'; '.join(problems)}")
    if not path.exists():
        raise RunError(
            f"{name}: is not in the registry {root}: `python cli.py resume RUN` of a run that is over puts it there"
        )
    for field, message in check_file(path, root, [check_record]).problems:
        raise RegistryError(f"{path}: {field}: {message}", field)


def _obstacles(record: Record) -> Iterator[str]:
    if record.outcome == "killed":
        yield "the run was killed before its end: `python cli.py resume RUN` goes on with it"
    if not record.recipe.scoring:
        changed = ", ".join(difference.key for difference in record.recipe.differences)
        yield f"it does not score: other {changed} than published"
    if any(sitting.commit is None for sitting in record.sittings):
        yield "no commit is known of its code: expected a run in a checkout of git's (`python cli.py doctor`)"
    elif dirty := sorted({str(sitting.commit)[:8] for sitting in record.sittings if sitting.dirty}):
        yield f"its code was not that of a commit: files differed from {', '.join(dirty)}; expected a run of clean code"
    facts = {"harness": record.harness, "sittings": record.sittings}
    if record.unpublished_reason is not UNSET:
        facts["unpublished_reason"] = record.unpublished_reason
    for field, value in leaves(to_builtins(facts)):
        if isinstance(value, str) and (found := local(value)):
            yield f"{field} has {found}"


def _check_lines(lines: Iterable[Event]) -> None:
    for event in lines:
        if found := local(str(getattr(event, "reason", ""))):
            raise RunError(f"no contribution: the registered group's line of {event.time} has {found}")


def local(text: str) -> str:
    """What a text has of this machine alone: an absolute path, the name of the host or of the user; "" if nothing."""
    if path := _ABSOLUTE.search(text):
        return f"a path of a machine ({path[0]})"
    user = ""
    with contextlib.suppress(KeyError, OSError):  # a user without a name
        user = getpass.getuser()
    host = socket.gethostname()
    for kind, name in (("the name of this host", host), ("the name of this user", user)):
        if (
            len(name) > 2
            and name not in ("localhost", "root")
            and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
        ):
            return f"{kind} ({name})"
    return ""


# -- what is one -------------------------------------------------------------------------------------------------------


def _files(records: Sequence[Record], lines: Sequence[Event], root: Path) -> Iterator[tuple[str, bytes]]:
    for record in records:
        path = root / record.benchmark / f"{record.id}.json"
        yield f"results/runs/{record.benchmark}/{path.name}", registry.file_content(path)
        if record.published_weights is not UNSET:
            published = weights.path_of(root, record.benchmark, record.id)
            yield f"results/weights/{record.benchmark}/{published.name}", published.read_bytes()
    if lines:
        yield f"results/registered/{records[0].benchmark}{registered.SUFFIX}", b"".join(map(line_of, lines))


def _title(records: Sequence[Record]) -> str:
    target, engine = records[0].target, records[0].engine
    errors = [
        record.results.counted.test_error for record in records if record.results and record.outcome == "finished"
    ]
    places = target.decimals + 1
    result = f"{statistics.fmean(errors):.{places}f} %" if errors else "no result"
    against = "" if target.test_error is None else f" against {target.test_error:.{target.decimals}f} %"
    return f"{records[0].benchmark}: {_seeds(records)} on {engine.name} {engine.device}, {result}{against}"


def _seeds(records: Sequence[Record]) -> str:
    return f"seed{'s' * (len(records) > 1)} {', '.join(str(record.seed) for record in records)}"


def _body(records: Sequence[Record], lines: Sequence[Event], recorded: Sequence[Run], root: Path) -> str:
    key = key_of(records[0])
    group = next((group for group in registered.read(root, key.benchmark) if group.key == key), None)
    of_key = [run for run in recorded if run.benchmark == key.benchmark and key_of(run) == key]
    parts = {
        "Claim": _claim(records[0]),
        "Result": "\n".join(_results(records)),
        "Verdict": "\n".join(_verdict(records, of_key, group)),
        "Code and machine": "\n".join(_computed(records)),
        "To measure it again": _command(records, lines),
    }
    return "".join(f"## {heading}\n\n{text}\n\n" for heading, text in parts.items()).rstrip("\n") + "\n"


def _claim(record: Record) -> str:
    target = record.target
    if target.test_error is None:
        return f"{for_markdown(record.paper)} publishes no number for `{record.benchmark}`."
    percent = f"{target.test_error:.{target.decimals}f} % of {target.test_images:,} test images"
    return f"{for_markdown(record.paper)}: {percent} wrong ({for_markdown(target.source)}; {KINDS[target.kind]})."


def _results(records: Iterable[Record]) -> Iterator[str]:
    yield "| seed | test error (%) | epoch | outcome | record | weights |"
    yield "| --: | --: | --: | --- | --- | --- |"
    for record in records:
        error, epoch = "-", "-"
        if record.results is not None:
            error = f"{record.results.counted.test_error:.{record.target.decimals + 1}f}"
            epoch = str(record.results.declared.epoch)
        published = "not published" if record.published_weights is UNSET else "published"
        yield f"| {record.seed} | {error} | {epoch} | {record.outcome} | `{record.id}` | {published} |"


def _verdict(records: Sequence[Record], of_key: Sequence[Run], group: Registration | None) -> Iterator[str]:
    """The verdict on the group of these runs, by all that the registry has of it."""
    benchmark = [records[0].benchmark]
    targets = {summary.id: summary.target for summary in usable_summaries(benchmark, lambda _: None)}
    yield "```text"
    for verdict in judge_all(of_key, [group] if group else [], targets, benchmark):
        yield from brief(verdict)
    yield "```"
    if group is None:
        return
    found, submitted = members(group, of_key), {record.id for record in records}
    for out in found.left_out:
        if out.run.id in submitted:
            yield f"\nSeed {out.run.seed} (`{out.run.id}`) is no run of the registered group: {out.reason}."
    others = [seed for seed in found.seeds if seed.run is None or seed.run.id not in submitted]
    if others:
        states = ", ".join(f"{seed.seed} ({seed.state})" for seed in others)
        yield f"\nSeeds of the registered group that are not in this contribution: {states}."


def _computed(records: Iterable[Record]) -> Iterator[str]:
    """A line of each run's code and machine, of several lines where these changed."""
    for record in records:
        described = [(_computed_by(sitting, record.engine), sitting) for sitting in record.sittings]
        for words, parts in itertools.groupby(described, lambda part: part[0]):
            sittings = [sitting for _, sitting in parts]
            epochs = f"epochs {sittings[0].first_epoch} to {sittings[-1].last_epoch}"
            hours = sum(sitting.seconds for sitting in sittings) / 3600
            yield f"- seed {record.seed}: {words}: {epochs} in {hours:.2f} h"


def _computed_by(sitting: Sitting, last: RecordedEngine) -> str:
    """last: the engine of the run's last sitting, where this one's is not recorded."""
    engine, machine = sitting.engine or last, sitting.machine
    versions = ", ".join(f"{name} {version}" for name, version in engine.versions.items())
    processor = "" if machine is None or machine.processor == engine.device_name else f", {machine.processor}"
    words = f"{engine.name} on {engine.device_name}{processor} ({versions})"
    return f"commit `{sitting.commit}`, {for_markdown(words)}"


def _command(records: Sequence[Record], lines: Sequence[Event]) -> str:
    """What reproduces these runs, on a machine as theirs bit by bit."""
    engine = records[-1].engine
    seeds = {record.seed for record in records}
    words = ["python", "cli.py", "reproduce", records[0].benchmark, "--engine", engine.name, "--device", engine.device]
    words += [] if engine.precision == "float32" else ["--precision", engine.precision]
    words += ["--threads", str(engine.threads)] if engine.device == "cpu" else []
    is_group = lines and len(seeds) in SIZES and seeds == set(SEEDS[: len(seeds)])
    words += ["--seeds", str(len(seeds))] if is_group else ["--seed", ",".join(map(str, sorted(seeds)))]
    return f"```sh\ngit checkout {records[-1].sittings[-1].commit}\n{shlex.join(words)}\n```"
