"""A run's own folder: what it is (run.json), where it stands (checkpoint), its best weights, its record and pictures.

    run.json                  recipe, seed, engine, data digests: written once, when the run starts
    checkpoint.npz            engine state and progress after the last whole epoch
    weights-epoch-0042.npz    parameters of the declared epoch
    record.json               when the run is over
    learning-curve.png, tensorboard/

Every file is written beside and renamed, so a kill at any moment leaves the last whole epoch. No pickle is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.errors import RunError
from benchmarks.protocol import Progress
from results.files import write_atomically

FORMAT = 1  # of run.json and checkpoint.npz; raise it when an older folder cannot be continued


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run is. `overrides` is {"train.epochs": "--epochs"}; `data` the digest of each split.

    `precision` and `compile` are those of `benchmarks.engine.open_engine`, the latter as it was decided: "on" or "off".
    """

    format: int = FORMAT
    benchmark: str
    settings: dict[str, Any]
    overrides: dict[str, str]
    seed: int
    engine: str
    device: str
    threads: int
    data: dict[str, str]
    precision: str = "float32"
    compile: str = "off"


class SittingLog(msgspec.Struct, kw_only=True):
    """One uninterrupted stretch of the run, as in the record."""

    commit: str | None
    dirty: bool
    diff_sha256: str | None
    first_epoch: int
    last_epoch: int
    seconds: float
    started: str


class Checkpoint(msgspec.Struct, kw_only=True):
    """Where a run stands: engine state, progress, the sittings so far and the peak memory of them all in MiB."""

    engine: dict[str, np.ndarray]
    progress: Progress
    sittings: list[SittingLog]
    peak_memory_mib: float


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """How a user names the run: "<benchmark>/<folder>"."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def record_path(self) -> Path:
        return self.path / "record.json"

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
        except OSError as error:
            raise RunError(
                f"cannot make a run folder in {parent}: {error.strerror}; name another with --runs DIR"
            ) from error
        folder = cls(path)
        write_atomically(path / "run.json", msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        return folder

    def manifest(self) -> Manifest:
        """Read run.json."""
        path = self.path / "run.json"
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        except FileNotFoundError as error:
            raise RunError(f"{self.path} is not a run folder: it has no run.json") from error
        except (msgspec.DecodeError, OSError) as error:
            raise RunError(f"{path} cannot be read: {error}") from error
        if manifest.format != FORMAT:
            raise RunError(
                f"{path}: format {manifest.format}, expected {FORMAT}: continue it with the version that started it"
            )
        return manifest

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process; the lock ends with the process, however it ends."""
        with (self.path / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"run {self.name} is being worked on by another process") from error
            yield

    # -- checkpoint ----------------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the state after an epoch."""
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
        _write_arrays(self.path / "checkpoint.npz", arrays)

    def load_checkpoint(self) -> Checkpoint | None:
        """The state after the last whole epoch; None before the first."""
        path = self.path / "checkpoint.npz"
        if not path.exists():
            return None
        arrays = _read_arrays(path)
        facts = json.loads(arrays["facts"].tobytes())
        return Checkpoint(
            engine={
                name.removeprefix("engine/"): value for name, value in arrays.items() if name.startswith("engine/")
            },
            progress=Progress(
                order=arrays["order"],
                curve=facts["curve"],
                test_correct=arrays.get("test_correct"),
                train_seconds=facts["train_seconds"],
                evaluate_seconds=facts["evaluate_seconds"],
            ),
            sittings=[msgspec.convert(sitting, SittingLog) for sitting in facts["sittings"]],
            peak_memory_mib=facts["peak_memory_mib"],
        )

    # -- weights -------------------------------------------------------------------------------------------------------

    def save_weights(self, epoch: int, parameters: Mapping[str, np.ndarray]) -> None:
        """Write the parameters of a declared epoch."""
        _write_arrays(self._weights_path(epoch), parameters)

    def load_weights(self, epoch: int) -> dict[str, np.ndarray]:
        """The parameters of the declared epoch."""
        path = self._weights_path(epoch)
        if not path.exists():
            raise RunError(f"run {self.name} has no weights of epoch {epoch} ({path.name})")
        return _read_arrays(path)

    def remove_weights_except(self, epoch: int) -> None:
        """Delete the weights of epochs that are no longer declared."""
        for path in self.path.glob("weights-epoch-*.npz"):
            if path != self._weights_path(epoch):
                path.unlink(missing_ok=True)

    def _weights_path(self, epoch: int) -> Path:
        return self.path / f"weights-epoch-{epoch:04d}.npz"


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
    matches = [path for path in runs if path.name.startswith(text)] or [p for p in runs if p.parent.name == text]
    if len(matches) == 1:
        return RunFolder(matches[0])
    if not matches:
        raise RunError(
            f"no run {text!r} in {root}: expected a run's folder or name; `python cli.py reproduce ID` starts one"
        )
    names = ", ".join(RunFolder(path).name for path in matches[-5:])
    raise RunError(f"{len(matches)} runs fit {text!r}: name one of {names}")


def weights_digest(parameters: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hexadecimal) over name, shape and little-endian float32 bytes of every parameter, sorted by name."""
    sha = hashlib.sha256()
    for name in sorted(parameters):
        value = np.ascontiguousarray(parameters[name], "<f4")
        sha.update(f"{name} {value.shape}\n".encode())
        sha.update(value.data)
    return sha.hexdigest()


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getbuffer())


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise RunError(f"{path} is damaged ({error}): start the run again with `python cli.py reproduce`") from error
