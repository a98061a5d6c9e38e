"""What a run folder's files hold: what the run is, its sittings, and where it stands."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from benchmarks.run.protocol import TrainingState

FORMAT = 2  # of run.json and checkpoint.npz; raise it when an older folder cannot be continued
UNSEALED = 1  # the format of the time before seals


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
    """One uninterrupted stretch of the run, as in the record; what is None was not written down by earlier versions."""

    commit: str | None
    dirty: bool
    diff_sha256: str | None
    first_epoch: int
    last_epoch: int
    seconds: float
    started: str
    engine: dict[str, Any] | None = None
    code_sha256: str | None = None
    machine: dict[str, Any] | None = None


class Sittings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """sittings.json: the digest of the run's run.json, and all sittings of the run."""

    run: str
    sittings: list[SittingLog]


class Checkpoint(msgspec.Struct, kw_only=True):
    """Where a run stands: engine state, progress, the sittings so far and the peak memory of them all in MiB."""

    engine: dict[str, np.ndarray]
    progress: TrainingState
    sittings: list[SittingLog]
    peak_memory_mib: float
