"""One try of a queued run: begin it or go on with it, by a command of its commit's code, while the lease is held."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from benchmarks.errors import OneLineError
from benchmarks.machine.facts import usable_cores
from benchmarks.queue.child import dying_with
from benchmarks.queue.folder import FailedTry, Over, QueueFolder
from benchmarks.queue.frozen import environment_of
from benchmarks.queue.queued import QueuedRun
from benchmarks.run.listing import DAMAGE, manifest_of, stored_of
from benchmarks.run.seals import read_file
from benchmarks.start import INTERRUPTED
from results import registered
from results.errors import RegistryError
from results.index import entries
from results.leases import Lease, LostError
from results.members import members
from results.registered import Registration

TRIES = 2  # that may fail with no epoch stored in between
LOOK_SECONDS = 1.0  # between two looks at whether a run is still to go on
_PATIENCE = 60.0  # seconds that an interrupted run has to end by itself
_TAIL = 4096  # bytes of a log, in which its last line is looked for
# What runs say that cannot go on here, or not now.
_ELSEWHERE, _BUSY = "--allow-change", "is being worked on by another process"

# "done", "diverged", "failed" (twice), "cancelled": it is over. "again": it failed, and may be tried once more.
# "interrupted": this process was. "lost": another has the lease. "elsewhere": not on this machine. "busy": a process of
# its own that was left over is still at it. "full": the disk is.
State = Literal["done", "diverged", "failed", "cancelled", "again", "interrupted", "lost", "elsewhere", "busy", "full"]


class Place(NamedTuple):
    """Where runs are carried out. where: its kind, as status shows it; environment: what commands get beside it."""

    where: str
    data_root: Path
    threads: int
    environment: Mapping[str, str]


class Attempt(NamedTuple):
    """What came of a try, and why; of whatever went wrong one line."""

    state: State
    reason: str = ""


class _Record(msgspec.Struct):
    id: str
    outcome: str


def attempt(queue: QueueFolder, run: QueuedRun, lease: Lease, place: Place, stopping: threading.Event) -> Attempt:
    """Carry out one try, and write down what came of it.

    Args:
        stopping: when it is set, the run is interrupted: it stores where it is.

    Raises:
        OSError, RegistryFileError: the queue's folder cannot be read or written.
    """
    if found := _recorded_elsewhere(queue, run):
        return _over(queue, run, found, place)
    begun = find_begun(queue, run)
    if begun is not None:
        threads, cores = manifest_of(begun).threads, usable_cores()
        if threads > cores and not run.allow_change:
            return Attempt("elsewhere", f"it computes with {threads} threads, and here are {cores} cores")
        _note(queue, run, registered.launched)
    code, log = _carry_out(queue, run, begun, lease, place, stopping)
    return _judge(queue, run, lease, place, code, log)


def find_begun(queue: QueueFolder, run: QueuedRun) -> Path | None:
    """The folder of the run, if it was begun: the one that is over, else the one that has stored most epochs."""
    found = []
    for path in sorted((queue.runs_of(run.commit) / run.benchmark).glob(f"*-s{run.seed}*/run.json")):
        with contextlib.suppress(*DAMAGE):  # it is begun anew
            manifest = manifest_of(path.parent)
            if manifest.seed == run.seed and run.fits(manifest):
                found.append(path.parent)
    return max(found, key=lambda folder: (_record_of(folder) is not None, epoch_of(folder)), default=None)


# -- the command -------------------------------------------------------------------------------------------------------


def arguments_of(queue: QueueFolder, run: QueuedRun, begun: Path | None, place: Place) -> list[str]:
    """The command line after `python cli.py`."""
    if begun is None:
        threads = [] if "--threads" in run.arguments else ["--threads", str(place.threads)]
        arguments = [*run.arguments, *threads, "--runs", str(queue.runs_of(run.commit))]
    else:
        arguments = ["resume", str(begun), *(["--allow-change"] if run.allow_change else [])]
    registry = os.path.normpath(queue.path / run.registry)
    return [*arguments, "--data", str(place.data_root.absolute()), "--registry", registry]


def _carry_out(
    queue: QueueFolder, run: QueuedRun, begun: Path | None, lease: Lease, place: Place, stopping: threading.Event
) -> tuple[int, Path]:
    """Exit code and log of the command; it ends with this process, however that ends."""
    code = queue.code_of(run.commit)
    command = [sys.executable, str(code / "cli.py"), *arguments_of(queue, run, begun, place)]
    environment = os.environ | dict(place.environment) | environment_of(code)
    log = queue.log_of(run.name, lease.number)
    with log.open("ab") as output:
        output.write(f"{place.where}: {' '.join(command[1:])}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command, cwd=code, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=dying_with(os.getpid()),  # noqa: PLW1509 - it is one system call
        )  # fmt: skip
    return _wait(process, queue, run, lease, stopping), log


def _wait(
    process: subprocess.Popen[bytes], queue: QueueFolder, run: QueuedRun, lease: Lease, stopping: threading.Event
) -> int:
    """Until it has ended, or is to end: at once where another has the lease, else as by Ctrl-C."""
    told: float | None = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK_SECONDS)
        try:
            lease.check()
        except LostError:
            _kill(process)
            return process.wait()
        if told is None and (stopping.is_set() or queue.end_of(run.name) is not None):
            process.terminate()
            told = time.monotonic()
        if told is not None and time.monotonic() - told > _PATIENCE:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# -- what came of it ---------------------------------------------------------------------------------------------------


def _judge(queue: QueueFolder, run: QueuedRun, lease: Lease, place: Place, code: int, log: Path) -> Attempt:
    begun = find_begun(queue, run)
    record = None if begun is None else _record_of(begun)
    reason = _last_line(log)
    try:
        lease.check()
    except LostError:
        return Attempt("lost", "another process has taken the lease over, or may have")
    # A record of a run that counts is over once the registry has it, which exit code 1 may be about.
    if record is not None and (code == 0 or record.outcome != "finished" or not run.scoring):
        return _over(queue, run, record, place)
    if queue.end_of(run.name) == "cancelled":
        return Attempt("cancelled")
    no_fault: dict[State, bool] = {
        "interrupted": code in (INTERRUPTED, -signal.SIGTERM, -signal.SIGINT),
        "full": is_full(reason),
        "elsewhere": _ELSEWHERE in reason,
        "busy": _BUSY in reason,
    }
    for state, is_so in no_fault.items():
        if is_so:
            return Attempt(state, reason)
    return _failed(queue, run, lease, place, code, reason, 0 if begun is None else epoch_of(begun))


def is_full(reason: str) -> bool:
    """Whether a disk or a quota is, by the words of the system."""
    return any(os.strerror(number) in reason for number in (errno.ENOSPC, errno.EDQUOT))


def _over(queue: QueueFolder, run: QueuedRun, record: _Record, place: Place) -> Attempt:
    end: Literal["done", "diverged"] = "done" if record.outcome == "finished" else "diverged"
    queue.write_over(run.name, Over(end=end, record=record.id, where=place.where))
    return Attempt(end)


def _failed(
    queue: QueueFolder, run: QueuedRun, lease: Lease, place: Place, code: int, reason: str, epoch: int
) -> Attempt:
    """Write down that the try failed; with it the run has, if the one before came no less far."""
    if code < 0:
        reason = f"ended by {signal.Signals(-code).name}: {reason}"
    queue.write_failed_try(
        run.name, FailedTry(number=lease.number, exit_code=code, epoch=epoch, reason=reason, where=place.where)
    )
    _note(queue, run, lambda root, group, seed: registered.stopped(root, group, seed, f"ended with exit code {code}"))
    same = [one for one in queue.failed_tries(run.name) if one.epoch == epoch]
    if len(same) < TRIES:
        return Attempt("again", reason)
    reasons = list(dict.fromkeys(one.reason for one in same[-TRIES:]))
    reason = "; then: ".join(reasons)
    queue.write_over(run.name, Over(end="failed", reason=reason, where=place.where))
    return Attempt("failed", reason)


def _last_line(log: Path) -> str:
    """The last error that a command printed, else its last line."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or [""])[-1].removeprefix("error: ")
    return "its log cannot be read"


def _record_of(folder: Path) -> _Record | None:
    with contextlib.suppress(*DAMAGE):
        return msgspec.json.decode(read_file(folder / "record.json"), type=_Record)
    return None


def epoch_of(folder: Path) -> int:
    """The last epoch that a run has stored; 0 before the first."""
    with contextlib.suppress(Exception):  # whatever is wrong with it, `resume` says
        stored = stored_of(folder)
        return 0 if stored is None else len(stored.curve.epoch)
    return 0


# -- the registry ------------------------------------------------------------------------------------------------------


def _registration(queue: QueueFolder, run: QueuedRun) -> tuple[Path, Registration] | None:
    """The registry, and the registered group that the run is of: the latest that there was when it was queued.

    Groups of other data have the same recipe, engine and precision.
    """
    if not run.registered:
        return None
    root, what = Path(os.path.normpath(queue.path / run.registry)), (run.digest, run.engine, run.precision)
    fits = [
        group
        for group in registered.read(root, run.benchmark)
        if (group.key.digest, group.key.engine, group.key.precision) == what and group.time <= run.registered
    ]
    return (root, fits[-1]) if fits and run.seed in fits[-1].seeds else None


def _recorded_elsewhere(queue: QueueFolder, run: QueuedRun) -> _Record | None:
    """The record that the registry has for this seed of the registered group."""
    found = _registration(queue, run)
    if found is None:
        return None
    root, group = found
    records = [entry for entry in entries(root, lambda _: None) if entry.benchmark == run.benchmark]
    member = next(seed for seed in members(group, records).seeds if seed.seed == run.seed)
    if member.run is None or member.state not in ("finished", "diverged"):
        return None
    return _Record(member.run.id, member.state)


def _note(queue: QueueFolder, run: QueuedRun, event: Callable[[Path, Registration, int], object]) -> None:
    """Write down what happens to a run of a registered group; that this cannot be done stops no run."""
    with contextlib.suppress(RegistryError, OneLineError):
        if (found := _registration(queue, run)) is not None:
            event(*found, run.seed)
