"""Preparing a data set once: nothing to do when it is intact, one process at a time, built anew when it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_prep.errors import DamagedDataError, MissingDataError, StorageError, preparing
from data_prep.files import locked, make_folder
from data_prep.progress import Progress
from data_prep.types import Prepared


def prepare_once(
    dataset: str, root: Path, check: Callable[[], Prepared], build: Callable[[], None], progress: Progress
) -> Prepared:
    """Run `build` unless `check` finds the data set under `root` intact; return what `check` gives in the end.

    `build` runs in one process at a time; the others wait, and then find its work done. A data set that is intact is
    found so without writing anything: a data folder that many share may be read-only.

    Raises:
        StorageError: `root` cannot be written.
        DataError: whatever else `build` raises.
    """
    try:
        prepared = check()
    except (MissingDataError, DamagedDataError):
        pass
    else:
        progress.note(f"{dataset} is already prepared and intact: {prepared.path}")
        return prepared
    waiting = f"another process is preparing {dataset} in {root}: waiting for it"
    try:
        make_folder(root)
        with locked(root / f".{dataset}.lock", lambda: progress.note(waiting)):
            return _checked_or_built(dataset, check, build, progress)
    except StorageError as error:
        raise StorageError(f"{error}, then {preparing(dataset)}") from error


def _checked_or_built(
    dataset: str, check: Callable[[], Prepared], build: Callable[[], None], progress: Progress
) -> Prepared:
    try:
        prepared = check()
    except MissingDataError:
        pass
    except DamagedDataError as damage:
        progress.note(f"{damage.reason}; preparing it again")
    else:
        progress.note(f"{dataset} has been prepared by the other process: {prepared.path}")
        return prepared
    build()
    return check()
