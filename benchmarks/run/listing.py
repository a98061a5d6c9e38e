"""The runs of a folder of runs, each with where it stands: for `runs` and `plan`, which change nothing.

Only little is read of each: thousands are listed in a moment. What is read is not proved, as `resume` proves it.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks.run.folder import NEWEST, PREVIOUS
from benchmarks.run.lock import is_held
from benchmarks.run.seals import SealError, open_json, read_file
from benchmarks.run.state import Manifest, SittingLog

RECENT = 20  # epochs whose median time says how long the others take
# What a file of a run raises that is damaged, or is none.
DAMAGE = (
    *(OSError, SealError, ValueError, KeyError, TypeError, RecursionError),
    *(msgspec.MsgspecError, zipfile.BadZipFile),
)
State = Literal["running", "interrupted", "registered", "finished", "diverged", "damaged"]


class LocalRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run's folder and where the run stands; errors in percent, None where there is nothing to say.

    name: "<benchmark>/<folder>", as `resume` takes it. state: "running": a process is at it; "interrupted": none is,
    and it is not over; "registered": finished, and its record is in the registry; "damaged": `problem` says why it
    cannot be read. epoch: the last one that is stored; valid_error, test_error: of that epoch. seconds_left: how long a
    running one takes, by its last epochs. bytes: of all files of the folder.
    """

    name: str
    path: str
    state: State
    benchmark: str
    seed: int | None = None
    engine: str | None = None
    device: str | None = None
    precision: str | None = None
    epoch: int = 0
    epochs: int | None = None
    valid_error: float | None = None
    test_error: float | None = None
    epoch_seconds: float | None = None
    seconds_left: float | None = None
    record: str | None = None
    bytes: int = 0
    problem: str = ""


class _Curve(msgspec.Struct):
    """Columns of a curve."""

    epoch: list[int] = []
    valid_error: list[float] = []
    test_error: list[float] = []
    seconds: list[float] = []


class Stored(msgspec.Struct):
    """What a checkpoint says of a run: its curve and its sittings."""

    curve: _Curve
    sittings: list[SittingLog] = []


class _Record(msgspec.Struct):
    """Fields of a record."""

    id: str
    outcome: str
    curve: _Curve


def local_runs(root: Path, registry: Path) -> list[LocalRun]:
    """Every run under `root`, by benchmark and time of its beginning; none where there is no such folder."""
    return [local_run(path, registry) for path in run_folders(root)]


def run_folders(root: Path, benchmark: str = "*") -> list[Path]:
    """The folders of runs under `root`, sorted."""
    return sorted(path.parent for path in root.glob(f"{benchmark}/*/run.json"))


def local_run(path: Path, registry: Path) -> LocalRun:
    """Where the run of a folder stands."""
    known: dict[str, Any] = {"name": f"{path.parent.name}/{path.name}", "path": str(path), "bytes": _size(path)}
    known["benchmark"] = path.parent.name
    try:
        manifest = manifest_of(path)
        known |= {"seed": manifest.seed, "engine": manifest.engine, "device": manifest.device}
        known |= {"precision": manifest.precision, "epochs": manifest.settings["train"]["epochs"]}
        running = is_held(path)
        record = _record(path)
        stored = None if record else stored_of(path)
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        return LocalRun(state="damaged", problem=reason.splitlines()[0], **known)
    curve = record.curve if record else stored.curve if stored else _Curve()
    seconds = statistics.median(curve.seconds[-RECENT:]) if curve.seconds else None
    known |= {
        "epoch": len(curve.epoch),
        "valid_error": curve.valid_error[-1] if curve.valid_error else None,
        "test_error": curve.test_error[-1] if curve.test_error else None,
        "epoch_seconds": seconds,
    }
    if record is not None:
        return LocalRun(state=_ended(record, path.parent.name, registry), record=record.id, **known)
    if not running:
        return LocalRun(state="interrupted", **known)
    return LocalRun(state="running", seconds_left=_seconds_left(path, known), **known)


def manifest_of(path: Path) -> Manifest:
    """What run.json says.

    Raises:
        OSError, SealError, msgspec.DecodeError: it cannot be read, is damaged, or of another version.
    """
    return msgspec.json.decode(open_json(read_file(path / "run.json"))[1], type=Manifest)


def stored_of(path: Path) -> Stored | None:
    """What the newest checkpoint says of the run, its arrays unread; None before the first."""
    for name in (NEWEST, PREVIOUS):
        if (path / name).exists() and not (path / name).is_file():
            raise SealError(f"{path / name} is no file")
        with contextlib.suppress(FileNotFoundError), zipfile.ZipFile(path / name) as archive:
            array = archive.read("facts.npy")
            # An array of bytes in NumPy's format 1: ten bytes, of which the last two are the length of a header.
            text = array[10 + int.from_bytes(array[8:10], "little") :]
            return msgspec.convert(json.loads(text), Stored)
    return None


def _record(path: Path) -> _Record | None:
    try:
        return msgspec.json.decode(read_file(path / "record.json"), type=_Record)
    except FileNotFoundError:
        return None


def _ended(record: _Record, benchmark: str, registry: Path) -> State:
    if record.outcome != "finished":
        return "diverged"
    return "registered" if (registry / benchmark / f"{record.id}.json").exists() else "finished"


def _seconds_left(path: Path, known: dict[str, Any]) -> float | None:
    """As long as the epochs that are not stored take, less the time since the last one was."""
    if known["epoch_seconds"] is None:
        return None
    left: float = (known["epochs"] - known["epoch"]) * known["epoch_seconds"]
    with contextlib.suppress(FileNotFoundError):
        left -= time.time() - (path / NEWEST).stat().st_mtime
    return max(0.0, left)


def _size(path: Path) -> int:
    return sum(entry.stat(follow_symlinks=False).st_size for entry in _files(path))


def _files(path: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry
