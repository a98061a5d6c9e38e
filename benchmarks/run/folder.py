"""A run's own folder: what it is (run.json), where it stands (checkpoint), its best weights, its record and pictures.

    run.json                  recipe, seed, engine, data digests: written once, when the run starts
    checkpoint.npz            engine state and progress after the last stored epoch
    checkpoint-previous.npz   the one before, until the run is over
    weights-epoch-0042.npz    parameters of the declared epoch (of each of the two checkpoints)
    code-0123456789abcdef.zip the code files that differed from the commit, by the digest of the difference
    sittings.json             every sitting, also those that stored nothing
    record.json               when the run is over
    learning-curve.png, tensorboard/

Every file is written beside and renamed, so a kill at any moment leaves the last stored epoch. Weights are written
before the checkpoint that declares them, and removed when neither checkpoint declares them any more.

What is read back is sealed (benchmarks/run/seals.py): a file that is damaged, or of another run, is refused. If it is
the newest checkpoint or its weights, the previous checkpoint is taken. Folders of format 1 have no seals: they are
read, that is said, and what is added to them is sealed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.errors import RunError
from benchmarks.run.lock import RunLock
from benchmarks.run.protocol import TrainingState
from benchmarks.run.seals import (
    SealError,
    check_archive,
    open_arrays,
    open_json,
    read_file,
    seal_arrays,
    seal_json,
    sha256,
)
from benchmarks.run.state import FORMAT, UNSEALED, Checkpoint, Manifest, SittingLog, Sittings
from results.errors import RegistryError, RegistryFileError
from results.files import write_atomically
from results.record import Record, declared_epoch, from_bytes, seal_problems, to_bytes
from results.record.canonical import digest
from results.registry import file_content

NEWEST, PREVIOUS = "checkpoint.npz", "checkpoint-previous.npz"


class RunFolder:
    """One run's folder. `notify` is told, in one line each, what a user should know and what stops nothing."""

    def __init__(self, path: Path, notify: Callable[[str], None] | None = None) -> None:
        self.path = path
        self.notify = notify or _on_standard_error
        # Whether checkpoint.npz is to become the previous one, and the declared epoch of the checkpoint that will be.
        self._newest_is_whole = True
        self._declared_before = 0
        self._lock = RunLock(path, self.name)

    @property
    def name(self) -> str:
        """How a user names the run: "<benchmark>/<folder>"."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def record_path(self) -> Path:
        return self.path / "record.json"

    @property
    def _start_again(self) -> str:
        """The command that starts the run again, as far as its name tells."""
        seed = self.path.name.partition("-s")[2].partition("-")[0] or "1234"
        return f"start it again, with its options: `python cli.py reproduce {self.path.parent.name} --seed {seed}`"

    @classmethod
    def create(cls, root: Path, manifest: Manifest) -> RunFolder:
        """Make the folder of a new run, <root>/<benchmark>/<UTC time>-s<seed>."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        parent = root / manifest.benchmark
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for suffix in ("", *(f"-{n}" for n in range(2, 100))):
                path = parent / f"{stamp}-s{manifest.seed}{suffix}"
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    break
            else:
                raise RunError(f"{parent} has 99 runs named {stamp}-s{manifest.seed} already: repeat the command")
        except OSError as error:
            raise RunError(
                f"cannot make a run folder in {parent}: {error.strerror}; name another with --runs DIR"
            ) from error
        write_atomically(path / "run.json", seal_json(_as_text(manifest)))
        return cls(path)

    # -- run.json ------------------------------------------------------------------------------------------------------

    def manifest(self) -> Manifest:
        """What run.json says.

        Raises:
            RunError: it is not there, damaged, or of a newer version.
        """
        return self._identity[0]

    @functools.cached_property
    def _identity(self) -> tuple[Manifest, str]:
        """The manifest, and the digest by which the run's other files name the run."""
        path = self.path / "run.json"
        try:
            data = read_file(path)
            digest, text = open_json(data)
            manifest = msgspec.json.decode(text, type=Manifest)
        except FileNotFoundError as error:
            raise RunError(f"{self.path} is not a run folder: it has no run.json") from error
        except (SealError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
            raise RunError(f"{path} cannot be read: {error}: restore it, or {self._start_again}") from error
        if manifest.format not in (UNSEALED, FORMAT):
            raise RunError(
                f"{path}: format {manifest.format}, expected {FORMAT}: continue it with the version that started it"
            )
        if (digest is None) != (manifest.format == UNSEALED):
            found = "no seal (sha256)" if digest is None else "a seal (sha256), which that format does not have"
            raise RunError(f"{path} is of format {manifest.format} and has {found}: restore it, or {self._start_again}")
        if digest is None:
            self.notify(f"run {self.name} is not sealed: made before seals existed")
        return manifest, digest or sha256(data)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder for this process; raises RunError if another has it."""
        return self._lock.held()

    def sweep(self) -> None:
        """Remove what a kill in the middle of writing left behind; for whoever holds the lock."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the state after an epoch, whose declared weights are there; keep the checkpoint before it.

        At no time are there more than two: the older one goes before the new one is written.
        """
        self._lock.check()
        progress = checkpoint.progress
        arrays = {f"engine/{name}": value for name, value in checkpoint.engine.items()} | {"order": progress.order}
        if progress.test_correct is not None:
            arrays["test_correct"] = progress.test_correct
        facts = {
            "format": FORMAT,
            "curve": progress.curve,
            "train_seconds": progress.train_seconds,
            "evaluate_seconds": progress.evaluate_seconds,
            "sittings": [msgspec.to_builtins(sitting) for sitting in checkpoint.sittings],
            "peak_memory_mib": checkpoint.peak_memory_mib,
        }
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        if self._newest_is_whole:
            self._keep_as_previous()
        self._write_arrays(NEWEST, NEWEST, arrays)
        self._newest_is_whole = True
        declared = self._declared_epoch(progress)
        self._remove_weights_except(declared, self._declared_before)
        self._declared_before = declared

    def _keep_as_previous(self) -> None:
        newest = self.path / NEWEST
        try:
            if newest.exists():
                os.replace(newest, self.path / PREVIOUS)
        except OSError as error:
            raise RegistryFileError(
                f"{newest}: cannot be renamed: {error.strerror}; free or change that place"
            ) from None

    def load_checkpoint(self) -> Checkpoint | None:
        """The state after the last stored epoch; None before the first.

        The newest checkpoint, or the previous one if the newest or its weights are damaged.

        Raises:
            RunError: neither can be used.
        """
        damage = ""
        for name in (NEWEST, PREVIOUS):
            if not (self.path / name).exists():
                continue
            try:
                checkpoint = self._read_checkpoint(name)
                declared = self._declared_epoch(checkpoint.progress)
                if declared:
                    self._weights(declared, check_archive)
            except SealError as error:
                damage = damage or str(error)
                continue
            if damage:
                self.notify(f"{damage}: the previous checkpoint is taken, after epoch {checkpoint.progress.epoch}")
            self._newest_is_whole = name == NEWEST
            self._declared_before = declared
            return checkpoint
        if damage:
            raise RunError(f"{damage}, and there is no whole previous checkpoint: {self._start_again}")
        return None

    def _read_checkpoint(self, name: str) -> Checkpoint:
        """Raises SealError naming the file."""
        arrays = self._read(name, NEWEST, open_arrays)
        try:
            facts = json.loads(arrays["facts"].tobytes())
            return Checkpoint(
                engine={key.removeprefix("engine/"): v for key, v in arrays.items() if key.startswith("engine/")},
                progress=TrainingState(
                    order=arrays["order"],
                    curve=facts["curve"],
                    test_correct=arrays.get("test_correct"),
                    train_seconds=facts["train_seconds"],
                    evaluate_seconds=facts["evaluate_seconds"],
                ),
                sittings=[msgspec.convert(sitting, SittingLog) for sitting in facts["sittings"]],
                peak_memory_mib=facts["peak_memory_mib"],
            )
        except (ValueError, KeyError, TypeError) as error:  # no checkpoint; only a file without a seal gets here
            raise SealError(f"{self.path / name} is damaged ({error})") from error

    def _declared_epoch(self, progress: TrainingState) -> int:
        return declared_epoch(progress.as_curve(), self.manifest().settings)

    # -- weights -------------------------------------------------------------------------------------------------------

    def save_weights(self, epoch: int, parameters: Mapping[str, np.ndarray]) -> None:
        """Write the parameters of a declared epoch."""
        self._lock.check()
        name = _weights_name(epoch)
        self._write_arrays(name, name, parameters)

    def load_weights(self, epoch: int) -> dict[str, np.ndarray]:
        """The parameters of the declared epoch.

        Raises:
            RunError: they are not there, damaged, or of another run or epoch.
        """
        try:
            parameters: dict[str, np.ndarray] = self._weights(epoch, open_arrays)
        except SealError as error:
            raise RunError(f"{error}: {self._start_again}") from error
        return parameters

    def _weights(self, epoch: int, opener: Callable[..., Any]) -> Any:
        name = _weights_name(epoch)
        return self._read(name, name, opener)

    def _remove_weights_except(self, *epochs: int) -> None:
        """Delete the weights of epochs that are no longer declared."""
        kept = {_weights_name(epoch) for epoch in epochs}
        for path in self.path.glob("weights-epoch-*.npz"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _write_arrays(self, file: str, sealed_as: str, arrays: Mapping[str, np.ndarray]) -> None:
        write_atomically(self.path / file, seal_arrays(arrays, sealed_as, self._identity[1]))

    def _read(self, file: str, sealed_as: str, opener: Callable[..., Any]) -> Any:
        """What `opener` makes of a file, once its seal is checked. Raises SealError naming the file."""
        manifest, run = self._identity
        path = self.path / file
        try:
            return opener(read_file(path), sealed_as, run, unsealed=manifest.format == UNSEALED)
        except FileNotFoundError as error:
            raise SealError(f"{path} is missing") from error
        except (SealError, OSError) as error:
            raise SealError(f"{path} is damaged ({error})") from error

    def save_code(self, diff_sha256: str, archive: bytes) -> None:
        """Keep the code files that differ from the commit, for whoever asks what `diff_sha256` stands for."""
        path = self.path / f"code-{diff_sha256[:16]}.zip"
        if not path.exists():
            write_atomically(path, archive)

    # -- sittings ------------------------------------------------------------------------------------------------------

    def save_sittings(self, sittings: list[SittingLog]) -> None:
        """Write down all sittings of the run."""
        write_atomically(
            self.path / "sittings.json", seal_json(_as_text(Sittings(run=self._identity[1], sittings=sittings)))
        )

    def sittings(self, checkpoint: Checkpoint | None) -> list[SittingLog]:
        """All sittings so far. What epochs each ended is as the checkpoint has it: later ones are trained again.

        Raises:
            RunError: the file is damaged, or of another run.
        """
        stored, epoch = ([], 0) if checkpoint is None else (checkpoint.sittings, checkpoint.progress.epoch)
        launched = self._launched()
        if launched is None:
            if stored and self.manifest().format != UNSEALED:
                self.notify(f"{self.path / 'sittings.json'} is missing: sittings that stored no epoch are not counted")
            return stored
        for known, later in zip(stored, launched, strict=False):
            known.seconds = max(known.seconds, later.seconds)
        without_epoch = launched[len(stored) :]
        for sitting in without_epoch:
            sitting.first_epoch, sitting.last_epoch = epoch + 1, epoch
        return stored + without_epoch

    def _launched(self) -> list[SittingLog] | None:
        path = self.path / "sittings.json"
        try:
            digest, text = open_json(read_file(path))
            if digest is None:
                raise SealError("it has no seal (sha256)")
            found = msgspec.json.decode(text, type=Sittings)
            if found.run != self._identity[1]:
                raise SealError("it is of another run")
        except FileNotFoundError:
            return None
        except (SealError, msgspec.DecodeError, RecursionError, OSError) as error:
            raise RunError(
                f"{path} is damaged ({error}): restore it, or go on without the sittings that stored no epoch:"
                f" `rm {shlex.quote(str(path))}; python cli.py resume {self.name}`"
            ) from error
        return found.sittings

    # -- record --------------------------------------------------------------------------------------------------------

    def save_record(self, record: Record) -> None:
        """Write the record; with it the run is over."""
        self._lock.check()
        write_atomically(self.record_path, to_bytes(record))
        self.tidy(record)

    def tidy(self, record: Record) -> None:
        """Remove what a run that is over needs no more."""
        (self.path / PREVIOUS).unlink(missing_ok=True)
        if record.outcome == "finished" and record.results is not None:  # else the checkpoint may declare another epoch
            self._remove_weights_except(record.results.declared.epoch)

    def record(self) -> Record | None:
        """The record of this run, as it was written; None before the run is over.

        Raises:
            RunError: it is damaged, or of another run.
        """
        mend = f"`rm {shlex.quote(str(self.record_path))}; python cli.py resume {self.name}` writes it again"
        try:
            record = read_sealed_record(self.record_path)
        except RegistryError as error:
            if not self.record_path.exists():
                return None
            raise RunError(f"{error}: {mend}") from error
        manifest = self.manifest()
        found = (record.benchmark, record.seed, record.recipe.digest)
        if found != (manifest.benchmark, manifest.seed, digest(manifest.settings)):
            raise RunError(f"{self.record_path} is of another run: {mend}")
        return record


def read_sealed_record(path: Path) -> Record:
    """The record in a file, once it is known to be, byte by byte, the one that its id names.

    Raises:
        RegistryError: it is not, or cannot be read.
    """
    data = file_content(path)
    record = from_bytes(data, str(path))
    if any(seal_problems(data, record.id, str(path))):
        raise RegistryError(f"{path}: it is not what its id, {record.id}, was given to", "id")
    return record


def _weights_name(epoch: int) -> str:
    return f"weights-epoch-{epoch:04d}.npz"


def _as_text(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"


def _on_standard_error(line: str) -> None:
    print(line, file=sys.stderr)
